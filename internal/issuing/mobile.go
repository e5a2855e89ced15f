package issuing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/certpath"
)

// maxLife is the longest life of a mobile certificate.
const maxLife = 365 * 24 * time.Hour

// The subject directory attributes of the government PKI (RFC 5280 §4.2.1.8).
var (
	oidDirectoryAttributes = asn1.ObjectIdentifier{2, 5, 29, 9}
	oidSubjectType         = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 2, 1}
	oidCardType            = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 2, 2}
	oidIDLast4             = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 2, 51}
)

// cardTypeMobile is the card type of a mobile certificate.
const cardTypeMobile = "mobile"

// Issue makes a mobile certificate. See Issuer.
func (ca *CA) Issue(ctx context.Context, r MobileRequest) (Certificate, error) {
	issuer, err := ca.authority(ctx, Issuing)
	if err != nil {
		return Certificate{}, err
	}
	tpl, err := ca.mobileTemplate(r, issuer.cert)
	if err != nil {
		return Certificate{}, err
	}
	of, err := ca.partsNow(ctx)
	if err != nil {
		return Certificate{}, err
	}
	serial := tpl.SerialNumber.FillBytes(make([]byte, serialSize))
	list := partOf(serial, of)
	tpl.CRLDistributionPoints = ca.points(list)
	tbs, err := ca.lint(tpl, issuer.cert, r)
	if err != nil {
		return Certificate{}, err
	}
	signer, err := ca.signer(ctx, issuer)
	if err != nil {
		return Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, issuer.cert, r.PublicKey, signer)
	if err != nil {
		return Certificate{}, fmt.Errorf("issuing: sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Certificate{}, fmt.Errorf("issuing: own certificate: %w", err)
	}
	if !bytes.Equal(cert.RawTBSCertificate, tbs) {
		return Certificate{}, errors.New("issuing: the signed certificate is not the one that was checked")
	}
	return Certificate{
		ID: uuid.Must(uuid.NewV7()), Serial: serial, List: list,
		CitizenID: r.CitizenID, DeviceID: r.DeviceID, KeyID: r.KeyID, Authority: Issuing, DER: der,
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, State: Good,
		CreatedAt: ca.cfg.Now().UTC().Truncate(time.Microsecond),
	}, nil
}

// mobileTemplate builds the profile of reference/tw-fido.md §3.1.
func (ca *CA) mobileTemplate(r MobileRequest, issuer *x509.Certificate) (*x509.Certificate, error) {
	if r.Citizen == nil || r.PublicKey == nil {
		return nil, ErrProfile.Because(errors.New("citizen certificate and key are needed"))
	}
	info, err := certpath.ParseCitizen(r.Citizen)
	if err != nil {
		return nil, ErrProfile.Because(err)
	}
	attributes, err := ca.profile.directoryAttributes(info)
	if err != nil {
		return nil, ErrProfile.Because(err)
	}
	notBefore, notAfter := ca.validity(r, issuer)
	t := &x509.Certificate{
		SerialNumber:    new(big.Int).SetBytes(newSerial()),
		RawSubject:      r.Citizen.RawSubject, // byte for byte: same person, same name
		NotBefore:       notBefore,
		NotAfter:        notAfter,
		KeyUsage:        ca.profile.usage,
		Policies:        ca.profile.policies,
		SubjectKeyId:    keyIdentifier(r.PublicKey),
		ExtraExtensions: []pkix.Extension{attributes},
	}
	ca.addLocations(t)
	return t, nil
}

// validity cuts what was asked to what is allowed.
func (ca *CA) validity(r MobileRequest, issuer *x509.Certificate) (from, to time.Time) {
	from = r.NotBefore
	if from.IsZero() {
		from = ca.cfg.Now().Add(-clockSkew)
	}
	from = from.UTC().Truncate(time.Second)
	for _, c := range []*x509.Certificate{r.Citizen, issuer} {
		if from.Before(c.NotBefore) {
			from = c.NotBefore
		}
	}
	to = from.Add(ca.profile.life - time.Second) // both ends count (RFC 5280 §4.1.2.5)
	for _, end := range []time.Time{r.NotAfter, r.Citizen.NotAfter, issuer.NotAfter} {
		if !end.IsZero() && end.Before(to) {
			to = end
		}
	}
	return from, to.UTC().Truncate(time.Second)
}

// lint signs the template with a throw-away key, so that the very bytes to be
// signed are checked before the CA's key touches them, and returns those bytes.
func (ca *CA) lint(tpl, issuer *x509.Certificate, r MobileRequest) (tbs []byte, err error) {
	key, err := ca.throwAwayKey(issuer.PublicKey)
	if err != nil {
		return nil, err
	}
	stand := *issuer
	stand.PublicKey = key.Public()
	der, err := x509.CreateCertificate(rand.Reader, tpl, &stand, r.PublicKey, key)
	if err != nil {
		return nil, ErrProfile.Because(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, ErrProfile.Because(err)
	}
	if err := ca.CheckProfile(cert, issuer, r.Citizen); err != nil {
		return nil, err
	}
	return cert.RawTBSCertificate, nil
}

// throwAwayKey is a key of the issuer's kind that is worth nothing.
func (ca *CA) throwAwayKey(like crypto.PublicKey) (crypto.Signer, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if ca.lintKey != nil {
		return ca.lintKey, nil
	}
	var err error
	switch p := like.(type) {
	case *ecdsa.PublicKey:
		ca.lintKey, err = ecdsa.GenerateKey(p.Curve, rand.Reader)
	case *rsa.PublicKey:
		ca.lintKey, err = rsa.GenerateKey(rand.Reader, p.N.BitLen())
	default:
		ca.lintKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	return ca.lintKey, err
}
