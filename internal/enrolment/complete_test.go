package enrolment_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gowebpki/jcs"

	"sealgate/internal/certpath"
	"sealgate/internal/citizen"
	"sealgate/internal/cms"
	"sealgate/internal/enrolment"
	"sealgate/internal/fault"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/pkitest"
)

func credentialID(t testing.TB, response []byte) []byte {
	t.Helper()
	var r struct{ RawID string }
	must(t, json.Unmarshal(response, &r))
	id, err := base64.RawURLEncoding.DecodeString(r.RawID)
	must(t, err)
	return id
}

// The whole road, with the RSA key that real cards have.
func TestBinding(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	k := w.walk(w.card(pkitest.CitizenOptions{KeyType: pkitest.RSA2048})).toCard()

	// The statement is canonical and names the credential and this order.
	canonical, err := jcs.Transform(k.tbs)
	must(t, err)
	st, err := enrolment.ParseStatement(k.tbs)
	must(t, err)
	if !bytes.Equal(canonical, k.tbs) || st.Order != k.id || st.RPID != host || st.DeviceName != deviceLn || st.Nonce != k.nonce {
		t.Errorf("statement %s", k.tbs)
	}

	bound, err := w.svc.Complete(ctx, k.proof())
	must(t, err)
	device, state, err := w.db.Citizens().DeviceByCredential(ctx, bound.Device.CredentialID)
	must(t, err)
	if device.ID != bound.Device.ID || device.Usable(state) != nil || device.Name != deviceLn {
		t.Errorf("device %+v, citizen %s", device, state)
	}
	thumbprint, err := passkey.Thumbprint(device.COSEKey)
	must(t, err)
	if st.CredentialThumbprint != base64.RawURLEncoding.EncodeToString(thumbprint[:]) {
		t.Error("the statement names another key than the bound one")
	}
	o, err := w.order.Find(ctx, k.id)
	must(t, err)
	if o.State != order.Completed || o.ApprovedAt == nil || o.CompletedAt == nil || o.EndedAt == nil || *o.DeviceID != device.ID || *o.CitizenID != device.CitizenID {
		t.Errorf("order %+v", o)
	}
	w.checkMobileCertificate(bound, k.card)
	w.checkEvidence(k)
	for _, act := range []string{"enrol.started", "order.scanned", "enrol.credential", "key.created", "certificate.issued", "device.bound", "enrol.completed"} {
		if n := w.count(`SELECT count(*) FROM audit_entries WHERE act = $1 AND order_id = $2 AND result = 'ok'`, act, k.id.UUID()); n != 1 {
			t.Errorf("%d audit entries %s, want 1", n, act)
		}
	}
	// Each thing is written down once, whoever else could have written it.
	for _, act := range []string{"key.created", "certificate.issued", "device.bound"} {
		if n := w.count(`SELECT count(*) FROM audit_entries WHERE act = $1 AND device_id = $2`, act, device.ID); n != 1 {
			t.Errorf("%d audit entries %s of the device, want 1", n, act)
		}
	}
}

func (w *world) checkMobileCertificate(bound *enrolment.Bound, card *pkitest.Card) {
	w.t.Helper()
	cert, err := x509.ParseCertificate(bound.Certificate)
	must(w.t, err)
	info, err := certpath.ParseCitizen(cert)
	must(w.t, err)
	if info.SubjectSerial != card.Serial16 || info.CardType != "mobile" {
		w.t.Errorf("mobile certificate for %+v", info)
	}
	if w.count(`SELECT count(*) FROM mobile_certificates m JOIN keys k ON k.id = m.key_id
		WHERE m.id = $1 AND m.device_id = $2 AND k.purpose = 'mobile' AND k.public_key = $3 AND k.state = 'active'`,
		bound.CertificateID, bound.Device.ID, cert.RawSubjectPublicKeyInfo) != 1 {
		w.t.Error("certificate, device and key do not belong together")
	}
}

