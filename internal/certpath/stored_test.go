package certpath_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/pkitest"
)

// listAt is the citizen CA's list as it was at a time, as stored evidence.
func listAt(t *testing.T, h *pkitest.Hierarchy, at time.Time) certpath.StoredEvidence {
	t.Helper()
	der, err := h.CRL(at)
	if err != nil {
		t.Fatal(err)
	}
	return certpath.StoredEvidence{Source: certpath.SourceCRL, Raw: der}
}

func rootListAt(t *testing.T, h *pkitest.Hierarchy, at time.Time) certpath.StoredEvidence {
	t.Helper()
	der, err := h.RootCRL(at)
	if err != nil {
		t.Fatal(err)
	}
	return certpath.StoredEvidence{Source: certpath.SourceCRL, Raw: der}
}

// ocspAt is an OCSP answer about a certificate as of a time.
func ocspAt(t *testing.T, h *pkitest.Hierarchy, cert *x509.Certificate, at time.Time) certpath.StoredEvidence {
	t.Helper()
	id, err := certpath.NewCertID(cert, h.CA, 5) // SHA-256
	if err != nil {
		t.Fatal(err)
	}
	q, err := (&certpath.OCSPRequest{IDs: []certpath.CertID{id}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	der, err := h.OCSP(q, at)
	if err != nil {
		t.Fatal(err)
	}
	return certpath.StoredEvidence{Source: certpath.SourceOCSP, Raw: der}
}

// Old signatures: the status at a time, from answers kept then or later.
func TestStoredEvidenceSettlesThePast(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	stranger := hierarchy()
	v := &certpath.Validator{Store: store(t, []*x509.Certificate{h.Root}, h.CA)}
	now := time.Now().Truncate(time.Second)
	at := now.AddDate(0, 0, -100)
	root := rootListAt(t, h, at.Add(-time.Hour))
	good := card(t, h, pkitest.CitizenOptions{KeyType: pkitest.P256}).Certificate
	ended := card(t, h, pkitest.CitizenOptions{KeyType: pkitest.P256, NotBefore: now.AddDate(-2, 0, 0), NotAfter: now.AddDate(0, 0, -50)}).Certificate
	later := card(t, h, pkitest.CitizenOptions{KeyType: pkitest.P256}).Certificate
	h.Revoke(later, at.AddDate(0, 0, 10), pkitest.ReasonKeyCompromise)
	before := card(t, h, pkitest.CitizenOptions{KeyType: pkitest.P256}).Certificate
	h.Revoke(before, at.AddDate(0, 0, -10), pkitest.ReasonKeyCompromise)
	day := 24 * time.Hour
	type ev = []certpath.StoredEvidence
	for name, tc := range map[string]struct {
		cert *x509.Certificate
		ev   ev
		want string
	}{
		"list current at the time":                   {good, ev{listAt(t, h, at.Add(-time.Hour))}, ""},
		"answer current at the time":                 {good, ev{ocspAt(t, h, good, at.Add(-time.Minute))}, ""},
		"list of a later time":                       {good, ev{listAt(t, h, at.Add(30*day))}, ""},
		"answer of a later time":                     {good, ev{ocspAt(t, h, good, at.Add(30*day))}, ""},
		"list that had run out":                      {good, ev{listAt(t, h, at.Add(-2*day))}, "cert_status_unknown"},
		"answer that had run out":                    {good, ev{ocspAt(t, h, good, at.Add(-2*time.Hour))}, "cert_status_unknown"},
		"nothing":                                    {good, nil, "cert_status_unknown"},
		"list of a time to come":                     {good, ev{listAt(t, h, now.Add(day))}, "cert_status_unknown"},
		"answer about another certificate":           {good, ev{ocspAt(t, h, ended, at)}, "cert_status_unknown"},
		"list of a CA of the same name":              {good, ev{listAt(t, stranger, at)}, "cert_status_unknown"},
		"answer of a CA of the same name":            {good, ev{ocspAt(t, stranger, good, at)}, "cert_status_unknown"},
		"nonsense beside the right list":             {good, ev{{Source: "crl", Raw: []byte("x")}, {Source: "ocsp", Raw: []byte{0x30, 0}}, {Source: "?"}, listAt(t, h, at)}, ""},
		"expired since, list of then":                {ended, ev{listAt(t, h, at)}, ""},
		"expired since, list from before its end":    {ended, ev{listAt(t, h, at.Add(40*day))}, ""},
		"expired since, list from after its end":     {ended, ev{listAt(t, h, at.Add(60*day))}, "cert_status_unknown"},
		"revoked later, list of then":                {later, ev{listAt(t, h, at)}, ""},
		"revoked later, list of after":               {later, ev{listAt(t, h, at.Add(20*day))}, ""},
		"revoked before":                             {before, ev{listAt(t, h, at)}, "cert_revoked"},
		"revoked before, by a later answer":          {before, ev{ocspAt(t, h, before, at.Add(30*day))}, "cert_revoked"},
		"revoked before, an older list says nothing": {before, ev{listAt(t, h, at.AddDate(0, 0, -20)), listAt(t, h, at)}, "cert_revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := v.ValidateWith(context.Background(), tc.cert, nil, at, certpath.CitizenProfile(), append(tc.ev, root))
			wantCode(t, name, err, tc.want)
			if err == nil && (len(r.Revocation) != 2 || r.Revocation[0].Certificate != tc.cert || len(r.Revocation[0].Raw) == 0) {
				t.Errorf("evidence: %+v", r.Revocation)
			}
			if err == nil && tc.cert == later && len(tc.ev) == 1 && r.Revocation[0].ThisUpdate.After(at.AddDate(0, 0, 15)) && r.Revocation[0].Status != certpath.StatusRevoked {
				t.Error("the later revocation must be reported")
			}
		})
	}
}

// The CA needs its own evidence (RevocationPath), and its revocation is noticed.
func TestStoredEvidenceOfTheCA(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	v := &certpath.Validator{Store: store(t, []*x509.Certificate{h.Root}, h.CA)}
	at := time.Now().AddDate(0, 0, -30)
	leaf := card(t, h, pkitest.CitizenOptions{KeyType: pkitest.P256}).Certificate
	own := listAt(t, h, at)
	check := func(what, want string, ev ...certpath.StoredEvidence) {
		t.Helper()
		_, err := v.ValidateWith(context.Background(), leaf, nil, at, certpath.CitizenProfile(), ev)
		wantCode(t, what, err, want)
	}
	check("control", "", own, rootListAt(t, h, at))
	check("no list of the root", "cert_status_unknown", own)
	h.Revoke(h.CA, at.AddDate(0, 0, -1), 2)
	check("CA revoked", "cert_revoked", own, rootListAt(t, h, at))
}

// An answer's signer is judged at the time of the answer, not of today.
func TestStoredResponderIsJudgedThen(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	v := &certpath.Validator{Store: store(t, []*x509.Certificate{h.Root}, h.CA)}
	at := time.Now().AddDate(0, 0, -30)
	leaf := card(t, h, pkitest.CitizenOptions{KeyType: pkitest.P256}).Certificate
	for name, tc := range map[string]struct {
		from, to time.Time
		want     string
	}{
		"valid then, ended since": {at.AddDate(0, 0, -5), at.AddDate(0, 0, 5), ""},
		"ended by then":           {at.AddDate(0, 0, -9), at.AddDate(0, 0, -5), "cert_status_unknown"},
	} {
		cert, key := responderCert(t, h, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = tc.from, tc.to })
		h.SetFaults(pkitest.ResponderFaults{SignWith: cert, SignWithKey: key})
		answer := ocspAt(t, h, leaf, at.Add(-time.Minute))
		h.SetFaults(pkitest.ResponderFaults{})
		_, err := v.ValidateWith(context.Background(), leaf, nil, at, certpath.CitizenProfile(), []certpath.StoredEvidence{answer, rootListAt(t, h, at)})
		wantCode(t, name, err, tc.want)
	}
}

