package certpath_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/pkitest"
)

// plain is a profile that asks for nothing but the path itself.
func plain() certpath.Profile {
	return certpath.Profile{Name: "test", Revocation: certpath.RevocationNone, MaxPath: 10}
}

func named(cn string) x509.Certificate { return x509.Certificate{Subject: pkix.Name{CommonName: cn}} }

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantRule checks the broken rule; "" wants success.
func wantRule(t *testing.T, what string, err error, rule certpath.Rule) {
	t.Helper()
	var v *certpath.Violation
	switch {
	case rule == "" && err == nil:
	case rule == "" || !errors.As(err, &v) || v.Rule != rule:
		t.Errorf("%s: %v, want rule %q", what, err, rule)
	}
}

// der builds DER by hand: a tag, and what it holds.
func der(tag byte, parts ...[]byte) []byte {
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	if len(body) > 127 {
		return append([]byte{tag, 0x81, byte(len(body))}, body...)
	}
	return append([]byte{tag, byte(len(body))}, body...)
}

// constraint is a name constraints extension with one subtree: kind 0xa0 permits, 0xa1 excludes.
func constraint(kind byte, base []byte, more ...byte) pkix.Extension {
	subtree := der(0x30, base, more)
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true, Value: der(0x30, der(kind, subtree))}
}

func altName(name []byte) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der(0x30, name)}
}

// Kinds of names that the PKITS suite leaves out, and what cannot be honoured.
func TestNameConstraintKinds(t *testing.T) {
	const permit, exclude = 0xa0, 0xa1
	ip := func(b ...byte) []byte { return der(0x87, b) }
	text := func(tag byte, s string) []byte { return der(tag, []byte(s)) }
	other := der(0xa0, []byte{6, 3, 42, 3, 4}, der(0xa0, []byte{5, 0}))
	for name, tc := range map[string]struct {
		nc   pkix.Extension
		name []byte
		rule certpath.Rule
	}{
		"address inside":             {constraint(permit, ip(10, 0, 0, 0, 255, 0, 0, 0)), ip(10, 1, 2, 3), ""},
		"address outside":            {constraint(permit, ip(10, 0, 0, 0, 255, 0, 0, 0)), ip(11, 1, 2, 3), certpath.RuleNameConstraints},
		"address excluded":           {constraint(exclude, ip(10, 0, 0, 0, 255, 0, 0, 0)), ip(10, 1, 2, 3), certpath.RuleNameConstraints},
		"host below":                 {constraint(permit, text(0x82, "gov.example")), text(0x82, "A.gov.example"), ""},
		"host that only ends so":     {constraint(permit, text(0x82, "gov.example")), text(0x82, "xgov.example"), certpath.RuleNameConstraints},
		"mailbox":                    {constraint(permit, text(0x81, "a@gov.example")), text(0x81, "a@GOV.example"), ""},
		"another mailbox":            {constraint(permit, text(0x81, "a@gov.example")), text(0x81, "b@gov.example"), certpath.RuleNameConstraints},
		"malformed mailbox":          {constraint(exclude, text(0x81, "gov.example")), text(0x81, "nobody"), certpath.RuleNameConstraints},
		"URI host":                   {constraint(permit, text(0x86, ".gov.example")), text(0x86, "https://a.gov.example/x"), ""},
		"URI, host itself":           {constraint(permit, text(0x86, ".gov.example")), text(0x86, "https://gov.example/x"), certpath.RuleNameConstraints},
		"URI with an address":        {constraint(exclude, text(0x86, ".gov.example")), text(0x86, "https://10.0.0.1/x"), certpath.RuleNameConstraints},
		"another kind of name":       {constraint(permit, text(0x82, "gov.example")), ip(10, 1, 2, 3), ""},
		"kind not understood":        {constraint(exclude, other), other, certpath.RuleNameConstraints},
		"kind not understood, alone": {constraint(exclude, other), text(0x82, "a.example"), ""},
		"minimum":                    {constraint(permit, text(0x82, "gov.example"), 0x80, 1, 1), text(0x82, "a.gov.example"), certpath.RuleForm},
		"maximum":                    {constraint(permit, text(0x82, "gov.example"), 0x81, 1, 9), text(0x82, "a.gov.example"), certpath.RuleForm},
	} {
		root := must[*pkitest.Authority](t)(pkitest.NewRoot(named("root")))
		tpl := named("ca")
		tpl.ExtraExtensions = []pkix.Extension{tc.nc}
		ca, err := root.CA(tpl)
		if err != nil {
			t.Logf("%s: crypto/x509 refuses to read it: %v", name, err)
			if tc.rule == "" {
				t.Error(name)
			}
			continue
		}
		leafTpl := named("leaf")
		leafTpl.ExtraExtensions = []pkix.Extension{altName(tc.name)}
		leaf, err := ca.Issue(leafTpl)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v := certpath.Validator{Store: store(t, []*x509.Certificate{root.Certificate})}
		_, err = v.Validate(context.Background(), leaf.Certificate, []*x509.Certificate{ca.Certificate}, time.Now(), plain())
		if tc.rule == certpath.RuleForm { // a CA that cannot be read leads nowhere
			wantCode(t, name, err, "cert_untrusted")
			continue
		}
		wantRule(t, name, err, tc.rule)
	}
}

