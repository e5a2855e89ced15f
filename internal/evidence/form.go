package evidence

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// Bytes are written as base64url without padding.
type Bytes []byte

// strict refuses padding, line ends and trailing bits, so that one byte string
// has one spelling.
var strict = base64.RawURLEncoding.Strict()

// MarshalText encodes.
func (b Bytes) MarshalText() ([]byte, error) { return strict.AppendEncode([]byte{}, b), nil }

// UnmarshalText decodes.
func (b *Bytes) UnmarshalText(text []byte) error {
	if bytes.ContainsAny(text, "\r\n") { // which the decoder would pass over
		return errors.New("line end in base64url")
	}
	raw, err := strict.AppendDecode([]byte{}, text)
	*b = raw
	return err
}

// Encode gives the file: one line of JSON in the order of Bundle's members, no
// white space, no line end.
func (b *Bundle) Encode() ([]byte, error) { return json.Marshal(b) }

// Seal sets the bundle's hash.
func (b *Bundle) Seal() error {
	sum, err := b.hash()
	b.SHA256 = sum
	return err
}

// hash is SHA-256 over the bundle without the hash.
func (b *Bundle) hash() ([]byte, error) {
	bare := struct {
		*Bundle
		SHA256 bool `json:"sha256,omitempty"` // hides the member
	}{Bundle: b}
	raw, err := json.Marshal(bare)
	sum := sha256.Sum256(raw)
	return sum[:], err
}

