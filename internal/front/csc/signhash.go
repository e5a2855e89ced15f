package csc

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/front"
	"sealgate/internal/order"
	"sealgate/internal/signing"
)

// signHash hands out the signature values for hashes that the person approved
// (CSC API 2.0.0.2 §11.10), each once. They were made when the order was
// completed; here no key does anything.
func (d *Door) signHash(r *http.Request, c caller, in input) (any, error) {
	sad, err := d.activation(r.Context(), c, in)
	if err != nil {
		return nil, err
	}
	asked, err := d.readSignHash(c, sad, in)
	if err != nil {
		return nil, err
	}
	credential, err := d.credentialOf(r.Context(), sad.Certificate)
	if err != nil {
		return nil, err
	}
	if err := credential.expired(now()); err != nil {
		return nil, err
	}
	o, content, err := d.asked(r.Context(), sad.Order)
	if err != nil {
		return nil, err
	}
	if err := credential.makes(asked.isRSA); err != nil {
		return nil, err
	}
	documents, err := match(o, content, sad, asked)
	if err != nil {
		return nil, err
	}
	values, err := d.values(r.Context(), sad, documents)
	if err != nil {
		return nil, err
	}
	e := caller{c.client, sad}.entry(audit.OrderCollected).WithInt(audit.KeySigned, len(documents))
	if ip := front.ClientIP(r); ip.IsValid() {
		e = e.From(ip)
	}
	err = d.cfg.Store.Spend(r.Context(), sad.Order, documents, now(), e)
	if errors.Is(err, ErrSpent) {
		return nil, errHashSpent // another call was faster, or the token ended in this moment
	}
	if err != nil {
		return nil, err
	}
	return struct {
		Signatures []string `json:"signatures"`
	}{values}, nil
}

// activation finds the signature activation data of a call: the bearer itself,
// where it has scope credential, else parameter SAD. It must be the same client's
// and the same citizen's as the bearer.
func (d *Door) activation(ctx context.Context, c caller, in input) (*Token, error) {
	text, err := in.text("SAD")
	if err != nil {
		return nil, err
	}
	if c.token.Scope == ScopeCredential {
		if text != "" && text != d.tokenString(c.token.Order) {
			return nil, errSADTwice
		}
		return c.token, nil
	}
	if text == "" {
		return nil, missing("string", "SAD")
	}
	id, err := d.parseToken(text)
	if err != nil {
		return nil, errSAD
	}
	t, err := d.live(ctx, text)
	switch {
	case errors.Is(err, errToken):
		return nil, errSAD
	case t != nil && (t.Client != c.token.Client || t.Citizen != c.token.Citizen):
		return nil, errSADForeign
	case errors.Is(err, errTokenExpired):
		return nil, errSADExpired
	case err != nil:
		return nil, err
	case t.Scope != ScopeCredential || t.Order != id:
		return nil, errSAD
	}
	return t, nil
}

// askedHashes is what a call wants signed.
type askedHashes struct {
	digests   [][]byte
	algorithm string // of the digests, as orders name it
	isRSA     bool
}

// readSignHash checks the parameters of a call.
func (d *Door) readSignHash(c caller, sad *Token, in input) (*askedHashes, error) {
	id, err := d.id(in, c.client)
	if err != nil {
		return nil, err
	}
	if id != sad.Certificate {
		return nil, errCredential
	}
	mode, err := in.text("operationMode")
	if err != nil {
		return nil, err
	}
	if mode != "" && mode != "S" {
		return nil, wrong("operationMode")
	}
	out := &askedHashes{}
	if err := out.readAlgorithm(in); err != nil {
		return nil, err
	}
	var list []string
	if !in.has("hashes") || json.Unmarshal(in["hashes"], &list) != nil {
		return nil, missing("array", "hashes")
	}
	if len(list) == 0 {
		return nil, errHashEmpty
	}
	if len(list) > d.cfg.Most {
		return nil, errHashForeign
	}
	_, size := hashByOID(oidOfHash(out.algorithm))
	for _, text := range list {
		raw, ok := decodeHash(text)
		if !ok {
			return nil, errHashBase64
		}
		if len(raw) != size {
			return nil, errHashLength
		}
		out.digests = append(out.digests, raw)
	}
	return out, nil
}

// readAlgorithm reads signAlgo, with hashAlgorithmOID where it does not imply the hash.
func (a *askedHashes) readAlgorithm(in input) error {
	algo, err := in.needed("signAlgo")
	if err != nil {
		return err
	}
	if in.has("signAlgoParams") {
		return wrong("signAlgoParams") // none of the algorithms has any
	}
	oid, err := in.text("hashAlgorithmOID")
	if err != nil {
		return err
	}
	for _, known := range signAlgorithms {
		if known.oid != algo {
			continue
		}
		a.isRSA, a.algorithm = known.rsa, known.hash
		if known.hash != "" {
			return nil // implied: hashAlgorithmOID is ignored
		}
		if oid == "" {
			return missing("string", "hashAlgorithmOID")
		}
		if a.algorithm, _ = hashByOID(oid); a.algorithm == "" {
			return wrong("hashAlgorithmOID")
		}
		return nil
	}
	return wrong("signAlgo")
}

// match finds the documents of an order that hashes name: approved, not left out,
// each once.
func match(o *order.Order, content order.Content, sad *Token, asked *askedHashes) ([]int, error) {
	byDigest := map[string]int{}
	for i, document := range content.Documents {
		if document.DigestAlgorithm == asked.algorithm && !slices.Contains(o.LeftOut, i) && o.Failures[i] == "" {
			byDigest[document.Digest] = i
		}
	}
	out := make([]int, 0, len(asked.digests))
	for _, raw := range asked.digests {
		i, ok := byDigest[encodeDigest(raw)]
		switch {
		case !ok:
			return nil, errHashForeign
		case slices.Contains(out, i), slices.Contains(sad.Spent, i):
			return nil, errHashSpent
		}
		out = append(out, i)
	}
	return out, nil
}

// values reads the signatures and makes sure that each is the certificate's over the
// very document.
func (d *Door) values(ctx context.Context, sad *Token, documents []int) ([]string, error) {
	made, err := d.cfg.Signing.Signatures(ctx, sad.Order)
	if err != nil {
		return nil, err
	}
	byDocument := make(map[int]signing.Signature, len(made))
	for _, s := range made {
		byDocument[s.Document] = s
	}
	out := make([]string, len(documents))
	for i, n := range documents {
		s, ok := byDocument[n]
		if !ok || s.Certificate != sad.Certificate || s.Form != signing.FormPKCS1 {
			return nil, errHashForeign
		}
		out[i] = encodeStandard(s.DER)
	}
	return out, nil
}

// expired says whether the certificate of signature activation data can still be
// relied on: a signature that was made stays good, but software would find its
// certificate revoked or ended.
func (c *Credential) expired(at time.Time) error {
	switch c.status(at) {
	case "valid":
		return nil
	case "expired":
		return errCertificate
	}
	return errDisabled
}

// makes says whether the certificate's key makes signatures of a kind.
func (c *Credential) makes(isRSA bool) error {
	cert, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return err
	}
	if _, is := cert.PublicKey.(*rsa.PublicKey); is != isRSA {
		return wrong("signAlgo")
	}
	return nil
}

// credentialOf reads the certificate of a token.
func (d *Door) credentialOf(ctx context.Context, certificate uuid.UUID) (*Credential, error) {
	it, err := d.cfg.Store.Credential(ctx, certificate)
	if errors.Is(err, ErrCredentialUnknown) {
		return nil, errDisabled
	}
	return it, err
}