// checkEvidence holds that what is kept is enough to check the binding again.
func (w *world) checkEvidence(k *walk) {
	w.t.Helper()
	var statement, proof, revocation, attestation, clientData []byte
	must(w.t, w.pool.QueryRow(context.Background(), `SELECT statement, proof, revocation, attestation, client_data_json FROM enrolments
		WHERE order_id = $1`, k.id.UUID()).Scan(&statement, &proof, &revocation, &attestation, &clientData))
	if !bytes.Equal(statement, k.tbs) || len(proof) == 0 || len(attestation) == 0 || len(clientData) == 0 {
		w.t.Error("evidence is missing")
	}
	var records []enrolment.RevocationRecord
	must(w.t, json.Unmarshal(revocation, &records))
	fingerprint := sha256.Sum256(k.card.Certificate.Raw)
	if len(records) == 0 || !bytes.Equal(records[0].Certificate, fingerprint[:]) || records[0].Source != certpath.SourceOCSP {
		w.t.Fatalf("revocation evidence %+v", records)
	}
	answer, err := certpath.ParseOCSPResponse(records[0].Answer)
	must(w.t, err)
	if len(answer.Statuses) != 1 || answer.Statuses[0].Status != certpath.StatusGood {
		w.t.Errorf("kept answer %+v", answer.Statuses)
	}
}

