package signing_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/cms"
	"sealgate/internal/fault"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/signing"
)

func TestApprovedDocumentsAreSigned(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.RSA2048} {
		p := w.person(alg)
		documents := [][]byte{[]byte("契約書"), []byte("left out"), []byte("annex\r\n")}
		a := order(documents...)
		a.leftOut = []int{1}
		id := w.approve(p, a)
		w.ok(w.service.Complete(ctx, id))
		if o := w.outcome(id); o != (outcome{state: "completed", signatures: 2, consumed: true, entries: 1}) {
			t.Errorf("%s: %+v", alg, o)
		}
		list, err := w.service.Signatures(ctx, id)
		if err != nil || len(list) != 2 || list[0].Document != 0 || list[1].Document != 2 {
			t.Fatalf("%s: %d signatures, %v", alg, len(list), err)
		}
		for _, s := range list {
			checkWithOpenSSL(t, w, s.DER, documents[s.Document])
			sd, err := cms.Parse(s.DER)
			if err != nil {
				t.Fatal(err)
			}
			if len(sd.Certificates) != 2 {
				t.Errorf("%s: %d certificates inside, want the signer's and the issuing CA's", alg, len(sd.Certificates))
			}
		}
		if _, err := w.service.Signature(ctx, id, 1); !errors.Is(err, signing.ErrNotFound) {
			t.Errorf("signature of a left-out document: %v", err)
		}
		if len(w.changed) == 0 || w.changed[len(w.changed)-1] != id {
			t.Error("nobody was told")
		}
	}
}

// checkWithOpenSSL: the document verifies against our anchors, one changed byte does not.
func checkWithOpenSSL(t *testing.T, w *world, signature, document []byte) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	anchors, err := w.ca.AnchorsPEM(context.Background())
	w.ok(err)
	root, _, _ := bytes.Cut(anchors, []byte("-----END CERTIFICATE-----\n"))
	root = append(root, "-----END CERTIFICATE-----\n"...)
	for name, ca := range map[string][]byte{"root": root, "bundle": anchors} {
		for _, extra := range [][]string{nil, {"-cades"}} {
			verify := func(doc []byte) (string, error) {
				args := append([]string{"cms", "-verify", "-binary", "-inform", "DER", "-in", file("sig", signature),
					"-content", file("doc", doc), "-CAfile", file("ca", ca), "-out", os.DevNull}, extra...)
				out, err := exec.Command("openssl", args...).CombinedOutput()
				return string(out), err
			}
			if out, err := verify(document); err != nil {
				t.Errorf("openssl %s %v: %s", name, extra, out)
			}
			changed := bytes.Clone(document)
			changed[0] ^= 1
			if out, err := verify(changed); err == nil {
				t.Errorf("openssl accepts a changed byte: %s", out)
			}
		}
	}
}

func TestEveryDigestAlgorithmInOneOrder(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	doc := []byte("text")
	a := order(doc, doc, doc)
	s256, s384, s512 := sha256.Sum256(doc), sha512.Sum384(doc), sha512.Sum512(doc)
	b64 := base64.RawURLEncoding.EncodeToString
	parts := strings.Split(string(a.content), `{"digest":"`+b64(s256[:])+`","digest_algorithm":"SHA-256"`)
	a.content = []byte(parts[0] + `{"digest":"` + b64(s256[:]) + `","digest_algorithm":"SHA-256"` + parts[1] +
		`{"digest":"` + b64(s384[:]) + `","digest_algorithm":"SHA-384"` + parts[2] +
		`{"digest":"` + b64(s512[:]) + `","digest_algorithm":"SHA-512"` + parts[3])
	id := w.approve(w.person(keyring.P256), a)
	w.ok(w.service.Complete(ctx, id))
	list, err := w.service.Signatures(ctx, id)
	if err != nil || len(list) != 3 {
		t.Fatalf("%d signatures, %v", len(list), err)
	}
	for _, s := range list {
		checkWithOpenSSL(t, w, s.DER, doc)
	}
}

func TestCompletingAgainChangesNothing(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	id := w.approve(w.person(keyring.P256), order([]byte("a")))
	w.ok(w.service.Complete(ctx, id))
	before, _ := w.service.Signature(ctx, id, 0)
	w.ok(w.service.Complete(ctx, id))
	after, _ := w.service.Signature(ctx, id, 0)
	if !bytes.Equal(before.DER, after.DER) || w.outcome(id).entries != 1 {
		t.Error("the second call signed again")
	}
	if err := w.service.Complete(ctx, uuid.Must(uuid.NewV7())); !errors.Is(err, signing.ErrNotFound) {
		t.Errorf("unknown order: %v", err)
	}
}