// What an anchor's certificate says against itself counts (RFC 5937).
func TestAnchorsOwnLimitsCount(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*x509.Certificate)
		rule   certpath.Rule
	}{
		"none":        {func(*x509.Certificate) {}, ""},
		"path length": {func(c *x509.Certificate) { c.MaxPathLenZero = true }, certpath.RulePathLength},
		"names": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{constraint(0xa1, der(0x82, []byte("example")))}
		}, certpath.RuleNameConstraints},
		"validity": {func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().AddDate(-2, 0, 0), time.Now().AddDate(-1, 0, 0)
		}, certpath.RuleValidity},
	} {
		tpl := named("root")
		tc.change(&tpl)
		root := must[*pkitest.Authority](t)(pkitest.NewRoot(tpl))
		ca := must[*pkitest.Authority](t)(root.CA(named("ca")))
		leafTpl := named("leaf")
		leafTpl.DNSNames = []string{"a.example"}
		leaf := must[*pkitest.Authority](t)(ca.Issue(leafTpl))
		v := certpath.Validator{Store: store(t, []*x509.Certificate{root.Certificate}, ca.Certificate)}
		_, err := v.Validate(context.Background(), leaf.Certificate, nil, time.Now(), plain())
		wantRule(t, name, err, tc.rule)
	}
}

// MOICA's three generations: one name, three keys, three times of validity. Each
// certificate is judged by its own generation, at its own time.
func TestThreeGenerationsOfOneName(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	years := func(n int) time.Time { return now.AddDate(n, 0, 0) }
	unit := pkix.Name{Country: []string{"TW"}, Organization: []string{"行政院"}, OrganizationalUnit: []string{"(測試用) 內政部憑證管理中心"}}
	life := [][2]time.Time{{years(-20), years(-3)}, {years(-11), years(8)}, {years(-2), years(18)}}
	var anchors []*x509.Certificate
	var leafs []*x509.Certificate
	for _, l := range life {
		g := must[*pkitest.Authority](t)(pkitest.NewRoot(x509.Certificate{Subject: unit, NotBefore: l[0], NotAfter: l[1]}))
		leaf := named("leaf")
		leaf.NotBefore, leaf.NotAfter = l[0].AddDate(1, 0, 0), l[1]
		anchors = append(anchors, g.Certificate)
		leafs = append(leafs, must[*pkitest.Authority](t)(g.Issue(leaf)).Certificate)
	}
	v := certpath.Validator{Store: store(t, anchors)}
	for i, leaf := range leafs {
		for what, at := range map[string]time.Time{"now": now, "five years ago": years(-5)} {
			r, err := v.Validate(context.Background(), leaf, nil, at, plain())
			lives := !at.Before(leaf.NotBefore) && !at.After(leaf.NotAfter)
			if (err == nil) != lives || err == nil && !r.Anchor.Equal(anchors[i]) {
				t.Errorf("generation %d, %s: %v, lives %v", i+1, what, err, lives)
			}
		}
	}
	_, err := v.Validate(context.Background(), leafs[0], nil, now, plain())
	wantCode(t, "generation 1 has ended", err, "cert_expired")
	alone := certpath.Validator{Store: store(t, anchors[:2])}
	_, err = alone.Validate(context.Background(), leafs[2], nil, now, plain())
	wantCode(t, "generation 3 under the keys of 1 and 2", err, "cert_untrusted")
}