func TestProofRefusals(t *testing.T) {
	w := newWorld(t)
	card := w.card(pkitest.CitizenOptions{})
	sameID := w.card(pkitest.CitizenOptions{Serial16: card.Serial16})
	elsewhere := w.walk(card).toCard()
	for _, c := range []struct {
		name string
		want *fault.Error
		make func(k *walk) enrolment.CompleteRequest
	}{
		{"tampered content", enrolment.ErrProofSignature, func(k *walk) enrolment.CompleteRequest {
			r := k.proof()
			r.Signature = bytes.Replace(r.Signature, []byte("bind-device"), []byte("bind-devicf"), 1)
			return r
		}},
		{"tampered signature", enrolment.ErrProofSignature, func(k *walk) enrolment.CompleteRequest {
			r := k.proof()
			r.Signature[len(r.Signature)-1] ^= 1
			return r
		}},
		{"another card of the same person", enrolment.ErrProofCard, func(k *walk) enrolment.CompleteRequest {
			return k.sign(sameID, k.tbs, pkitest.SignOptions{})
		}},
		{"another card hidden behind the first one's certificate", enrolment.ErrProofCard, func(k *walk) enrolment.CompleteRequest {
			r := k.sign(sameID, k.tbs, pkitest.SignOptions{})
			r.Certificate = card.Certificate.Raw
			return r
		}},
		{"certificate beside the proof is another", enrolment.ErrProofCard, func(k *walk) enrolment.CompleteRequest {
			r := k.proof()
			r.Certificate = sameID.Certificate.Raw
			return r
		}},
		{"other content", enrolment.ErrProofContent, func(k *walk) enrolment.CompleteRequest {
			return k.sign(card, []byte(`{"purpose":"login"}`), pkitest.SignOptions{})
		}},
		{"statement with a space", enrolment.ErrProofContent, func(k *walk) enrolment.CompleteRequest {
			return k.sign(card, append(bytes.Clone(k.tbs), ' '), pkitest.SignOptions{})
		}},
		{"proof of another order", enrolment.ErrProofContent, func(k *walk) enrolment.CompleteRequest {
			r := k.proof()
			r.Signature = elsewhere.proof().Signature
			return r
		}},
		{"replaced credential", enrolment.ErrProofContent, func(k *walk) enrolment.CompleteRequest {
			var st map[string]any
			must(t, json.Unmarshal(k.tbs, &st))
			st["credential_thumbprint"] = base64.RawURLEncoding.EncodeToString(make([]byte, 32))
			raw, err := json.Marshal(st)
			must(t, err)
			raw, err = jcs.Transform(raw)
			must(t, err)
			return k.sign(card, raw, pkitest.SignOptions{})
		}},
		{"other nonce", enrolment.ErrProofContent, func(k *walk) enrolment.CompleteRequest {
			return k.sign(card, k.tbs, pkitest.SignOptions{Nonce: []byte("another")})
		}},
		{"other card number in the signature", enrolment.ErrProofCard, func(k *walk) enrolment.CompleteRequest {
			return k.sign(card, k.tbs, pkitest.SignOptions{CardSN: "TP00000000000001"})
		}},
		{"other card number beside it", enrolment.ErrProofCard, func(k *walk) enrolment.CompleteRequest {
			r := k.proof()
			r.CardNumber = "TP00000000000001"
			return r
		}},
		{"card number that is none", enrolment.ErrProofMalformed, func(k *walk) enrolment.CompleteRequest {
			r := k.proof()
			r.CardNumber = "TP<script>"
			return r
		}},
		{"detached", enrolment.ErrProofMalformed, func(k *walk) enrolment.CompleteRequest {
			r := k.proof()
			r.Signature = detached(t, r.Signature)
			return r
		}},
		{"two signers", enrolment.ErrProofMalformed, func(k *walk) enrolment.CompleteRequest {
			r := k.proof()
			r.Signature = twoSigners(t, r.Signature, k.sign(sameID, k.tbs, pkitest.SignOptions{}).Signature)
			return r
		}},
		{"wrong browser", order.ErrWrongBrowser, func(k *walk) enrolment.CompleteRequest { r := k.proof(); r.Browser[0] ^= 1; return r }},
		{"unknown order", order.ErrNotFound, func(k *walk) enrolment.CompleteRequest { r := k.proof(); r.Order[15] ^= 1; return r }},
		{"no proof", enrolment.ErrProofMalformed, func(k *walk) enrolment.CompleteRequest { r := k.proof(); r.Signature = nil; return r }},
		{"not CMS", enrolment.ErrProofMalformed, func(k *walk) enrolment.CompleteRequest { r := k.proof(); r.Signature = []byte("hello"); return r }},
		{"too large", enrolment.ErrProofMalformed, func(k *walk) enrolment.CompleteRequest {
			r := k.proof()
			r.Signature = make([]byte, enrolment.MaxProof+1)
			return r
		}},
		{"trailing bytes", enrolment.ErrProofMalformed, func(k *walk) enrolment.CompleteRequest {
			r := k.proof()
			r.Signature = append(r.Signature, 0)
			return r
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := w.walk(card).toCard()
			r := c.make(k)
			w.refused(c.want, func() error { _, err := w.svc.Complete(context.Background(), r); return err })
		})
	}
	k := w.walk(card).toCard()
	_, err := w.svc.Complete(context.Background(), k.proof())
	must(t, err) // positive control
}

// parts are the pieces of a SignedData as pkitest writes it.
type parts struct {
	Version    int
	DigestAlgs asn1.RawValue
	Content    asn1.RawValue
	Certs      asn1.RawValue
	Signers    asn1.RawValue
}

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue
}

func split(t testing.TB, der []byte) (contentInfo, parts) {
	t.Helper()
	var info contentInfo
	_, err := asn1.Unmarshal(der, &info)
	must(t, err)
	var p parts
	_, err = asn1.Unmarshal(info.Content.Bytes, &p)
	must(t, err)
	return info, p
}

func join(t testing.TB, info contentInfo, p parts) []byte {
	t.Helper()
	body, err := asn1.Marshal(p)
	must(t, err)
	info.Content = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: body}
	der, err := asn1.Marshal(info)
	must(t, err)
	return der
}