// TestTwoNodesAtOnce: both nodes have made their signatures before either
// stores them; exactly one set is kept.
func TestTwoNodesAtOnce(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	id := w.approve(w.person(keyring.P256), order([]byte("a"), []byte("b")))
	const nodes = 4
	var signed sync.WaitGroup
	signed.Add(nodes)
	errs := make([]error, nodes)
	var done sync.WaitGroup
	for i := range nodes {
		node := w.node(gate{w.db.Signing(), func() { signed.Done(); signed.Wait() }}, time.Now)
		done.Go(func() { errs[i] = node.Complete(ctx, id) })
	}
	done.Wait()
	for _, err := range errs {
		if err != nil {
			t.Errorf("a node that lost says %v", err)
		}
	}
	if o := w.outcome(id); o != (outcome{state: "completed", signatures: 2, consumed: true, entries: 1}) {
		t.Errorf("%+v", o)
	}
	if len(w.changed) != 1 {
		t.Errorf("told %d times", len(w.changed))
	}
}

// gate holds a node back between signing and storing.
type gate struct {
	signing.Store
	wait func()
}

func (g gate) Complete(ctx context.Context, c signing.Completion) error {
	g.wait()
	return g.Store.Complete(ctx, c)
}

// TestRefused tampers with what is stored about an approved order. Each must
// fail the order, leave no signature and spend the authorization; the control
// is the same order untouched.
func TestRefused(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	alice, bob := w.person(keyring.P256), w.person(keyring.P256)
	fewer := order([]byte("a"), []byte("b"))
	for _, c := range []struct {
		name   string
		want   *fault.Error
		tamper func(id uuid.UUID)
	}{
		{"control", nil, func(uuid.UUID) {}},
		{"content changed in the order", signing.ErrEvidence, func(id uuid.UUID) {
			w.exec(`UPDATE orders SET content = $2 WHERE id = $1`, id, signContent(oid(id), "a", "other"))
		}},
		{"content changed everywhere", signing.ErrEvidence, func(id uuid.UUID) {
			content := signContent(oid(id), "a", "other")
			hash, _ := signing.DigestsHash(content, nil)
			w.exec(`UPDATE orders SET content = $2 WHERE id = $1`, id, content)
			w.exec(`UPDATE approvals SET content = $2 WHERE order_id = $1`, id, content)
			w.exec(`UPDATE signing_authorizations SET digests_hash = $2 WHERE order_id = $1`, id, hash[:])
		}},
		{"more digests than approved", signing.ErrEvidence, func(id uuid.UUID) {
			content := signContent(oid(id), "a", "b", "c")
			hash, _ := signing.DigestsHash(content, nil)
			w.exec(`UPDATE orders SET content = $2 WHERE id = $1`, id, content)
			w.exec(`UPDATE approvals SET content = $2 WHERE order_id = $1`, id, content)
			w.exec(`UPDATE signing_authorizations SET digests_hash = $2 WHERE order_id = $1`, id, hash[:])
		}},
		{"level changed", signing.ErrEvidence, func(id uuid.UUID) {
			content := bytes.Replace(signContent(oid(id), "a", "b"), []byte(`"kind":"sign",`), []byte(`"kind":"sign","level":"B-T",`), 1)
			hash, _ := signing.DigestsHash(content, nil)
			w.exec(`UPDATE orders SET content = $2 WHERE id = $1`, id, content)
			w.exec(`UPDATE approvals SET content = $2 WHERE order_id = $1`, id, content)
			w.exec(`UPDATE signing_authorizations SET digests_hash = $2 WHERE order_id = $1`, id, hash[:])
		}},
		{"left-out list changed", signing.ErrEvidence, func(id uuid.UUID) {
			hash, _ := signing.DigestsHash(signContent(oid(id), "a", "b"), []int{0})
			w.exec(`UPDATE approvals SET left_out = '{0}' WHERE order_id = $1`, id)
			w.exec(`UPDATE signing_authorizations SET digests_hash = $2 WHERE order_id = $1`, id, hash[:])
		}},
		{"authorization for other digests", signing.ErrEvidence, func(id uuid.UUID) {
			w.exec(`UPDATE signing_authorizations SET digests_hash = $2 WHERE order_id = $1`, id, random(32))
		}},
		{"another citizen's key", signing.ErrEvidence, func(id uuid.UUID) {
			w.exec(`UPDATE signing_authorizations SET key_id = $2, mobile_certificate_id = $3 WHERE order_id = $1`, id, bob.certificate.KeyID, bob.certificate.ID)
		}},
		{"another citizen throughout the authorization", signing.ErrEvidence, func(id uuid.UUID) {
			w.exec(`UPDATE signing_authorizations SET citizen_id = $2, device_id = $3, key_id = $4, mobile_certificate_id = $5 WHERE order_id = $1`,
				id, bob.id, bob.device, bob.certificate.KeyID, bob.certificate.ID)
		}},
		{"another citizen everywhere but in the assertion", signing.ErrEvidence, func(id uuid.UUID) {
			w.exec(`UPDATE signing_authorizations SET citizen_id = $2, device_id = $3, key_id = $4, mobile_certificate_id = $5 WHERE order_id = $1`,
				id, bob.id, bob.device, bob.certificate.KeyID, bob.certificate.ID)
			w.exec(`UPDATE approvals SET citizen_id = $2, device_id = $3, credential_id = $4, cose_key = $5 WHERE order_id = $1`,
				id, bob.id, bob.device, bob.credential.ID, bob.credential.PublicKey)
		}},
		{"an attacker's credential in the evidence", signing.ErrEvidence, func(id uuid.UUID) {
			w.exec(`UPDATE approvals SET cose_key = $2 WHERE order_id = $1`, id, bob.credential.PublicKey)
		}},
		{"assertion of another order", signing.ErrEvidence, func(id uuid.UUID) {
			other := w.approve(alice, order([]byte("a"), []byte("b")))
			w.exec(`UPDATE approvals SET (authenticator_data, client_data_json, signature) =
(SELECT authenticator_data, client_data_json, signature FROM approvals WHERE order_id = $2) WHERE order_id = $1`, id, other)
		}},
		{"whole approval of another order", signing.ErrEvidence, func(id uuid.UUID) {
			other := w.approve(alice, fewer)
			w.exec(`UPDATE approvals SET (content, authenticator_data, client_data_json, signature) =
(SELECT content, authenticator_data, client_data_json, signature FROM approvals WHERE order_id = $2) WHERE order_id = $1`, id, other)
			w.exec(`UPDATE orders SET content = $2 WHERE id = $1`, id, fewer.content)
			w.exec(`UPDATE signing_authorizations SET digests_hash = (SELECT digests_hash FROM signing_authorizations WHERE order_id = $2) WHERE order_id = $1`, id, other)
		}},
		{"other relying party", signing.ErrEvidence, func(id uuid.UUID) {
			w.exec(`UPDATE approvals SET rp_id = 'other.example.test' WHERE order_id = $1`, id)
		}},
		{"authorization used before", signing.ErrEvidence, func(id uuid.UUID) {
			w.exec(`UPDATE signing_authorizations SET consumed_at = now() WHERE order_id = $1`, id)
		}},
		{"certificate revoked", signing.ErrCertificate, func(id uuid.UUID) { w.revoke(w.sole(id)) }},
		{"certificate held", signing.ErrCertificate, func(id uuid.UUID) {
			w.exec(`UPDATE mobile_certificates SET state = 'held', revoked_at = now(), reason = 6 WHERE id = $1`, w.sole(id).ID)
		}},
		{"key destroyed", signing.ErrKeyGone, func(id uuid.UUID) {
			w.exec(`UPDATE keys SET state = 'destroyed', sealed = NULL WHERE id = $1`, w.sole(id).KeyID)
		}},
	} {
		id := w.approve(alice, order([]byte("a"), []byte("b")))
		c.tamper(id)
		err := w.service.Complete(ctx, id)
		o := w.outcome(id)
		if c.want == nil {
			if err != nil || o.state != "completed" || o.signatures != 2 {
				t.Errorf("%s: %v, %+v", c.name, err, o)
			}
			continue
		}
		if !errors.Is(err, c.want) || o != (outcome{state: "failed", reason: c.want.Code, consumed: true, entries: 1}) {
			t.Errorf("%s: %v, %+v", c.name, err, o)
		}
		if err := w.service.Complete(ctx, id); !errors.Is(err, signing.ErrNotApproved) {
			t.Errorf("%s: completing a failed order: %v", c.name, err)
		}
	}
}