// A name is the same in another encoding (RFC 5280 §7.1).
func TestNamesCompareByMeaning(t *testing.T) {
	utf8 := func(s string) []byte { return der(12, []byte(s)) }
	bmp := func(s string) []byte {
		var b []byte
		for _, r := range s {
			b = append(b, byte(r>>8), byte(r))
		}
		return der(30, b)
	}
	rdn := func(value []byte) []byte { return der(0x30, der(0x31, der(0x30, []byte{6, 3, 85, 4, 3}, value))) }
	for name, tc := range map[string]struct {
		subject, issuer []byte
		same            bool
	}{
		"same bytes":              {utf8("內政部 CA"), utf8("內政部 CA"), true},
		"case and space":          {utf8("內政部 CA"), utf8(" 內政部   ca "), true},
		"BMPString":               {utf8("內政部 CA"), bmp("內政部 CA"), true},
		"full width letters":      {utf8("CA1"), utf8("ＣＡ１"), true},
		"another name":            {utf8("內政部 CA"), utf8("內政部 CB"), false},
		"missing space":           {utf8("內政部 CA"), utf8("內政部CA"), false},
		"a string we cannot read": {utf8("x"), der(20, []byte("x")), false},
	} {
		root := must[*pkitest.Authority](t)(pkitest.NewRoot(x509.Certificate{RawSubject: rdn(tc.subject)}))
		asIssuer := *root.Certificate
		asIssuer.RawSubject = rdn(tc.issuer)
		under := pkitest.Authority{Certificate: &asIssuer, Key: root.Key}
		leaf := must[*pkitest.Authority](t)(under.Issue(named("leaf")))
		v := certpath.Validator{Store: store(t, []*x509.Certificate{root.Certificate})}
		_, err := v.Validate(context.Background(), leaf.Certificate, nil, time.Now(), plain())
		if (err == nil) != tc.same {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Eight CAs that all certify each other: the search ends soon, with or
// without a way out.
func TestMeshOfCrossCertificatesIsBounded(t *testing.T) {
	const n = 8
	root := must[*pkitest.Authority](t)(pkitest.NewRoot(named("root")))
	var cas []*pkitest.Authority
	for i := range n {
		cas = append(cas, must[*pkitest.Authority](t)(pkitest.NewRoot(named(fmt.Sprintf("ca %d", i)))))
	}
	var mesh []*x509.Certificate
	for i, a := range cas {
		for j, b := range cas {
			if i != j {
				mesh = append(mesh, must[*x509.Certificate](t)(a.Certify(x509.Certificate{Subject: b.Certificate.Subject, IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign}, b.Key.Public())))
			}
		}
	}
	leaf := must[*pkitest.Authority](t)(cas[0].Issue(named("leaf")))
	v := certpath.Validator{Store: store(t, []*x509.Certificate{root.Certificate})}
	begin := time.Now()
	_, err := v.Validate(context.Background(), leaf.Certificate, mesh, time.Now(), plain())
	wantRule(t, "no way out", err, certpath.RulePath)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	out := must[*x509.Certificate](t)(root.Certify(x509.Certificate{Subject: cas[0].Certificate.Subject, IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign}, cas[0].Key.Public()))
	_, err = v.Validate(context.Background(), leaf.Certificate, append([]*x509.Certificate{out}, mesh...), time.Now(), plain())
	wantRule(t, "a way out", err, "")
}

// Forty policies, each mapped to all others at each level: RFC 5280's tree would
// have more nodes than a computer has memory; the graph of RFC 9618 has forty a level.
func TestPolicyGraphDoesNotExplode(t *testing.T) {
	const n = 40
	oid := func(i int) x509.OID {
		o, err := x509.OIDFromInts([]uint64{2, 999, uint64(i)})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	type mapping struct{ Issuer, Subject asn1.ObjectIdentifier }
	var mappings []mapping
	for i := range n {
		for j := range n {
			mappings = append(mappings, mapping{asn1.ObjectIdentifier{2, 999, i}, asn1.ObjectIdentifier{2, 999, j}})
		}
	}
	value := must[[]byte](t)(asn1.Marshal(mappings))
	ca := func(cn string) x509.Certificate {
		c := named(cn)
		for i := range n {
			c.Policies = append(c.Policies, oid(i))
		}
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 33}, Critical: true, Value: value}}
		return c
	}
	above := must[*pkitest.Authority](t)(pkitest.NewRoot(named("root")))
	s := []*x509.Certificate{above.Certificate}
	var extra []*x509.Certificate
	for i := range 7 {
		above = must[*pkitest.Authority](t)(above.CA(ca(fmt.Sprintf("ca %d", i))))
		if len(above.Certificate.Policies) != n || len(above.Certificate.PolicyMappings) != n*n {
			t.Fatal("the CA is not what the test needs")
		}
		extra = append(extra, above.Certificate)
	}
	leafTpl := named("leaf")
	leafTpl.Policies = []x509.OID{oid(7)}
	leaf := must[*pkitest.Authority](t)(above.Issue(leafTpl))
	p := plain()
	p.AllowPolicyMapping, p.ExplicitPolicy = true, true
	v := certpath.Validator{Store: store(t, s)}
	begin := time.Now()
	r, err := v.Validate(context.Background(), leaf.Certificate, extra, time.Now(), p)
	if took := time.Since(begin); err != nil || len(r.Policies) == 0 || took > 2*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

// A CA that asserts anyPolicy alone may map one policy to another (RFC 5280
// §6.1.4 (b)(1), second case).
func TestMappingUnderAnyPolicy(t *testing.T) {
	oid := func(i uint64) x509.OID { return must[x509.OID](t)(x509.OIDFromInts([]uint64{2, 999, i})) }
	anyOID := must[x509.OID](t)(x509.OIDFromInts([]uint64{2, 5, 29, 32, 0}))
	type mapping struct{ Issuer, Subject asn1.ObjectIdentifier }
	value := must[[]byte](t)(asn1.Marshal([]mapping{{asn1.ObjectIdentifier{2, 999, 1}, asn1.ObjectIdentifier{2, 999, 2}}}))
	root := must[*pkitest.Authority](t)(pkitest.NewRoot(named("root")))
	tpl := named("ca")
	tpl.Policies = []x509.OID{anyOID}
	tpl.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 33}, Critical: true, Value: value}}
	ca := must[*pkitest.Authority](t)(root.CA(tpl))
	v := certpath.Validator{Store: store(t, []*x509.Certificate{root.Certificate}, ca.Certificate)}
	for name, tc := range map[string]struct {
		leaf    uint64
		allowed bool
		rule    certpath.Rule
	}{
		"the mapped policy":    {2, true, ""},
		"the policy itself":    {1, true, ""}, // by anyPolicy, §6.1.3 (d)(1)(ii)
		"another one":          {3, true, certpath.RulePolicy},
		"mapped, not allowed":  {2, false, certpath.RulePolicy},
		"itself, none allowed": {1, false, ""},
	} {
		leafTpl := named("leaf")
		leafTpl.Policies = []x509.OID{oid(tc.leaf)}
		leaf := must[*pkitest.Authority](t)(ca.Issue(leafTpl))
		p := plain()
		p.Policies, p.AllowPolicyMapping, p.AnyPolicyLeaf = []asn1.ObjectIdentifier{{2, 999, 1}}, tc.allowed, true
		_, err := v.Validate(context.Background(), leaf.Certificate, nil, time.Now(), p)
		wantRule(t, name, err, tc.rule)
	}
}