// detached takes the content out of a good signature.
func detached(t testing.TB, der []byte) []byte {
	info, p := split(t, der)
	content, err := asn1.Marshal(struct{ Type asn1.ObjectIdentifier }{cms.OIDData})
	must(t, err)
	p.Content = asn1.RawValue{FullBytes: content}
	return join(t, info, p)
}

// twoSigners puts the signer of b behind that of a.
func twoSigners(t testing.TB, a, b []byte) []byte {
	info, p := split(t, a)
	_, q := split(t, b)
	set := asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true}
	set.Bytes = append(bytes.Clone(p.Signers.Bytes), q.Signers.Bytes...)
	p.Signers = set
	p.Certs = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(bytes.Clone(p.Certs.Bytes), q.Certs.Bytes...)}
	return join(t, info, p)
}

// withoutCertificate leaves the signer's certificate out, as RFC 5652 §5.1 allows.
func withoutCertificate(t testing.TB, der []byte) []byte {
	info, p := split(t, der)
	p.Certs.Bytes, p.Certs.FullBytes = nil, nil
	return join(t, info, p)
}

func TestSignatureWithoutItsCertificate(t *testing.T) {
	w := newWorld(t)
	card := w.card(pkitest.CitizenOptions{})
	k := w.walk(card).toCard()
	other := k.sign(w.card(pkitest.CitizenOptions{}), k.tbs, pkitest.SignOptions{})
	other.Certificate, other.CardNumber, other.Signature = nil, "", withoutCertificate(t, other.Signature)
	w.refused(enrolment.ErrProofCard, func() error { _, err := w.svc.Complete(context.Background(), other); return err })
	r := k.proof()
	r.Signature = withoutCertificate(t, r.Signature)
	_, err := w.svc.Complete(context.Background(), r)
	must(t, err)
	// Positive control of the tools above: taken apart and put together it is the same.
	info, p := split(t, r.Signature)
	if !bytes.Equal(join(t, info, p), r.Signature) {
		t.Error("split and join change the message")
	}
}

func TestNonceAndCardNumberMayBeAbsentOrRaw(t *testing.T) {
	w := newWorld(t)
	k := w.walk(w.card(pkitest.CitizenOptions{})).toCard()
	r := k.sign(k.card, k.tbs, pkitest.SignOptions{NoSignedTime: true})
	r.Certificate, r.CardNumber = nil, " "+strings.ToLower(k.card.CardNumber)+"  "
	_, err := w.svc.Complete(context.Background(), r)
	must(t, err)
	k = w.walk(k.card).toCard()
	raw, err := base64.RawURLEncoding.DecodeString(k.nonce)
	must(t, err)
	_, err = w.svc.Complete(context.Background(), k.sign(k.card, k.tbs, pkitest.SignOptions{Nonce: raw}))
	must(t, err)
}

func TestCompleteInTimeAndState(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	card := w.card(pkitest.CitizenOptions{})
	complete := func(r enrolment.CompleteRequest) func() error {
		return func() error { _, err := w.svc.Complete(ctx, r); return err }
	}
	k := w.walk(card).begin()
	early := enrolment.CompleteRequest{Order: k.id, Browser: k.browser, Signature: []byte{1}}
	w.refused(order.ErrNotClaimed, complete(early))
	if _, _, err := w.svc.Statement(ctx, k.id, k.browser); !errors.Is(err, order.ErrNotClaimed) {
		t.Errorf("statement before the claim: %v", err)
	}
	k.claim()
	w.refused(enrolment.ErrNoCredential, complete(early))
	if _, _, err := w.svc.Statement(ctx, k.id, k.browser); !errors.Is(err, enrolment.ErrNoCredential) {
		t.Errorf("statement before the passkey: %v", err)
	}
	k.credential().statement()
	before := w.state()
	first := string(k.tbs)
	if k.statement(); string(k.tbs) != first || w.state() != before {
		t.Error("asking for the statement changed something")
	}
	stranger := k.browser
	stranger[0] ^= 1
	w.refused(order.ErrWrongBrowser, func() error { _, _, err := w.svc.Statement(ctx, k.id, stranger); return err })

	w.ahead.Store(int64(6 * time.Minute))
	w.refused(order.ErrExpired, complete(k.proof()))
	w.ahead.Store(0)
	must(t, w.order.Cancel(ctx, k.id, k.browser, k.from))
	w.refused(order.ErrCancelled, complete(k.proof()))
}

