package issuing_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/crypto/ocsp"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/pkitest"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

// twoNodes are two CAs with pools of their own on one database.
func twoNodes(t testing.TB) (a, b *issuing.CA, keys *keyring.Keyring, pool *pgxpool.Pool) {
	t.Helper()
	url := pgtest.URL(t)
	open := func() *pgxpool.Pool {
		p, err := pgxpool.New(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	pool = open()
	a, keys = bootstrapped(t, pool)
	b, _ = bootstrapped(t, open())
	return a, b, keys, pool
}

// mobileHolder is the test citizen of issue number i.
func mobileHolder(i int) pkitest.CitizenOptions {
	return pkitest.CitizenOptions{Name: "測試一號", Serial16: fmt.Sprintf("00000000000001%02d", i), NationalID: "A123456789"}
}

// setPart gives a row what enrolment gives it; register does not know parts.
func setPart(t testing.TB, pool *pgxpool.Pool, c issuing.Certificate) {
	t.Helper()
	if _, err := pool.Exec(context.Background(), `UPDATE mobile_certificates SET list_of = $2, list_part = $3 WHERE serial = $1`, c.Serial, max(1, c.List.Of), c.List.Part); err != nil {
		t.Fatal(err)
	}
}

func parsedList(t testing.TB, ca *issuing.CA, p issuing.Part) *certpath.CRL {
	t.Helper()
	l, err := ca.ListPart(context.Background(), issuing.Issuing, p)
	if err != nil {
		t.Fatal(err)
	}
	crl, err := certpath.ParseCRL(l.DER)
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := ca.Anchors(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := crl.Verify(anchors[1]); err != nil {
		t.Fatal(err)
	}
	return crl
}

// With more certificates than one list should hold, new ones name a part, and
// only it and the complete list name them when they are revoked.
func TestListIsPublishedInParts(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	now := time.Now()
	ca, keys := bootstrapped(t, pool, func(c *issuing.Config) {
		c.ListEntries = 2
		c.Now = func() time.Time { return now }
	})
	anchors, _ := ca.Anchors(ctx)
	var certs []issuing.Certificate
	var parsed []*x509.Certificate
	for i := range 7 {
		c, cert := issue(t, pool, ca, keys, fmt.Sprintf("00000000000001%02d", i))
		setPart(t, pool, c)
		certs, parsed = append(certs, c), append(parsed, cert)
		now = now.Add(11 * time.Minute) // the register's size is looked at again
		if err := ca.CheckProfile(cert, anchors[1], card(t, mobileHolder(i)).Certificate); err != nil {
			t.Errorf("certificate %d: %v", i, err)
		}
	}
	for i, want := range []int{0, 0, 0, 2, 2, 4, 4} { // 0, 1, 2 certificates fit into one list of 2; then 3, 4; then 5, 6
		if certs[i].List.Of != want || len(parsed[i].CRLDistributionPoints) != 1+min(1, want) ||
			parsed[i].CRLDistributionPoints[0] != baseURL+certs[i].List.PathPart() {
			t.Errorf("certificate %d: %+v %v, want %d parts", i, certs[i].List, parsed[i].CRLDistributionPoints, want)
		}
	}
	for _, c := range certs {
		if err := ca.Revoke(ctx, c.Serial, issuing.ReasonCessation, audit.New("")); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(time.Second)
	if n := parsedList(t, ca, issuing.Part{}).Len(); n != 7 {
		t.Errorf("%d on the complete list", n)
	}
	for of, want := range map[int]int{2: 2, 4: 2, 8: 0} {
		total := 0
		for part := range of {
			own := issuing.Part{Of: of, Part: part}
			crl := parsedList(t, ca, own)
			total += crl.Len()
			for i, cert := range parsed {
				_, _, listed := crl.Lookup(cert.SerialNumber)
				its := certs[i].List == own
				if listed != its || (crl.Covers(cert) == nil) != its {
					t.Errorf("part %d of %d: certificate %d listed %v, its own %v", part, of, i, listed, its)
				}
			}
		}
		if total != want {
			t.Errorf("%d on the %d parts, want %d", total, of, want)
		}
	}
	opensslTakesThePart(t, ca, parsed[6], certs[6].List)
	if _, err := ca.ListPart(ctx, issuing.Root, issuing.Part{Of: 2}); !errors.Is(err, issuing.ErrNotFound) {
		t.Errorf("a part of the root's list: %v", err)
	}
}

// A part that is not the certificate's own, or without the complete list beside
// it, is noticed before signing.
func TestProfileChecksThePart(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	ca, keys := bootstrapped(t, pool)
	_, cert := issue(t, pool, ca, keys, mobileHolder(1).Serial16)
	anchors, _ := ca.Anchors(ctx)
	holder := card(t, mobileHolder(1)).Certificate
	complete := baseURL + issuing.PathIssuingCRL
	own := int(cert.SerialNumber.Bit(0))
	for name, tc := range map[string]struct {
		points []string
		ok     bool
	}{
		"complete alone":      {[]string{complete}, true},
		"own part":            {[]string{baseURL + issuing.Part{Of: 2, Part: own}.PathPart(), complete}, true},
		"another's part":      {[]string{baseURL + issuing.Part{Of: 2, Part: 1 - own}.PathPart(), complete}, false},
		"part alone":          {[]string{baseURL + issuing.Part{Of: 2, Part: own}.PathPart()}, false},
		"three parts":         {[]string{baseURL + issuing.Part{Of: 3, Part: own}.PathPart(), complete}, false},
		"somebody else's":     {[]string{"http://elsewhere.example" + issuing.Part{Of: 2, Part: own}.PathPart(), complete}, false},
		"with something more": {[]string{baseURL + issuing.Part{Of: 2, Part: own}.PathPart() + "?x", complete}, false},
		"none":                {nil, false},
	} {
		c := *cert
		c.CRLDistributionPoints = tc.points
		if err := ca.CheckProfile(&c, anchors[1], holder); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func opensslTakesThePart(t *testing.T, ca *issuing.CA, cert *x509.Certificate, p issuing.Part) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		writeFile(t, path, data)
		return path
	}
	bundle, _ := ca.AnchorsPEM(context.Background())
	toPEM := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	args := func(p issuing.Part) []string {
		l, err := ca.ListPart(context.Background(), issuing.Issuing, p)
		if err != nil {
			t.Fatal(err)
		}
		return []string{"verify", "-crl_check", "-extended_crl", "-x509_strict", "-CAfile", file("ca.pem", bundle),
			"-CRLfile", file("part.pem", toPEM("X509 CRL", l.DER)), file("cert.pem", toPEM("CERTIFICATE", cert.Raw))}
	}
	out, err := exec.Command("openssl", args(p)...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "certificate revoked") {
		t.Errorf("openssl with the certificate's own part: %s", out)
	}
	out, err = exec.Command("openssl", args(issuing.Part{Of: p.Of, Part: (p.Part + 1) % p.Of})...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "different CRL scope") {
		t.Errorf("openssl with another part: %s", out)
	}
}

// A revocation on one node is refused on another within a second: by OCSP, by
// the complete list and by the part, also when another program changes the row.
func TestRevocationReachesOtherNodes(t *testing.T) {
	ctx := context.Background()
	a, b, keys, pool := twoNodes(t)
	anchors, _ := a.Anchors(ctx)
	rounds := 5
	worst := map[string]time.Duration{}
	for i := range rounds {
		c, cert := issue(t, pool, a, keys, fmt.Sprintf("00000000000002%02d", i))
		c.List = issuing.Part{Of: 4, Part: int(cert.SerialNumber.Bits()[0] % 4)}
		setPart(t, pool, c)
		request, err := ocsp.CreateRequest(cert, anchors[1], &ocsp.RequestOptions{Hash: crypto.SHA256})
		if err != nil {
			t.Fatal(err)
		}
		ways := map[string]func() bool{
			"OCSP": func() bool {
				der, _, err := b.RespondOCSP(ctx, request)
				if err != nil {
					t.Fatal(err)
				}
				r, err := ocsp.ParseResponseForCert(der, cert, anchors[1])
				if err != nil {
					t.Fatal(err)
				}
				return r.Status == ocsp.Revoked
			},
			"complete list": func() bool { _, _, r := parsedList(t, b, issuing.Part{}).Lookup(cert.SerialNumber); return r },
			"part":          func() bool { _, _, r := parsedList(t, b, c.List).Lookup(cert.SerialNumber); return r },
		}
		for way, refused := range ways {
			if refused() {
				t.Fatalf("%s: revoked before it was", way)
			}
		}
		if err := a.Revoke(ctx, c.Serial, issuing.ReasonKeyCompromise, audit.New("")); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		for way, refused := range ways {
			wg.Go(func() {
				for !refused() && time.Since(begin) < 3*time.Second {
					time.Sleep(5 * time.Millisecond)
				}
				mu.Lock()
				defer mu.Unlock()
				worst[way] = max(worst[way], time.Since(begin))
			})
		}
		wg.Wait()
	}
	for way, took := range worst {
		t.Logf("revoked on node A, refused on node B by %s: at most %v after the commit, %d rounds", way, took.Round(time.Millisecond), rounds)
		if took > time.Second {
			t.Errorf("%s took %v", way, took)
		}
	}
}

// A hold and its end, written by another part of the program, move the lists too.
func TestHoldAndReleaseReachTheLists(t *testing.T) {
	ctx := context.Background()
	_, b, keys, pool := twoNodes(t)
	c, cert := issue(t, pool, b, keys, "0000000000000301")
	listed := func() bool { _, _, r := parsedList(t, b, issuing.Part{}).Lookup(cert.SerialNumber); return r }
	change := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(ctx, sql, c.Serial); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
	}
	if listed() {
		t.Fatal("listed already")
	}
	change(`UPDATE mobile_certificates SET state = 'held', revoked_at = now(), reason = 6 WHERE serial = $1`)
	if !listed() {
		t.Error("a hold is not on the list")
	}
	change(`UPDATE mobile_certificates SET state = 'good', revoked_at = NULL, reason = NULL WHERE serial = $1`)
	if listed() {
		t.Error("a hold that has ended is on the list")
	}
}

// Of two lists the one with the higher number knows at least as much, on
// whatever node it was made (RFC 5280 §5.2.3).
func TestListNumbersFollowTheTruth(t *testing.T) {
	ctx := context.Background()
	a, b, keys, pool := twoNodes(t)
	const n = 12
	var serials [][]byte
	for i := range n {
		c, _ := issue(t, pool, a, keys, fmt.Sprintf("00000000000004%02d", i))
		serials = append(serials, c.Serial)
	}
	type seen struct {
		number *big.Int
		lines  int
	}
	var mu sync.Mutex
	var all []seen
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { // nodes that start cold each time: every list is signed
			for {
				select {
				case <-done:
					return
				default:
				}
				cold, _ := bootstrapped(t, pool)
				crl := parsedList(t, cold, issuing.Part{})
				mu.Lock()
				all = append(all, seen{crl.Number, crl.Len()})
				mu.Unlock()
			}
		})
	}
	var revoking sync.WaitGroup
	for i, s := range serials {
		revoking.Go(func() {
			if err := []*issuing.CA{a, b}[i%2].Revoke(ctx, s, issuing.ReasonSuperseded, audit.New("")); err != nil {
				t.Error(err)
			}
		})
	}
	revoking.Wait()
	close(done)
	wg.Wait()
	slices.SortFunc(all, func(x, y seen) int { return x.number.Cmp(y.number) })
	for i := 1; i < len(all); i++ {
		if all[i].lines < all[i-1].lines {
			t.Errorf("list %v has %d lines, %v has %d", all[i].number, all[i].lines, all[i-1].number, all[i-1].lines)
		}
	}
	if len(all) < 3 {
		t.Logf("only %d lists", len(all))
	}
}

// fillRegister writes n certificates of one citizen, all revoked, by SQL.
func fillRegister(t testing.TB, pool *pgxpool.Pool, like issuing.Certificate, n int) {
	t.Helper()
	if _, err := pool.Exec(context.Background(), `
INSERT INTO mobile_certificates (id, serial, citizen_id, device_id, key_id, authority, der, not_before, not_after, state, revoked_at, reason, list_of, list_part)
SELECT gen_random_uuid(), '\x40'::bytea || substr(sha256(i::text::bytea), 1, 19), $2, $3, $4, 'issuing', '', now(), now() + interval '1 year',
  'revoked', now() - i * interval '1 second', 5, 16, i % 16 FROM generate_series(1, $1::int) i`, n, like.CitizenID, like.DeviceID, like.KeyID); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkOCSP(b *testing.B) {
	ctx := context.Background()
	pool := pgtest.Open(b)
	ca, keys := bootstrapped(b, pool)
	c, cert := issue(b, pool, ca, keys, "0000000000000501")
	fillRegister(b, pool, c, 100_000)
	anchors, _ := ca.Anchors(ctx)
	request, err := ocsp.CreateRequest(cert, anchors[1], &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		b.Fatal(err)
	}
	answer := func(b *testing.B) {
		if _, _, err := ca.RespondOCSP(ctx, request); err != nil {
			b.Error(err)
		}
	}
	b.Run("one at a time", func(b *testing.B) {
		for b.Loop() {
			answer(b)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
	})
	b.Run("in parallel", func(b *testing.B) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				answer(b)
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
	})
	b.Run("one P-256 signature", func(b *testing.B) {
		key, err := keys.Current(ctx, keyring.PurposeCAOCSP)
		if err != nil {
			b.Fatal(err)
		}
		signer, err := keys.Signer(ctx, key.ID, keyring.PurposeCAOCSP)
		if err != nil {
			b.Fatal(err)
		}
		digest := make([]byte, 32)
		for b.Loop() {
			if _, err := signer.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkListOf100k(b *testing.B) {
	ctx := context.Background()
	pool := pgtest.Open(b)
	ca, keys := bootstrapped(b, pool)
	c, _ := issue(b, pool, ca, keys, "0000000000000601")
	fillRegister(b, pool, c, 100_000)
	for name, p := range map[string]issuing.Part{"complete": {}, "part of 16": {Of: 16, Part: 3}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				cold, _ := newCA(b, pool)
				l, err := cold.ListPart(ctx, issuing.Issuing, p)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(l.DER)), "octets")
			}
		})
	}
	b.Run("unchanged", func(b *testing.B) {
		for b.Loop() {
			if _, err := ca.ListPart(ctx, issuing.Issuing, issuing.Part{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// The store of other CAs' lists: older never replaces newer, and bytes travel
// only when they are news.
func TestForeignListsInTheDatabase(t *testing.T) {
	ctx := context.Background()
	store := postgres.New(pgtest.Open(t)).Lists()
	h, err := cards()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(time.Second)
	list := func(this time.Time, body string) certpath.StoredList {
		return certpath.StoredList{ListSource: certpath.ListSource{URL: "http://lists.example.test/x.crl", Issuer: h.CA},
			ThisUpdate: this, NextUpdate: this.Add(time.Hour), FetchedAt: this.Add(time.Minute), DER: []byte(body)}
	}
	key := certpath.ListKey{URL: "http://lists.example.test/x.crl", Issuer: sha256.Sum256(h.CA.Raw)}
	latest := func(have time.Time) certpath.StoredList {
		t.Helper()
		l, err := store.Latest(ctx, key, have)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := latest(time.Time{}); !l.FetchedAt.IsZero() {
		t.Errorf("nothing kept: %+v", l)
	}
	for _, l := range []certpath.StoredList{list(at, "first"), list(at.Add(-time.Hour), "older"), list(at.Add(time.Hour), "newer"), list(at, "first")} {
		if err := store.Keep(ctx, l); err != nil {
			t.Fatal(err)
		}
	}
	got := latest(time.Time{})
	if string(got.DER) != "newer" || !got.ThisUpdate.Equal(at.Add(time.Hour)) || !got.Issuer.Equal(h.CA) {
		t.Errorf("%+v", got)
	}
	if l := latest(got.ThisUpdate); l.DER != nil || !l.FetchedAt.Equal(got.FetchedAt) {
		t.Errorf("not news: %d bytes", len(l.DER))
	}
	again := list(at.Add(time.Hour), "newer")
	again.FetchedAt = again.FetchedAt.Add(time.Minute)
	if err := store.Keep(ctx, again); err != nil {
		t.Fatal(err)
	}
	if l := latest(got.ThisUpdate); !l.FetchedAt.Equal(again.FetchedAt) {
		t.Errorf("asked again at %v", l.FetchedAt)
	}
	known, err := store.Known(ctx, at)
	if err != nil || len(known) != 1 || known[0].DER != nil || known[0].URL != key.URL {
		t.Errorf("%+v %v", known, err)
	}
	if known, err = store.Known(ctx, at.AddDate(0, 0, 1)); err != nil || len(known) != 0 {
		t.Errorf("%+v %v", known, err)
	}
}