// An end certificate that demands a policy (requireExplicitPolicy 0) needs one
// that holds along the path (RFC 5280 §6.1.5 (b)).
func TestEndCertificateMayDemandAPolicy(t *testing.T) {
	policy := must[x509.OID](t)(x509.OIDFromInts([]uint64{2, 999, 1}))
	demand := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: der(0x30, []byte{0x80, 1, 0})}
	root := must[*pkitest.Authority](t)(pkitest.NewRoot(named("root")))
	with, without := named("ca with"), named("ca without")
	with.Policies = []x509.OID{policy}
	for name, tc := range map[string]struct {
		ca     x509.Certificate
		demand []pkix.Extension
		rule   certpath.Rule
	}{
		"no demand, no policy":        {without, nil, ""},
		"demand, policy":              {with, []pkix.Extension{demand}, ""},
		"demand, no policy in the CA": {without, []pkix.Extension{demand}, certpath.RulePolicy},
	} {
		ca := must[*pkitest.Authority](t)(root.CA(tc.ca))
		tpl := named("leaf")
		tpl.Policies, tpl.ExtraExtensions = []x509.OID{policy}, tc.demand
		leaf := must[*pkitest.Authority](t)(ca.Issue(tpl))
		v := certpath.Validator{Store: store(t, []*x509.Certificate{root.Certificate}, ca.Certificate)}
		_, err := v.Validate(context.Background(), leaf.Certificate, nil, time.Now(), plain())
		wantRule(t, name, err, tc.rule)
	}
}

