package certpath

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

func isRSA(pub crypto.PublicKey) bool {
	_, ok := pub.(*rsa.PublicKey)
	return ok
}

// ParseOCSPResponse reads a response. Nothing is verified here, except form and
// bounds. A responder's refusal comes back as an OCSPErrorStatus.
func ParseOCSPResponse(der []byte) (*OCSPResponse, error) {
	fail := func(what string) (*OCSPResponse, error) {
		return nil, errors.New("certpath: OCSP response: " + what)
	}
	if len(der) > maxOCSPResponseBytes {
		return fail("too large")
	}
	in := cryptobyte.String(der)
	var outer, wrapped, typed, octets cryptobyte.String
	var status int
	var oid asn1.ObjectIdentifier
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() || !outer.ReadASN1Enum(&status) {
		return fail("malformed")
	}
	if status != 0 {
		return nil, OCSPErrorStatus(status)
	}
	if !outer.ReadASN1(&wrapped, explicit(0)) || !outer.Empty() ||
		!wrapped.ReadASN1(&typed, cbasn1.SEQUENCE) || !wrapped.Empty() ||
		!typed.ReadASN1ObjectIdentifier(&oid) || !typed.ReadASN1(&octets, cbasn1.OCTET_STRING) || !typed.Empty() {
		return fail("malformed")
	}
	if !oid.Equal(oidOCSPBasic) {
		return fail("not a basic response")
	}
	r := &OCSPResponse{Raw: der}
	if err := r.readBasic(octets); err != nil {
		return fail(err.Error())
	}
	return r, nil
}

func (r *OCSPResponse) readBasic(in cryptobyte.String) error {
	var basic, tbs, certs cryptobyte.String
	var sig asn1.BitString
	var present bool
	malformed := errors.New("malformed basic response")
	if !in.ReadASN1(&basic, cbasn1.SEQUENCE) || !in.Empty() || !basic.ReadASN1Element(&tbs, cbasn1.SEQUENCE) {
		return malformed
	}
	oid, params, ok := readAlgorithm(&basic)
	if !ok || !basic.ReadASN1BitString(&sig) || sig.BitLength%8 != 0 ||
		!basic.ReadOptionalASN1(&certs, &present, explicit(0)) || !basic.Empty() {
		return malformed
	}
	alg, err := signatureAlgorithm(oid, params)
	if err != nil {
		return err
	}
	r.tbs, r.algorithm, r.signature = tbs, alg, sig.Bytes
	if present {
		if err := r.readCertificates(certs); err != nil {
			return err
		}
	}
	return r.readData(tbs)
}

func (r *OCSPResponse) readCertificates(in cryptobyte.String) error {
	var list cryptobyte.String
	if !in.ReadASN1(&list, cbasn1.SEQUENCE) || !in.Empty() {
		return errors.New("malformed certificates")
	}
	for !list.Empty() {
		var raw cryptobyte.String
		if len(r.Certificates) == maxOCSPItems || !list.ReadASN1Element(&raw, cbasn1.SEQUENCE) {
			return errors.New("malformed or too many certificates")
		}
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			return err
		}
		r.Certificates = append(r.Certificates, cert)
	}
	return nil
}

// readData reads ResponseData (RFC 6960 §4.2.1).
func (r *OCSPResponse) readData(in cryptobyte.String) error {
	var data, list cryptobyte.String
	var version int
	malformed := errors.New("malformed response data")
	if !in.ReadASN1(&data, cbasn1.SEQUENCE) || !data.ReadOptionalASN1Integer(&version, explicit(0), 0) || version != 0 {
		return malformed
	}
	var name, key cryptobyte.String
	switch {
	case data.PeekASN1Tag(explicit(1)):
		if !data.ReadASN1(&name, explicit(1)) || len(name) == 0 {
			return malformed
		}
		r.ResponderName = name
	case data.PeekASN1Tag(explicit(2)):
		if !data.ReadASN1(&key, explicit(2)) || !key.ReadASN1Bytes((*[]byte)(&r.ResponderKeyHash), cbasn1.OCTET_STRING) ||
			!key.Empty() || len(r.ResponderKeyHash) != crypto.SHA1.Size() {
			return malformed
		}
	default:
		return malformed
	}
	if !data.ReadASN1GeneralizedTime(&r.ProducedAt) || !data.ReadASN1(&list, cbasn1.SEQUENCE) {
		return malformed
	}
	for !list.Empty() {
		if len(r.Statuses) == maxOCSPItems {
			return errors.New("too many answers")
		}
		s, err := readSingle(&list)
		if err != nil {
			return err
		}
		r.Statuses = append(r.Statuses, s)
	}
	exts, err := readExtensions(&data, 1)
	if err != nil || !data.Empty() {
		return malformed
	}
	r.Nonce, err = nonceOf(exts)
	return err
}

