package passkey

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/go-webauthn/webauthn/protocol"
	"github.com/google/uuid"
)

// attestationObject is the library's type, so that its format verifiers can be called.
type attestationObject = protocol.AttestationObject

// maxAttestationObject bounds the attestation object in bytes; TPM and
// android-key statements with their chains stay under 16 KiB.
const maxAttestationObject = 32 << 10

// maxChain bounds the certificates in x5c.
const maxChain = 8

// attestationDecoding refuses what no attestation object needs before the
// library sees it: other members, depth, count.
var attestationDecoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 6, MaxMapPairs: 16, MaxArrayElements: 16, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	if err != nil {
		panic(err) // the options above are constant
	}
	return mode
}()

// parseAttestationObject reads the CBOR map of WebAuthn Level 3 §6.5.4.
func parseAttestationObject(raw []byte) (attestationObject, error) {
	var object attestationObject
	if len(raw) == 0 || len(raw) > maxAttestationObject {
		return object, errors.New("attestation object has an impossible length")
	}
	var outer struct {
		Format    string          `cbor:"fmt"`
		Statement cbor.RawMessage `cbor:"attStmt"`
		AuthData  []byte          `cbor:"authData"`
	}
	if err := attestationDecoding.Unmarshal(raw, &outer); err != nil {
		return object, errors.New("attestation object is not the CBOR map it should be")
	}
	if outer.Format == "" || len(outer.Format) > 32 || len(outer.Statement) == 0 {
		return object, errors.New("attestation object lacks fmt or attStmt")
	}
	if err := object.UnmarshalCBOR(raw); err != nil {
		return object, errors.New("attestation statement is not CBOR of its format")
	}
	return object, nil
}

// judgeAttestation says whether the statement proves the model to us (attested)
// and what is known of it, or gives ErrAttestation when it is wrong or less than
// the policy asks (WebAuthn Level 3 §7.1 steps 21 to 24).
func (rp *RelyingParty) judgeAttestation(reg *registration, now time.Time) (attested bool, f Facts, err error) {
	object := reg.object
	refused := func(why string) (bool, Facts, error) { return false, Facts{}, ErrAttestation.Because(errors.New(why)) }

	// U2F knows no AAGUID: it is zero (FIDO conformance; stricter than §8.6).
	if object.Format == "fido-u2f" && reg.auth.aaguid != uuid.Nil {
		return refused("fido-u2f with an AAGUID")
	}
	hash := sha256.Sum256(reg.clientDataJSON)
	verified, why := verifyStatement(&object, hash[:])
	chain, err := statementChain(object)
	if err != nil {
		verified, why = false, err.Error()
	}
	switch object.Format {
	case "none", "packed", "fido-u2f":
		// Every phone can make these rightly: a wrong one is forged or broken.
		if !verified {
			return refused(why)
		}
	}
	var m model
	f, m = rp.facts(reg, chain, now)
	switch {
	case !verified || len(chain) == 0:
	case rp.trusted(chain):
		attested, f.Anchor = true, "configured"
	case m.anchors(chain, now):
		attested, f.Anchor = true, "metadata"
	}
	enforced := rp.cfg.Attestation == AttestationEnforced
	switch {
	case !enforced:
	case !verified:
		return refused(why)
	case object.Format == "none":
		return refused("no attestation")
	case len(chain) == 0:
		return refused("self attestation")
	case !attested:
		return refused("the attestation certificate leads to no configured root and to none of its model")
	case len(rp.cfg.PermittedAAGUIDs) > 0 && !slices.Contains(rp.cfg.PermittedAAGUIDs, reg.auth.aaguid):
		return refused("the model is not permitted")
	}
	return attested, f, rp.judgePolicy(reg, m, attested, &f, now)
}

// verifyStatement lets the library check the statement. Its error texts can hold
// what was expected, so only a plain sentence of ours goes on.
func verifyStatement(object *attestationObject, clientDataHash []byte) (ok bool, why string) {
	if err := object.AuthData.Unmarshal(object.RawAuthData); err != nil {
		return false, "the library cannot read the authenticator data"
	}
	policy := protocol.AttestationPolicy{}
	signature := protocol.SignaturePolicy{ECDSAEncoding: protocol.ECDSASignatureEncodingDER}
	if err := object.VerifyAttestation(clientDataHash, nil, policy, signature); err != nil {
		return false, "the attestation statement does not verify"
	}
	return true, ""
}

// statementChain gives the certificates of x5c, leaf first. A self-signed
// certificate behind the leaf is a root: it proves nothing and must not be sent.
func statementChain(object attestationObject) ([]*x509.Certificate, error) {
	list, _ := object.AttStatement["x5c"].([]any)
	if len(list) > maxChain {
		return nil, errors.New("x5c is too long")
	}
	var chain []*x509.Certificate
	for i, item := range list {
		der, _ := item.([]byte)
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, errors.New("x5c holds something that is no certificate")
		}
		if i > 0 && cert.CheckSignatureFrom(cert) == nil {
			return nil, errors.New("x5c holds the root")
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// trusted says whether the leaf leads to a configured root now. Without roots
// nothing is.
func (rp *RelyingParty) trusted(chain []*x509.Certificate) bool {
	return len(rp.cfg.AttestationRoots) > 0 && leadsTo(chain, rp.roots, time.Now())
}

// leadsTo says whether a chain, leaf first, ends at one of the roots.
func leadsTo(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) bool {
	if len(chain) == 0 {
		return false
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err == nil
}