func TestStoredEvidenceIsBounded(t *testing.T) {
	h := hierarchy()
	v := &certpath.Validator{Store: store(t, []*x509.Certificate{h.Root}, h.CA)}
	leaf := card(t, h, pkitest.CitizenOptions{KeyType: pkitest.P256}).Certificate
	_, err := v.ValidateWith(context.Background(), leaf, nil, time.Now(), certpath.CitizenProfile(), make([]certpath.StoredEvidence, 65))
	wantCode(t, "too many", err, "cert_malformed")
	_, err = v.ValidateWith(context.Background(), leaf, nil, time.Now(), certpath.CitizenProfile(), []certpath.StoredEvidence{{Source: "crl", Raw: make([]byte, 65<<20)}})
	wantCode(t, "too large", err, "cert_malformed")
}

// twoHouses are two anchors; below each a CA of the same name.
func twoHouses(t *testing.T) (roots, cas [2]*pkitest.Authority) {
	t.Helper()
	for i := range roots {
		roots[i] = must[*pkitest.Authority](t)(pkitest.NewRoot(named(string(rune('A' + i)))))
		cas[i] = must[*pkitest.Authority](t)(roots[i].CA(named("ca")))
	}
	return roots, cas
}

func listBy(t *testing.T, a *pkitest.Authority, l pkitest.List) certpath.StoredEvidence {
	t.Helper()
	l.ThisUpdate, l.NextUpdate = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	if l.Number == nil {
		l.Number = big.NewInt(1)
	}
	return certpath.StoredEvidence{Source: certpath.SourceCRL, Raw: must[[]byte](t)(l.Sign(a.Certificate, a.Key))}
}