// sole moves an order's authorization to a person of its own, so that what is
// done to the certificate does not touch others. The approval is made anew.
func (w *world) sole(id uuid.UUID) issuing.Certificate {
	w.t.Helper()
	ctx := context.Background()
	p := w.person(keyring.P256)
	var content []byte
	w.ok(w.pool.QueryRow(ctx, `SELECT content FROM orders WHERE id = $1`, id).Scan(&content))
	for _, table := range []string{"signing_authorizations", "approvals"} {
		w.exec(`DELETE FROM `+table+` WHERE order_id = $1`, id)
	}
	w.exec(`DELETE FROM orders WHERE id = $1`, id)
	w.approve(p, asked{id: id, content: content})
	return p.certificate
}

func (w *world) revoke(c issuing.Certificate) {
	w.t.Helper()
	w.ok(w.ca.Revoke(context.Background(), c.Serial, issuing.ReasonCessation, audit.New("")))
}

func TestCertificateRevokedWhileSigning(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	p := w.person(keyring.P256)
	id := w.approve(p, order([]byte("a")))
	node := w.node(gate{w.db.Signing(), func() { w.revoke(p.certificate) }}, time.Now)
	if err := node.Complete(ctx, id); !errors.Is(err, signing.ErrCertificate) {
		t.Errorf("%v", err)
	}
	if o := w.outcome(id); o.state != "failed" || o.signatures != 0 {
		t.Errorf("%+v", o)
	}
}