// Parse reads a bundle. It is the text that Encode gives, with any white space
// between its parts; other members, members twice or in another order, and
// other spellings are refused. Nothing is verified.
func Parse(raw []byte) (*Bundle, error) {
	if len(raw) > MaxBytes {
		return nil, ErrMalformed.Because(errors.New("too large"))
	}
	b := &Bundle{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(b); err != nil {
		return nil, ErrMalformed.Because(err)
	}
	if err := b.bounds(); err != nil {
		return nil, ErrMalformed.Because(err)
	}
	again, err := b.Encode()
	if err != nil {
		return nil, ErrMalformed.Because(err)
	}
	var plain bytes.Buffer
	if err := json.Compact(&plain, raw); err != nil {
		return nil, ErrMalformed.Because(err)
	}
	if !bytes.Equal(plain.Bytes(), again) {
		return nil, ErrMalformed.Because(errors.New("not in the one form that a bundle has"))
	}
	return b, nil
}

// bounds checks what has to be there, and how much of it.
func (b *Bundle) bounds() error {
	switch {
	case b.Type != Type || b.Version < 1 || b.Version > Version:
		return fmt.Errorf("type %.40q, version %d", b.Type, b.Version)
	case b.Approval == nil:
		return errors.New("the approval is missing")
	case len(b.Signatures) > maxSignatures || len(b.Approval.LeftOut) > maxLeftOut:
		return errors.New("a list is too long")
	case b.Approval.LeftOut == nil || b.Mobile != nil && b.Mobile.Issuers == nil:
		return errors.New("a list is missing")
	case len(b.Approval.RPID) > maxText || len(b.Approval.Origin) > maxText:
		return errors.New("rp_id or origin is too long")
	case b.Approval.Inclusion != nil && (b.Approval.Inclusion.Path == nil || len(b.Approval.Inclusion.Path) > maxPath || len(b.Approval.LeftOut) > 0):
		return errors.New("the proof of one document is not one")
	case b.Signatures != nil && len(b.Signatures) == 0, b.Signatures != nil && b.Mobile == nil:
		return errors.New("signatures without their certificate")
	}
	if err := b.Binding.bounds(b.Version, 1); err != nil {
		return err
	}
	return errors.Join(b.sizes()...)
}

// bounds checks a binding, and the one inside it.
func (b *Binding) bounds(version, depth int) error {
	switch {
	case depth > MaxDepth:
		return errors.New("too many bindings in a row")
	case b.Card == nil || b.Registration == nil:
		return errors.New("card or registration is missing")
	case len(b.Card.Revocation) > maxRevocation:
		return errors.New("a list is too long")
	case b.Card.Issuers == nil || b.Card.Revocation == nil:
		return errors.New("a list is missing")
	case (version == 1) != (b.Proof == nil), (version == 1) != (b.Card.Proof != nil):
		return errors.New("the proof is not where this version has it")
	}
	var s sizer
	b.sizes(&s)
	if err := errors.Join(s...); err != nil || version == 1 {
		return err
	}
	return b.Proof.bounds(version, depth)
}

// bounds checks that a proof has what its kind has, and nothing else.
func (p *Proof) bounds(version, depth int) error {
	var s sizer
	s.size("the proof", p.CMS, 0, maxProof)
	s.size("the statement", p.Statement, 0, maxOther)
	s.size("the authenticator data of the proof", p.AuthenticatorData, 0, maxOther)
	s.size("the client data of the proof", p.ClientDataJSON, 0, maxClientData)
	s.size("the signature of the proof", p.Signature, 0, maxOther)
	if len(s) > 0 {
		return errors.Join(s...)
	}
	device := p.Statement != nil || p.AuthenticatorData != nil || p.ClientDataJSON != nil || p.Signature != nil || p.By != nil || p.Registrars != nil
	switch p.Kind {
	case KindCard:
		if len(p.CMS) == 0 || device {
			return errors.New("not the proof of a card")
		}
	case KindDevice:
		if p.CMS != nil || len(p.Statement) == 0 || len(p.AuthenticatorData) == 0 || len(p.ClientDataJSON) == 0 || len(p.Signature) == 0 || p.By == nil || p.Registrars != nil {
			return errors.New("not the proof of a phone")
		}
		return p.By.bounds(version, depth+1)
	case KindRegistrar:
		if p.CMS != nil || len(p.Statement) == 0 || p.AuthenticatorData != nil || p.ClientDataJSON != nil || p.Signature != nil || p.By != nil || len(p.Registrars) != 2 {
			return errors.New("not the proof of two registrars")
		}
		for i := range p.Registrars {
			p.Registrars[i].sizes(&s)
		}
		return errors.Join(s...)
	default:
		return fmt.Errorf("a proof of kind %.20q", p.Kind)
	}
	return nil
}

// sizer gathers what is too short or too long.
type sizer []error

func (s *sizer) size(name string, v Bytes, least, most int) {
	if len(v) < least || len(v) > most {
		*s = append(*s, fmt.Errorf("%s has %d bytes", name, len(v)))
	}
}

func (s *sizer) issuers(list []Bytes) {
	if len(list) > maxIssuers {
		*s = append(*s, errors.New("too many issuers"))
	}
	for _, c := range list {
		s.size("an issuer", c, 1, maxCertificate)
	}
}

func (b *Binding) sizes(s *sizer) {
	s.size("the card's certificate", b.Card.Certificate, 1, maxCertificate)
	s.size("the card's proof", b.Card.Proof, 0, maxProof)
	s.issuers(b.Card.Issuers)
	for _, a := range b.Card.Revocation {
		s.size("the hash of a certificate", a.Certificate, 32, 32)
		if len(a.Answer) > 0 && len(a.SHA256) > 0 {
			*s = append(*s, errors.New("an answer and its hash"))
		}
		if len(a.Answer) == 0 {
			s.size("the hash of an answer", a.SHA256, 32, 32)
		}
		s.size("an answer", a.Answer, 0, maxAnswer)
	}
	s.size("the enrol order's content", b.Registration.Content, 0, maxContent)
	s.size("the attestation object", b.Registration.AttestationObject, 1, maxAttestation)
	s.size("the registration's client data", b.Registration.ClientDataJSON, 1, maxClientData)
}

func (b *Bundle) sizes() []error {
	var s sizer
	a := b.Approval
	s.size("the content", a.Content, 1, maxContent)
	s.size("the client data", a.ClientDataJSON, 1, maxClientData)
	for _, v := range []Bytes{a.CredentialID, a.COSEKey, a.AuthenticatorData, a.Signature} {
		s.size("a part of the approval", v, 1, maxOther)
	}
	if i := a.Inclusion; i != nil {
		s.size("the document", Bytes(i.Document), 1, maxOther)
		for _, h := range append([]Bytes{i.Root}, i.Path...) {
			s.size("a hash of the proof", h, 32, 32)
		}
	}
	if b.Mobile != nil {
		s.size("the mobile certificate", b.Mobile.Certificate, 1, maxCertificate)
		s.issuers(b.Mobile.Issuers)
	}
	for _, one := range b.Signatures {
		if (len(one.CMS) > 0) == (len(one.Value) > 0) {
			s = append(s, errors.New("a signature is given twice or not at all"))
		}
		s.size("a signature", one.CMS, 0, maxSignature)
		s.size("a signature's value", one.Value, 0, maxOther)
	}
	return s
}

// pathOf picks, from the certificates that are known, those that lead from a
// certificate upwards, in order, without self-signed ones: whoever verifies has
// the anchor from elsewhere.
func pathOf(der []byte, known [][]byte) []Bytes {
	path := []Bytes{}
	at, err := x509.ParseCertificate(der)
	if err != nil {
		return path
	}
	var all []*x509.Certificate
	for _, raw := range known {
		if c, err := x509.ParseCertificate(raw); err == nil {
			all = append(all, c)
		}
	}
	for len(path) < maxIssuers {
		var next *x509.Certificate
		for _, c := range all {
			if bytes.Equal(c.RawSubject, at.RawIssuer) && !bytes.Equal(c.RawSubject, c.RawIssuer) && at.CheckSignatureFrom(c) == nil {
				next = c
				break
			}
		}
		if next == nil {
			break
		}
		path = append(path, next.Raw)
		at = next
	}
	return path
}

// clientData is what is read of clientDataJSON here. Package passkey reads it
// again, strictly.
type clientData struct {
	Challenge string `json:"challenge"`
	Origin    string `json:"origin"`
}

func readClientData(raw []byte) (clientData, error) {
	var c clientData
	if err := json.Unmarshal(bytes.TrimPrefix(raw, []byte("\xEF\xBB\xBF")), &c); err != nil {
		return c, fmt.Errorf("client data: %w", err)
	}
	return c, nil
}

// challenge decodes the challenge of client data.
func (c clientData) challenge() ([]byte, error) {
	raw, err := strict.DecodeString(c.Challenge)
	if err != nil || len(raw) != 32 {
		return nil, errors.New("the challenge is not the hash of an order's content")
	}
	return raw, nil
}