// "Expired" is said of a citizen's certificate even where its CA has ended too.
func TestExpiredWithItsCA(t *testing.T) {
	long := time.Now().AddDate(-3, 0, 0)
	old := func(cn string) x509.Certificate {
		c := named(cn)
		c.NotBefore, c.NotAfter = long, long.AddDate(2, 0, 0)
		return c
	}
	root := must[*pkitest.Authority](t)(pkitest.NewRoot(old("root")))
	leaf := must[*pkitest.Authority](t)(root.Issue(old("leaf")))
	young := must[*pkitest.Authority](t)(root.Issue(named("leaf")))
	v := certpath.Validator{Store: store(t, []*x509.Certificate{root.Certificate})}
	_, err := v.Validate(context.Background(), leaf.Certificate, nil, time.Now(), plain())
	wantCode(t, "both ended", err, "cert_expired")
	_, err = v.Validate(context.Background(), young.Certificate, nil, time.Now(), plain())
	wantCode(t, "the CA alone has ended", err, "cert_untrusted")
	limited := old("root")
	limited.MaxPathLenZero = true
	strict := must[*pkitest.Authority](t)(pkitest.NewRoot(limited))
	rogue := must[*pkitest.Authority](t)(strict.CA(old("rogue")))
	under := must[*pkitest.Authority](t)(rogue.Issue(old("leaf")))
	w := certpath.Validator{Store: store(t, []*x509.Certificate{strict.Certificate}, rogue.Certificate)}
	_, err = w.Validate(context.Background(), under.Certificate, nil, time.Now(), plain())
	wantCode(t, "ended, and never good", err, "cert_untrusted")
	_, err = v.Validate(context.Background(), leaf.Certificate, nil, long.AddDate(1, 0, 0), plain())
	wantCode(t, "in its time", err, "")
}

// An extended key usage in a CA limits what is below it.
func TestExtKeyUsageOfACA(t *testing.T) {
	root := must[*pkitest.Authority](t)(pkitest.NewRoot(named("root")))
	p := plain()
	p.ExtKeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}
	for name, tc := range map[string]struct {
		usages []x509.ExtKeyUsage
		rule   certpath.Rule
	}{
		"none":    {nil, ""},
		"the one": {[]x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}, ""},
		"any":     {[]x509.ExtKeyUsage{x509.ExtKeyUsageAny}, ""},
		"another": {[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, certpath.RuleExtKeyUsage},
	} {
		tpl := named("ca")
		tpl.ExtKeyUsage = tc.usages
		ca := must[*pkitest.Authority](t)(root.CA(tpl))
		leafTpl := named("leaf")
		leafTpl.ExtKeyUsage = p.ExtKeyUsages
		leaf := must[*pkitest.Authority](t)(ca.Issue(leafTpl))
		v := certpath.Validator{Store: store(t, []*x509.Certificate{root.Certificate}, ca.Certificate)}
		_, err := v.Validate(context.Background(), leaf.Certificate, nil, time.Now(), p)
		wantRule(t, name, err, tc.rule)
	}
}