func TestCertificateOutOfItsTime(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	for name, now := range map[string]time.Time{"expired": time.Now().AddDate(1, 0, 2), "not yet": time.Now().AddDate(0, 0, -1)} {
		id := w.approve(w.person(keyring.P256), order([]byte("a")))
		if err := w.node(w.db.Signing(), func() time.Time { return now }).Complete(ctx, id); !errors.Is(err, signing.ErrCertificate) {
			t.Errorf("%s: %v", name, err)
		}
		if o := w.outcome(id); o.signatures != 0 || o.state != "failed" {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestPassingTroubleIsTriedAgain(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	id := w.approve(w.person(keyring.P256), order([]byte("a")))
	fresh, err := w.service.Unfinished(ctx, 10)
	if err != nil || len(fresh) != 0 {
		t.Errorf("a fresh approval belongs to its own node: %v, %v", fresh, err)
	}
	broken := w.node(down{w.db.Signing()}, time.Now)
	for range 2 {
		if err := broken.Complete(ctx, id); !errors.Is(err, errDown) {
			t.Errorf("%v", err)
		}
	}
	if o := w.outcome(id); o.state != "approved" || o.attempts != 2 || o.signatures != 0 || o.consumed {
		t.Errorf("%+v", o)
	}
	w.exec(`UPDATE orders SET next_attempt_at = now() WHERE id = $1`, id)
	list, err := w.service.Unfinished(ctx, 10)
	if err != nil || len(list) != 1 || list[0] != id {
		t.Fatalf("unfinished: %v, %v", list, err)
	}
	w.ok(w.service.Complete(ctx, id))
	if list, _ := w.service.Unfinished(ctx, 10); len(list) != 0 {
		t.Error("a finished order is unfinished")
	}
}

var errDown = errors.New("the database went away")

// down cannot store anything new.
type down struct{ signing.Store }

func (down) Complete(context.Context, signing.Completion) error { return errDown }

// TestEachNetHoldsAlone: what is checked twice must hold at either place.
func TestEachNetHoldsAlone(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	p := w.person(keyring.P256)

	id := w.approve(p, order([]byte("a")))
	var stored signing.Completion
	w.ok(w.node(record{w.db.Signing(), &stored}, time.Now).Complete(ctx, id))
	w.exec(`DELETE FROM signatures WHERE order_id = $1`, id)
	w.exec(`UPDATE orders SET state = 'approved', completed_at = NULL, ended_at = NULL WHERE id = $1`, id)
	if err := w.db.Signing().Complete(ctx, stored); !errors.Is(err, signing.ErrConsumed) {
		t.Errorf("the store takes an authorization twice: %v", err)
	}

	second := w.approve(p, order([]byte("a")))
	w.revoke(p.certificate)
	reached := false
	node := w.node(gate{w.db.Signing(), func() { reached = true }}, time.Now)
	if err := node.Complete(ctx, second); !errors.Is(err, signing.ErrCertificate) || reached {
		t.Errorf("a revoked certificate's key was used: %v", err)
	}
}

// record keeps what was stored.
type record struct {
	signing.Store
	last *signing.Completion
}

func (r record) Complete(ctx context.Context, c signing.Completion) error {
	*r.last = c
	return r.Store.Complete(ctx, c)
}
