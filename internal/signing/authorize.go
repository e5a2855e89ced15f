package signing

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/passkey"
)

// Evidence is a kept approval together with what it is said to allow. Every
// field is checked against the others by Authorize.
type Evidence struct {
	Order   uuid.UUID
	Content []byte // as approved
	LeftOut []int

	// The approval, as the phone made it.
	Citizen, Device   uuid.UUID
	CredentialID      []byte
	COSEKey           []byte
	AuthenticatorData []byte
	ClientDataJSON    []byte
	Signature         []byte
	RPID              string
	// Origins that were allowed.
	Origins []string

	// OrderContent is the order's own copy of the content.
	OrderContent []byte
	// The device's row: whose it is and its credential.
	DeviceCitizen      uuid.UUID
	DeviceCredentialID []byte
	DeviceCOSEKey      []byte

	// The authorization that the approval's transaction stored.
	Granted Grant
	// Certificate is the mobile certificate that the authorization names.
	Certificate issuing.Certificate
}

// Grant is the stored authorization row.
type Grant struct {
	Citizen, Device, Certificate, Key uuid.UUID
	DigestsHash                       [32]byte
}

// Authorization lets one key sign exactly the digests of one approval. Only
// Authorize makes one; the zero value allows nothing.
type Authorization struct {
	order, citizen, device, key uuid.UUID
	digestsHash                 [32]byte
	documents                   []Document
	level                       string
	embed                       bool // the evidence goes into each signature
	certificate                 issuing.Certificate
	parsed                      *x509.Certificate
}

// Authorize verifies evidence from the beginning, trusting none of the rows by
// itself: the assertion, by the device's own credential, over the content and
// what was left out; the same citizen, device, certificate and key everywhere;
// and that the stored authorization names exactly the digests that follow from
// the content. The error is ErrEvidence or ErrContent.
func Authorize(e Evidence) (Authorization, error) {
	c, documents, err := read(e.Content, e.LeftOut)
	if err != nil {
		return Authorization{}, err
	}
	if err := e.consistent(c); err != nil {
		return Authorization{}, ErrEvidence.Because(err)
	}
	hash := c.digestsHash()
	if hash != e.Granted.DigestsHash {
		return Authorization{}, ErrEvidence.Because(errors.New("the authorization is for other digests"))
	}
	challenge := Challenge(e.Content, e.LeftOut)
	if _, err := passkey.VerifyOffline(passkey.Evidence{
		AuthenticatorData: e.AuthenticatorData, ClientDataJSON: e.ClientDataJSON, Signature: e.Signature,
		PublicKey: e.DeviceCOSEKey, RPID: e.RPID, Origins: e.Origins, Challenge: challenge[:],
	}); err != nil {
		return Authorization{}, ErrEvidence.Because(err)
	}
	cert, err := x509.ParseCertificate(e.Certificate.DER)
	if err != nil {
		return Authorization{}, ErrEvidence.Because(err)
	}
	return Authorization{
		order: e.Order, citizen: e.Citizen, device: e.Device, key: e.Granted.Key,
		digestsHash: hash, documents: documents, level: c.Level, embed: c.Evidence == EvidenceEmbedded,
		certificate: e.Certificate, parsed: cert,
	}, nil
}

// consistent holds the parts of the evidence against each other.
func (e Evidence) consistent(c content) error {
	cert := e.Certificate
	for _, rule := range []struct {
		ok   bool
		what string
	}{
		{c.Order == base64.RawURLEncoding.EncodeToString(e.Order[:]), "the content is another order's"},
		{bytes.Equal(e.Content, e.OrderContent), "the order's content is not the approved one"},
		{e.Citizen == e.DeviceCitizen && e.Citizen == e.Granted.Citizen && e.Citizen == cert.CitizenID, "more than one citizen"},
		{e.Device == e.Granted.Device && e.Device == cert.DeviceID, "more than one device"},
		{e.Granted.Certificate == cert.ID && e.Granted.Key == cert.KeyID, "another certificate or key"},
		{bytes.Equal(e.CredentialID, e.DeviceCredentialID) && bytes.Equal(e.COSEKey, e.DeviceCOSEKey), "not the device's credential"},
	} {
		if !rule.ok {
			return errors.New(rule.what)
		}
	}
	return nil
}

// authorize is Authorize for this service's relying party, and with a
// certificate that may sign now.
func (s *Service) authorize(e Evidence, now time.Time) (Authorization, error) {
	if e.RPID != s.cfg.RPID {
		return Authorization{}, ErrEvidence.Because(fmt.Errorf("the approval was made for relying party %q", e.RPID))
	}
	e.Origins = s.cfg.Origins
	auth, err := Authorize(e)
	if err != nil {
		return Authorization{}, err
	}
	switch {
	case auth.certificate.State != issuing.Good:
		return Authorization{}, ErrCertificate.Because(fmt.Errorf("certificate is %s", auth.certificate.State))
	case now.Before(auth.parsed.NotBefore) || now.After(auth.parsed.NotAfter):
		return Authorization{}, ErrCertificate.Because(errors.New("certificate is out of its time"))
	}
	return auth, nil
}

func (a Authorization) entry(act audit.Act) audit.Entry {
	return audit.New(act).Order(a.order).Citizen(a.citizen).Device(a.device).
		With(audit.KeySerial, fmt.Sprintf("%x", a.certificate.Serial))
}

// sign makes all signatures of an authorization: first everything that is to be
// signed, then the permit for exactly that, and only then the key is opened.
func (s *Service) sign(ctx context.Context, a Authorization, earlier map[int][]byte, now time.Time) ([]Signature, map[int]string, error) {
	chain, err := s.cfg.Chain(ctx, a.certificate.Authority)
	if err != nil {
		return nil, nil, err
	}
	batch, err := prepare(a, withoutRoots(chain), now)
	if err != nil {
		return nil, nil, err
	}
	batch.earlier = earlier
	if a.embed {
		if s.cfg.Evidence == nil {
			return nil, nil, ErrContent.Because(errors.New("no evidence can be made here"))
		}
		if batch.evidence, err = s.cfg.Evidence(ctx, a.order); err != nil {
			return nil, nil, err
		}
	}
	permit, err := keyring.NewPermit(a.order, a.key, a.digestsHash, batch.values)
	if err != nil {
		return nil, nil, err
	}
	key, err := s.cfg.Keys.OpenCitizenKey(ctx, permit)
	if err != nil {
		return nil, nil, err
	}
	defer key.Close()
	return batch.sign(ctx, key, now)
}

// withoutRoots leaves out self-signed certificates: whoever verifies must have
// the anchor from elsewhere.
func withoutRoots(chain []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range chain {
		if !bytes.Equal(c.RawSubject, c.RawIssuer) {
			out = append(out, c)
		}
	}
	return out
}