// openssl judges the same citizens' certificates with policy, lists and time.
func TestOpenSSLAgreesOnCitizens(t *testing.T) {
	needOpenSSL(t)
	h := ownHierarchy(t, pkitest.Options{Partitions: 4})
	now := time.Now()
	file := writeTo(t, t.TempDir())
	toPEM := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	root, ca := file("root.pem", toPEM("CERTIFICATE", h.Root.Raw)), file("ca.pem", toPEM("CERTIFICATE", h.CA.Raw))
	for name, tc := range map[string]struct {
		o    pkitest.CitizenOptions
		at   time.Time
		good bool
	}{
		"good":               {pkitest.CitizenOptions{}, now, true},
		"P-256":              {pkitest.CitizenOptions{KeyType: pkitest.P256}, now, true},
		"revoked":            {pkitest.CitizenOptions{Revoked: true}, now, false},
		"expired":            {pkitest.CitizenOptions{Expired: true}, now, false},
		"not yet valid":      {pkitest.CitizenOptions{NotYetValid: true}, now, false},
		"wrong policy":       {pkitest.CitizenOptions{Policy: asn1.ObjectIdentifier{2, 16, 886, 101, 0, 3, 1}}, now, false},
		"no policy":          {pkitest.CitizenOptions{NoPolicy: true}, now, false},
		"critical extension": {pkitest.CitizenOptions{CriticalUnknown: true}, now, false},
	} {
		c := card(t, h, tc.o)
		list := must[[]byte](t)(h.CRL(now))
		rootList := must[[]byte](t)(h.RootCRL(now))
		args := []string{"verify", "-policy_check", "-explicit_policy", "-policy", "2.16.886.101.0.3.3", "-inhibit_map", "-crl_check_all",
			"-attime", strconv.FormatInt(tc.at.Unix(), 10), "-trusted", root, "-untrusted", ca,
			"-CRLfile", file("crl.pem", toPEM("X509 CRL", list)), "-CRLfile", file("root.crl.pem", toPEM("X509 CRL", rootList)),
			file("leaf.pem", toPEM("CERTIFICATE", c.Certificate.Raw))}
		out, err := exec.Command("openssl", args...).CombinedOutput()
		if (err == nil) != tc.good {
			t.Errorf("%s: openssl: %s", name, out)
		}
		_, err = validator(t, h).Validate(context.Background(), c.Certificate, nil, tc.at, certpath.CitizenProfile())
		if (err == nil) != tc.good {
			t.Errorf("%s: ours: %v", name, err)
		}
	}
}

// Every certificate the suite has, and whatever a fuzzer makes of it, gets a
// verdict within bounds.
func FuzzValidate(f *testing.F) {
	files := pkitsFiles(f)
	n := 0
	for name, data := range files {
		if n++; n < 60 || name == "certs/GoodCACert.crt" {
			f.Add(data, data)
		}
	}
	h := hierarchy()
	v := certpath.Validator{Store: store(f, []*x509.Certificate{h.Root}, h.CA)}
	p := plain()
	p.AllowCA, p.MinRSABits = true, 1024
	f.Fuzz(func(t *testing.T, a, b []byte) {
		leaf, err := x509.ParseCertificate(a)
		if err != nil {
			return
		}
		var extra []*x509.Certificate
		if c, err := x509.ParseCertificate(b); err == nil {
			extra = append(extra, c)
		}
		r, err := v.Validate(context.Background(), leaf, extra, leaf.NotBefore, p)
		if err == nil && (len(r.Path) < 2 || r.Anchor == nil) {
			t.Error("accepted without a path")
		}
		_, _ = v.ValidateWith(context.Background(), leaf, extra, leaf.NotBefore, p, []certpath.StoredEvidence{{Source: certpath.SourceCRL, Raw: b}})
	})
}