func readSingle(list *cryptobyte.String) (SingleStatus, error) {
	var s SingleStatus
	var item, next cryptobyte.String
	var present bool
	malformed := errors.New("malformed single response")
	if !list.ReadASN1(&item, cbasn1.SEQUENCE) {
		return s, malformed
	}
	var err error
	if s.ID, err = readCertID(&item); err != nil {
		return s, err
	}
	if err := readStatus(&item, &s); err != nil {
		return s, err
	}
	if !item.ReadASN1GeneralizedTime(&s.ThisUpdate) || !item.ReadOptionalASN1(&next, &present, explicit(0)) {
		return s, malformed
	}
	if present && (!next.ReadASN1GeneralizedTime(&s.NextUpdate) || !next.Empty()) {
		return s, malformed
	}
	exts, err := readExtensions(&item, 1)
	if err != nil || !item.Empty() {
		return s, malformed
	}
	for _, e := range exts {
		if e.critical {
			return s, fmt.Errorf("critical extension %s is not known", e.oid)
		}
	}
	return s, nil
}

func readStatus(item *cryptobyte.String, s *SingleStatus) error {
	var body, reason cryptobyte.String
	var tag cbasn1.Tag
	var present bool
	malformed := errors.New("malformed status")
	if !item.ReadAnyASN1(&body, &tag) {
		return malformed
	}
	switch tag {
	case cbasn1.Tag(0).ContextSpecific():
		s.Status = StatusGood
	case cbasn1.Tag(2).ContextSpecific():
		s.Status = StatusUnknown
	case explicit(1):
		s.Status = StatusRevoked
		if !body.ReadASN1GeneralizedTime(&s.RevokedAt) || !body.ReadOptionalASN1(&reason, &present, explicit(0)) {
			return malformed
		}
		if present && (!reason.ReadASN1Enum(&s.Reason) || !reason.Empty() || s.Reason < 0 || s.Reason > 10) {
			return malformed
		}
	default:
		return malformed
	}
	if !body.Empty() {
		return malformed
	}
	return nil
}

// Responder finds who signed the response and checks, for a certificate that
// issuer has issued, that this signer is entitled to answer (RFC 6960 §4.2.2.2):
// the issuer itself, or a certificate directly issued by it that carries
// id-kp-OCSPSigning. at is the time for the responder certificate's validity.
// A delegated responder must carry id-pkix-ocsp-nocheck or be vouched for by
// notRevoked, which may be nil (§4.2.2.2.1).
func (r *OCSPResponse) Responder(issuer *x509.Certificate, at time.Time, notRevoked func(*x509.Certificate) error) (*x509.Certificate, error) {
	return r.responder(issuer, at, DefaultSignatureAlgorithms, notRevoked)
}

func (r *OCSPResponse) responder(issuer *x509.Certificate, at time.Time, allowed []x509.SignatureAlgorithm, notRevoked func(*x509.Certificate) error) (*x509.Certificate, error) {
	if !slices.Contains(allowed, r.algorithm) {
		return nil, fmt.Errorf("certpath: OCSP response: signature algorithm %s is not allowed", r.algorithm)
	}
	var reasons []error
	for _, cand := range append([]*x509.Certificate{issuer}, r.Certificates...) {
		if !r.names(cand) {
			continue
		}
		if err := cand.CheckSignature(r.algorithm, r.tbs, r.signature); err != nil {
			reasons = append(reasons, err)
			continue
		}
		if bytes.Equal(cand.Raw, issuer.Raw) {
			return cand, nil
		}
		if err := delegated(cand, issuer, at, allowed, notRevoked); err != nil {
			reasons = append(reasons, err)
			continue
		}
		return cand, nil
	}
	return nil, fmt.Errorf("certpath: OCSP response is not signed by an authorised responder: %w", errors.Join(reasons...))
}

// names tells whether the responder ID fits the certificate.
func (r *OCSPResponse) names(cert *x509.Certificate) bool {
	if r.ResponderName != nil {
		return bytes.Equal(r.ResponderName, cert.RawSubject)
	}
	key, err := subjectPublicKey(cert)
	return err == nil && bytes.Equal(r.ResponderKeyHash, sum(crypto.SHA1, key))
}

func delegated(cert, issuer *x509.Certificate, at time.Time, allowed []x509.SignatureAlgorithm, notRevoked func(*x509.Certificate) error) error {
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		return errors.New("responder was issued by another CA")
	}
	if !slices.Contains(allowed, cert.SignatureAlgorithm) || !signedBy(cert, issuer) {
		return errors.New("responder certificate: signature does not verify, or not with an allowed algorithm")
	}
	if at.Before(cert.NotBefore) || at.After(cert.NotAfter) {
		return errors.New("responder certificate is outside its validity")
	}
	if len(cert.UnhandledCriticalExtensions) > 0 {
		return errors.New("responder certificate has an unknown critical extension")
	}
	if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return errors.New("responder certificate lacks id-kp-OCSPSigning")
	}
	if cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("responder certificate's key usage does not allow signing")
	}
	if k, ok := cert.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
		return errors.New("responder key is too short")
	}
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidOCSPNoCheck) {
			return nil
		}
	}
	if notRevoked == nil {
		return errors.New("responder certificate may be revoked and cannot be checked")
	}
	return notRevoked(cert)
}