// The card is asked about again when it signs, and the answer counts.
func TestCardThatGoesBadOnTheWay(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	k := w.walk(w.card(pkitest.CitizenOptions{})).toCard()
	complete := func() error { _, err := w.svc.Complete(ctx, k.proof()); return err }
	w.pki.SetFaults(pkitest.ResponderFaults{OCSPDown: true, CRLDown: true})
	w.refused(certpath.ErrStatusUnknown, complete)
	w.pki.SetFaults(pkitest.ResponderFaults{})
	w.pki.Revoke(k.card.Certificate, time.Now().Add(-time.Second), pkitest.ReasonKeyCompromise)
	w.refused(certpath.ErrRevoked, complete)
	w.pki.SetFaults(pkitest.ResponderFaults{OCSPDown: true})
	good := w.walk(w.card(pkitest.CitizenOptions{NationalID: "B223000020"})).toCard()
	_, err := w.svc.Complete(ctx, good.proof())
	must(t, err) // positive control, by list
}

// A look that was made for a binding does not outweigh a later one that found the
// card revoked.
func TestLaterLookOutweighsTheBindings(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	card := w.card(pkitest.CitizenOptions{})
	_, err := w.svc.Complete(ctx, w.walk(card).toCard().proof())
	must(t, err)
	k := w.walk(card).toCard()
	looked := func(at string) {
		_, err := w.pool.Exec(ctx, `UPDATE citizen_certificates SET state = 'revoked', checked_at = now() + $1::interval`, at)
		must(t, err)
	}
	looked("1 minute")
	w.refused(citizen.ErrCardRevoked, func() error { _, err := w.svc.Complete(ctx, k.proof()); return err })
	looked("-1 minute")
	_, err = w.svc.Complete(ctx, k.proof())
	must(t, err) // positive control: it is good now, whatever it was before
}

func TestSameProofAgainGivesTheSameAnswer(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	k := w.walk(w.card(pkitest.CitizenOptions{})).toCard()
	proof := k.proof()
	first, err := w.svc.Complete(ctx, proof)
	must(t, err)
	before := w.state()
	again, err := w.svc.Complete(ctx, proof)
	must(t, err)
	if again.Device.ID != first.Device.ID || !bytes.Equal(again.Certificate, first.Certificate) || w.state() != before {
		t.Error("the second answer differs or changed something")
	}
	w.refused(enrolment.ErrDone, func() error { _, err := w.svc.Complete(ctx, k.proof()); return err }) // signed anew
	stranger := proof
	stranger.Browser[0] ^= 1
	w.refused(order.ErrWrongBrowser, func() error { _, err := w.svc.Complete(ctx, stranger); return err })
}

func TestTwoAtOnceBindOneDevice(t *testing.T) {
	w := newWorld(t)
	k := w.walk(w.card(pkitest.CitizenOptions{})).toCard()
	proof := k.proof()
	var wg sync.WaitGroup
	bounds, errs := make([]*enrolment.Bound, 6), make([]error, 6)
	for i := range bounds {
		wg.Go(func() { bounds[i], errs[i] = w.svc.Complete(context.Background(), proof) })
	}
	wg.Wait()
	for i, b := range bounds {
		if errs[i] != nil {
			t.Errorf("request %d: %v", i, errs[i])
		} else if b.Device.ID != bounds[0].Device.ID {
			t.Error("two requests got different devices")
		}
	}
	if n := w.count(`SELECT count(*) FROM devices`); n != 1 {
		t.Errorf("%d devices, want 1", n)
	}
	if n := w.count(`SELECT count(*) FROM keys WHERE purpose = 'mobile'`); n != 1 {
		t.Errorf("%d mobile keys, want 1", n)
	}
}