// Another key of the CA's name may sign its list only if its own path ends at the
// same anchor (RFC 5280 §6.3.3 (f)).
func TestListSignerMustLeadToTheSameAnchor(t *testing.T) {
	roots, cas := twoHouses(t)
	cousin := must[*pkitest.Authority](t)(roots[0].CA(named("ca"))) // the CA's other key
	leaf := must[*pkitest.Authority](t)(cas[0].Issue(named("leaf")))
	v := &certpath.Validator{Store: store(t, []*x509.Certificate{roots[0].Certificate, roots[1].Certificate}, cas[0].Certificate, cas[1].Certificate, cousin.Certificate)}
	p := plain()
	p.Revocation = certpath.RevocationAll
	for name, tc := range map[string]struct {
		signer *pkitest.Authority
		want   string
	}{
		"the CA":                      {cas[0], ""},
		"its other key":               {cousin, ""},
		"its name in the other house": {cas[1], "cert_status_unknown"},
	} {
		evidence := []certpath.StoredEvidence{listBy(t, roots[0], pkitest.List{}), listBy(t, roots[1], pkitest.List{}), listBy(t, tc.signer, pkitest.List{})}
		_, err := v.ValidateWith(context.Background(), leaf.Certificate, nil, time.Now(), p, evidence)
		wantCode(t, name, err, tc.want)
	}
}

// A delta counts only for a complete list that it continues (RFC 5280 §5.2.4).
func TestDeltaContinuesACompleteList(t *testing.T) {
	roots, cas := twoHouses(t)
	leaf := must[*pkitest.Authority](t)(cas[0].Issue(named("leaf")))
	v := &certpath.Validator{Store: store(t, []*x509.Certificate{roots[0].Certificate}, cas[0].Certificate)}
	p := plain()
	p.Revocation = certpath.RevocationAll
	delta := func(base byte, number int64) certpath.StoredEvidence {
		tpl := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour),
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: leaf.Certificate.SerialNumber, RevocationTime: time.Now().Add(-time.Hour)}},
			ExtraExtensions:           []pkix.Extension{deltaOf(base)}}
		return certpath.StoredEvidence{Source: certpath.SourceCRL, Raw: must[[]byte](t)(x509.CreateRevocationList(rand.Reader, tpl, cas[0].Certificate, cas[0].Key))}
	}
	complete := listBy(t, cas[0], pkitest.List{Number: big.NewInt(5)})
	for name, tc := range map[string]struct {
		delta certpath.StoredEvidence
		want  string
	}{
		"continues it":           {delta(5, 6), "cert_revoked"},
		"continues an older one": {delta(3, 6), "cert_revoked"},
		"continues a newer one":  {delta(6, 7), ""}, // a gap lies between: of no use
		"is older":               {delta(3, 4), ""},
	} {
		_, err := v.ValidateWith(context.Background(), leaf.Certificate, nil, time.Now(), p, []certpath.StoredEvidence{listBy(t, roots[0], pkitest.List{}), complete, tc.delta})
		wantCode(t, name, err, tc.want)
	}
}

