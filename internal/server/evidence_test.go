package server_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/certpath"
	"sealgate/internal/evidence"
	"sealgate/internal/order"
	"sealgate/internal/postgres"
)

// certificatesIn reads every certificate of a directory of the test cards.
func certificatesIn(t testing.TB, dir string) []*x509.Certificate {
	t.Helper()
	var all []*x509.Certificate
	for _, file := range must(filepath.Glob(filepath.Join(dir, "*.cer")))(t) {
		all = append(all, must(certpath.ParseCertificates(must(os.ReadFile(file))(t)))(t)...)
	}
	return all
}

// judge is how a stranger with the two roots verifies evidence.
func (w *world) judge(t testing.TB) evidence.Options {
	t.Helper()
	page := must(w.browser().Get(w.ctx, "/pki/ca.pem"))(t)
	return evidence.Options{Anchors: certificatesIn(t, filepath.Join(cardsDir, "anchors")),
		ServiceAnchors: must(certpath.ParseCertificates(page.Body))(t)}
}

func (w *world) bundle(t testing.TB, id string) *evidence.Bundle {
	t.Helper()
	var issuers [][]byte
	for _, c := range certificatesIn(t, filepath.Join(cardsDir, "intermediates")) {
		issuers = append(issuers, c.Raw)
	}
	builder := must(evidence.NewBuilder(postgres.New(w.pool).Evidence(), issuers))(t)
	return must(builder.Build(w.ctx, uuid.UUID(must(order.ParseID(id))(t))))(t)
}

func (w *world) verify(t testing.TB, raw []byte, o evidence.Options) *evidence.Report {
	t.Helper()
	return must(evidence.Verify(w.ctx, raw, o))(t)
}

// evidenceOrders makes a login and a sign order of three documents, the second left out.
func evidenceOrders(t testing.TB, w *world) (login, sign string, contents [][]byte) {
	t.Helper()
	phone := w.enrol(0)
	login = w.approved(t, w.relyingParty("profile").begin(), w.browser(), phone)
	contents = [][]byte{[]byte("第一件公文"), []byte("left out"), []byte("third")}
	client, desk := w.api(), w.browser()
	o, err := client.create(map[string]any{"text": "請簽核", "documents": []any{
		document("一.pdf", contents[0]), document("二.pdf", contents[1]), document("三.pdf", contents[2])}})
	if err != nil {
		t.Fatal(err)
	}
	sign = must(desk.Open(w.ctx, o.StartURL))(t)
	if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, sign), softphone.Answer{LeftOut: []int{1}}); err != nil {
		t.Fatal(err)
	}
	client.completed(t, sign)
	return login, sign, contents
}

func documentOf(name string, data []byte) evidence.Document {
	sum := sha256.Sum256(data)
	return evidence.Document{Name: name, Digests: map[string][]byte{"SHA-256": sum[:]}}
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	login, sign, contents := evidenceOrders(t, w)
	options := w.judge(t)
	for kind, id := range map[string]string{"login": login, "sign": sign} {
		raw := must(w.bundle(t, id).Encode())(t)
		if r := w.verify(t, raw, options); r.Verdict != evidence.Passed || r.Kind != kind || r.Order != id {
			t.Fatalf("%s: %+v", kind, r)
		}
		t.Run(kind, func(t *testing.T) { changedBytes(t, w, raw, options) })
	}
	t.Run("parts", func(t *testing.T) { changedParts(t, w, w.bundle(t, sign), options) })
	t.Run("documents", func(t *testing.T) {
		raw := must(w.bundle(t, sign).Encode())(t)
		with := func(d ...evidence.Document) *evidence.Report {
			o := options
			o.Documents = d
			return w.verify(t, raw, o)
		}
		if r := with(documentOf("三", contents[2]), documentOf("一", contents[0])); r.Verdict != evidence.Passed {
			t.Fatalf("%+v", r)
		}
		for _, d := range []evidence.Document{documentOf("left out", contents[1]), documentOf("stranger", []byte("x"))} {
			if r := with(d); strings.Join(r.Broken(), " ") != evidence.LinkDocuments || r.Verdict != evidence.Failed {
				t.Errorf("%s: %+v", d.Name, r)
			}
		}
	})
	t.Run("other anchors", func(t *testing.T) {
		raw := must(w.bundle(t, sign).Encode())(t)
		o := options
		o.ServiceAnchors = nil
		if r := w.verify(t, raw, o); r.Verdict != evidence.Indeterminate || strings.Join(r.Broken(), " ") != evidence.LinkMobile {
			t.Errorf("without a service anchor: %+v", r)
		}
		o.Anchors, o.ServiceAnchors = options.ServiceAnchors, options.Anchors
		if r := w.verify(t, raw, o); r.Verdict != evidence.Failed || !strings.Contains(strings.Join(r.Broken(), " "), evidence.LinkCardChain) {
			t.Errorf("anchors mistaken for each other: %+v", r)
		}
	})
}