// Two first bindings of one citizen at once: both phones, one citizen.
func TestTwoPhonesAtOnceMakeOneCitizen(t *testing.T) {
	w := newWorld(t)
	card := w.card(pkitest.CitizenOptions{})
	a, b := w.walk(card).toCard().proof(), w.walk(card).toCard().proof()
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, r := range []enrolment.CompleteRequest{a, b} {
		wg.Go(func() { _, errs[i] = w.svc.Complete(context.Background(), r) })
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	if w.count(`SELECT count(*) FROM citizens`) != 1 || w.count(`SELECT count(*) FROM devices`) != 2 || w.count(`SELECT count(*) FROM citizen_certificates`) != 1 {
		t.Errorf("state:\n%s", w.state())
	}
	if w.count(`SELECT count(*) FROM audit_entries WHERE act = 'device.bound' AND citizen_id = (SELECT id FROM citizens)`) != 2 {
		t.Error("the audit entries do not name the citizen")
	}
}

// One ID with two cards at once: the second is refused under the lock.
func TestConflictUnderTheLock(t *testing.T) {
	w := newWorld(t)
	one, two := w.card(pkitest.CitizenOptions{}), w.card(pkitest.CitizenOptions{})
	a, b := w.walk(one).toCard(), w.walk(two).toCard()
	_, err := w.svc.Complete(context.Background(), a.proof())
	must(t, err)
	w.refused(enrolment.ErrCitizenConflict, func() error { _, err := w.svc.Complete(context.Background(), b.proof()); return err })
}

func TestDeviceLimit(t *testing.T) {
	w := newWorld(t, 2)
	ctx := context.Background()
	card := w.card(pkitest.CitizenOptions{})
	first := w.walk(card).bind()
	late := []*walk{w.walk(card).toCard(), w.walk(card).toCard(), w.walk(card).toCard()}
	// All three stand at the last moment before a device is written: inserting is
	// held up until each waits for a lock.
	gate, err := w.pool.Begin(ctx)
	must(t, err)
	_, err = gate.Exec(ctx, `LOCK TABLE devices IN SHARE MODE`)
	must(t, err)
	var wg sync.WaitGroup
	errs := make([]error, len(late))
	for i, k := range late {
		proof := k.proof()
		wg.Go(func() { _, errs[i] = w.svc.Complete(ctx, proof) })
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if w.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == len(late) {
			break
		}
	}
	must(t, gate.Commit(ctx))
	wg.Wait()
	passed := 0
	for _, err := range errs {
		if err == nil {
			passed++
		} else if !errors.Is(err, enrolment.ErrDeviceLimit) || fault.From(err).Params["limit"] != "2" {
			t.Errorf("got %v", err)
		}
	}
	if passed != 1 {
		t.Errorf("%d of three passed, room was for one", passed)
	}
	w.refused(enrolment.ErrDeviceLimit, func() error { _, err := w.svc.Begin(ctx, w.walk(card).beginRequest()); return err })
	_, err = w.pool.Exec(ctx, `UPDATE devices SET state = 'removed' WHERE id = $1`, first.Device.ID)
	must(t, err)
	w.walk(card).bind() // positive control: a removed phone makes room
}

func FuzzStatement(f *testing.F) {
	f.Add([]byte(`{"v":1,"purpose":"sealgate/bind-device","order":"AAAAAAAAAAAAAAAAAAAAAA","nonce":"x"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if st, err := enrolment.ParseStatement(raw); err == nil && (st.Version != 1 || st.Purpose != enrolment.StatementPurpose) {
			t.Fatal("another statement was accepted")
		}
	})
}