// Lists signed by many keys of the CA's name, none of which leads anywhere, cost
// a bounded number of signature checks.
func TestUselessEvidenceIsBounded(t *testing.T) {
	root := must[*pkitest.Authority](t)(pkitest.NewRoot(named("root")))
	ca := must[*pkitest.Authority](t)(root.CA(named("ca")))
	leaf := must[*pkitest.Authority](t)(ca.Issue(named("leaf")))
	now := time.Now()
	var extra []*x509.Certificate
	var evidence []certpath.StoredEvidence
	for range 60 {
		twin := must[*pkitest.Authority](t)(pkitest.NewRoot(named("ca")))
		extra = append(extra, twin.Certificate)
		der := must[[]byte](t)(pkitest.List{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour)}.Sign(twin.Certificate, twin.Key))
		evidence = append(evidence, certpath.StoredEvidence{Source: certpath.SourceCRL, Raw: der})
	}
	v := &certpath.Validator{Store: store(t, []*x509.Certificate{root.Certificate}, ca.Certificate)}
	p := plain()
	p.Revocation = certpath.RevocationAll
	begin := time.Now()
	_, err := v.ValidateWith(context.Background(), leaf.Certificate, extra, now, p, evidence)
	wantCode(t, "strangers' lists", err, "cert_status_unknown")
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	own := must[[]byte](t)(pkitest.List{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour)}.Sign(ca.Certificate, ca.Key))
	roots := must[[]byte](t)(pkitest.List{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour)}.Sign(root.Certificate, root.Key))
	evidence = []certpath.StoredEvidence{{Source: certpath.SourceCRL, Raw: own}, {Source: certpath.SourceCRL, Raw: roots}}
	_, err = v.ValidateWith(context.Background(), leaf.Certificate, nil, now, p, evidence)
	wantCode(t, "control", err, "")
}

// An operator's allowance: for one purpose, until a date, recorded at each use,
// never for what is revoked.
func TestAllowanceForUnknownStatus(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	good := card(t, h, pkitest.CitizenOptions{KeyType: pkitest.P256})
	revoked := card(t, h, pkitest.CitizenOptions{KeyType: pkitest.P256, Revoked: true})
	clk := &clock{t: time.Now()}
	var uses []certpath.Allowed
	var recordFails error
	cfg := certpath.CheckerConfig{
		Now:          clk.now,
		AllowUnknown: map[string]certpath.Allowance{"citizen": {Until: clk.now().Add(time.Hour), Reason: "OCSP outage of the CA"}},
		RecordAllowed: func(_ context.Context, u certpath.Allowed) error {
			uses = append(uses, u)
			return recordFails
		},
	}
	ck := checker(t, cfg, nil)
	v := &certpath.Validator{Store: store(t, []*x509.Certificate{h.Root}, h.CA), Checker: ck}
	run := func(c *pkitest.Card, p certpath.Profile) (*certpath.Result, error) {
		return v.Validate(context.Background(), c.Certificate, nil, clk.now(), p)
	}
	citizen := certpath.CitizenProfile()
	_, err := run(good, citizen)
	wantCode(t, "sources up", err, "")
	_, err = run(revoked, citizen)
	wantCode(t, "revoked, sources up", err, "cert_revoked")
	if len(uses) != 0 {
		t.Errorf("recorded without need: %v", uses)
	}
	h.SetFaults(pkitest.ResponderFaults{OCSPDown: true, CRLDown: true})
	fresh := card(t, h, pkitest.CitizenOptions{KeyType: pkitest.P256, NoCRL: true})
	r, err := run(fresh, citizen)
	wantCode(t, "sources down, allowed", err, "")
	if r == nil || len(r.Allowed) == 0 || len(uses) != len(r.Allowed) || uses[0].Profile != "citizen" || uses[0].Allowance.Reason == "" || uses[0].Cause == nil || uses[0].Certificate != fresh.Certificate {
		t.Errorf("not recorded: %+v %+v", r, uses)
	}
	clk.add(20 * time.Minute) // the remembered answer is no longer fresh
	_, err = run(revoked, citizen)
	wantCode(t, "seen revoked before, sources down", err, "cert_revoked")
	signing := certpath.SigningProfile()
	_, err = run(fresh, signing)
	wantCode(t, "another purpose", err, "cert_status_unknown")
	_, err = v.Validate(context.Background(), fresh.Certificate, nil, clk.now().Add(time.Hour), citizen)
	wantCode(t, "a time to come", err, "cert_status_unknown")
	recordFails = errors.New("the audit log is full")
	_, err = run(fresh, citizen)
	wantCode(t, "cannot be recorded", err, "cert_status_unknown")
	recordFails = nil
	clk.add(time.Hour)
	_, err = run(fresh, citizen)
	wantCode(t, "allowance over", err, "cert_status_unknown")
}