// everyBit makes the tests of changed evidence take minutes.
var everyBit = flag.Bool("every-bit", false, "change every byte and bit of the evidence, not a sample")

// changedBytes changes bytes of the file, anywhere in it.
func changedBytes(t *testing.T, w *world, raw []byte, o evidence.Options) {
	step := 13
	if *everyBit {
		step = 1
	}
	for i := rand.IntN(step); i < len(raw); i += step {
		changed := bytes.Clone(raw)
		changed[i] ^= byte(1 + rand.IntN(255))
		if r := w.verify(t, changed, o); r.Verdict == evidence.Passed || len(r.Broken()) == 0 {
			t.Fatalf("byte %d from %q to %q: %+v", i, raw[i], changed[i], r)
		}
	}
	if r := w.verify(t, raw, o); r.Verdict != evidence.Passed {
		t.Fatal("control")
	}
}

// parts are the byte strings of a bundle, with the links that a change of each
// may break.
func parts(b *evidence.Bundle) map[string]*evidence.Bytes {
	all := map[string]*evidence.Bytes{
		"card": &b.Card.Certificate, "proof": &b.Proof.CMS,
		"enrol content": &b.Registration.Content, "attestation": &b.Registration.AttestationObject, "enrol client": &b.Registration.ClientDataJSON,
		"content": &b.Approval.Content, "credential": &b.Approval.CredentialID, "key": &b.Approval.COSEKey,
		"authenticator data": &b.Approval.AuthenticatorData, "client data": &b.Approval.ClientDataJSON, "signature": &b.Approval.Signature,
		"mobile": &b.Mobile.Certificate,
	}
	for i := range b.Card.Issuers {
		all["card issuer"] = &b.Card.Issuers[i]
	}
	for i := range b.Card.Revocation {
		all["answer "+b.Card.Revocation[i].Source] = &b.Card.Revocation[i].Answer
		all["answer "+b.Card.Revocation[i].Source+" of"] = &b.Card.Revocation[i].Certificate
	}
	for i := range b.Mobile.Issuers {
		all["mobile issuer"] = &b.Mobile.Issuers[i]
	}
	for i := range b.Signatures {
		all["p7s"] = &b.Signatures[i].CMS
	}
	return all
}

// changedParts changes bits inside each byte string and makes the file whole
// again, as somebody would who means it: what is left to find the change is the
// chain alone. A long run (-every-bit) changes every bit.
func changedParts(t *testing.T, w *world, b *evidence.Bundle, o evidence.Options) {
	for name, part := range parts(b) {
		whole := *part
		step, bits := 1+len(whole)/250, []int{rand.IntN(8)}
		if *everyBit {
			step, bits = 1, []int{0, 1, 2, 3, 4, 5, 6, 7}
		}
		for i := rand.IntN(step); i < len(whole); i += step {
			for _, bit := range bits {
				*part = bytes.Clone(whole)
				(*part)[i] ^= 1 << bit
				if err := b.Seal(); err != nil {
					t.Fatal(err)
				}
				r := w.verify(t, must(b.Encode())(t), o)
				if broken := r.Broken(); r.Verdict == evidence.Passed || len(broken) == 0 || broken[0] == evidence.LinkForm {
					t.Errorf("%s: byte %d of %d, bit %d: %+v", name, i, len(whole), bit, r)
				}
			}
		}
		*part = whole
	}
	if err := b.Seal(); err != nil {
		t.Fatal(err)
	}
	if r := w.verify(t, must(b.Encode())(t), o); r.Verdict != evidence.Passed {
		t.Fatalf("control: %+v", r)
	}
}

// The way by hand of api/EVIDENCE.md, with openssl, command by command.
func TestEvidenceByHand(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"jq", "openssl", "xxd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not here")
		}
	}
	_, script, _ := strings.Cut(string(must(os.ReadFile("../../api/EVIDENCE.md"))(t)), "```sh\n")
	script, _, found := strings.Cut(script, "```")
	if !found {
		t.Fatal("EVIDENCE.md has no commands")
	}
	w := newWorld(t, nil)
	_, sign, contents := evidenceOrders(t, w)
	dir, b := t.TempDir(), w.bundle(t, sign)
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificatesIn(t, filepath.Join(cardsDir, "anchors"))[0].Raw})
	run := func() (string, error) {
		for name, data := range map[string][]byte{"evidence.json": must(b.Encode())(t), "root.pem": root, "document.pdf": contents[0],
			"ca.pem": must(os.ReadFile(w.anchors(t)))(t), "all.sh": []byte("set -eu\n" + script)} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(w.ctx, "bash", "all.sh")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"card", "proof", "attestation", "content", "signature"} {
		part := parts(b)[name]
		whole := *part
		*part = bytes.Clone(whole)
		(*part)[len(whole)-1] ^= 1
		if out, err := run(); err == nil {
			t.Errorf("%s is changed and the commands pass:\n%s", name, out)
		}
		*part = whole
	}
}