func TestAllowanceNeedsEndReasonAndRecord(t *testing.T) {
	record := func(context.Context, certpath.Allowed) error { return nil }
	good := certpath.Allowance{Until: time.Now().Add(time.Hour), Reason: "x"}
	for name, tc := range map[string]struct {
		cfg certpath.CheckerConfig
		ok  bool
	}{
		"control":      {certpath.CheckerConfig{AllowUnknown: map[string]certpath.Allowance{"citizen": good}, RecordAllowed: record}, true},
		"no record":    {certpath.CheckerConfig{AllowUnknown: map[string]certpath.Allowance{"citizen": good}}, false},
		"no reason":    {certpath.CheckerConfig{AllowUnknown: map[string]certpath.Allowance{"citizen": {Until: good.Until}}, RecordAllowed: record}, false},
		"no end":       {certpath.CheckerConfig{AllowUnknown: map[string]certpath.Allowance{"citizen": {Reason: "x"}}, RecordAllowed: record}, false},
		"no purpose":   {certpath.CheckerConfig{AllowUnknown: map[string]certpath.Allowance{"": good}, RecordAllowed: record}, false},
		"half a year":  {certpath.CheckerConfig{AllowUnknown: map[string]certpath.Allowance{"citizen": {Until: time.Now().AddDate(0, 6, 0), Reason: "x"}}, RecordAllowed: record}, false},
		"no allowance": {certpath.CheckerConfig{}, true},
	} {
		tc.cfg.Fetch = newWeb().fetcher()
		if _, err := certpath.NewChecker(tc.cfg); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What was seen to be revoked for good stays so when every source falls silent;
// a hold does not.
func TestRevocationSeenIsNotForgotten(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	for name, o := range map[string]pkitest.CitizenOptions{"by OCSP": {NoCRL: true, KeyType: pkitest.P256}, "by list": {NoOCSP: true, KeyType: pkitest.P256}} {
		for reason, want := range map[int]string{pkitest.ReasonSuperseded: "cert_revoked", pkitest.ReasonCertificateHold: "cert_status_unknown"} {
			clk := &clock{t: time.Now()}
			c := checker(t, certpath.CheckerConfig{Now: clk.now}, nil)
			crd := card(t, h, o)
			h.Revoke(crd.Certificate, clk.now().Add(-time.Hour), reason)
			_, err := c.Check(context.Background(), crd.Certificate, h.CA, clk.now())
			wantCode(t, name, err, "cert_revoked")
			h.SetFaults(pkitest.ResponderFaults{OCSPDown: true, CRLDown: true})
			clk.add(72 * time.Hour)
			_, err = c.Check(context.Background(), crd.Certificate, h.CA, clk.now())
			wantCode(t, name+", then silence", err, want)
			h.SetFaults(pkitest.ResponderFaults{})
		}
	}
}
