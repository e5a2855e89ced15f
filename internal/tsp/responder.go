package tsp

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"sealgate/internal/cms"
)

// ResponderConfig is a time-stamp authority.
type ResponderConfig struct {
	// Certificate must pass CheckCertificate; Chain goes into tokens beside it.
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
	Key         crypto.Signer
	// Policy is named in every token, and the only one a request may ask for.
	Policy asn1.ObjectIdentifier
	// Serial gives a number never used before, of at most 160 bits. Nil draws 128
	// random bits.
	Serial func() (*big.Int, error)
	// Now is the trusted clock. Nil is time.Now.
	Now func() time.Time
	// Accuracy of Now, at least one second as tokens carry whole seconds. Zero is
	// one second.
	Accuracy time.Duration
}

// Responder answers time-stamp requests. It is safe for concurrent use.
type Responder struct {
	cfg      ResponderConfig
	prepared *cms.Prepared
}

// NewResponder checks the configuration and makes a Responder.
func NewResponder(cfg ResponderConfig) (*Responder, error) {
	if cfg.Certificate == nil || cfg.Key == nil || len(cfg.Policy) == 0 {
		return nil, errors.New("tsp: a responder needs certificate, key and policy")
	}
	if err := CheckCertificate(cfg.Certificate); err != nil {
		return nil, fmt.Errorf("tsp: responder certificate: %w", err)
	}
	if cfg.Serial == nil {
		cfg.Serial = randomSerial
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Accuracy = max(cfg.Accuracy, time.Second)
	prepared, err := cms.Prepare(cms.Signer{Certificate: cfg.Certificate, Chain: cfg.Chain, Key: cfg.Key}, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return &Responder{cfg: cfg, prepared: prepared}, nil
}

func randomSerial() (*big.Int, error) {
	b := make([]byte, 16)
	rand.Read(b)
	return new(big.Int).SetBytes(b), nil
}

// Respond answers a TimeStampReq with a TimeStampResp, always: also a refusal is
// an answer. The error tells the log why a token was not given.
func (r *Responder) Respond(request []byte) (response []byte, err error) {
	req, err := parseRequest(request)
	if err == nil && req.Policy != nil && !req.Policy.Equal(r.cfg.Policy) {
		err = requestError{unacceptedPolicy, "policy " + req.Policy.String()}
	}
	var token []byte
	if err == nil {
		token, err = r.token(req)
	}
	if err != nil {
		bit := systemFailure
		var re requestError
		if errors.As(err, &re) {
			bit = re.bit
		}
		return refusal(bit), err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1Int64(0) }) // granted
		b.AddBytes(token)
	})
	return b.Bytes()
}

func (r *Responder) token(req *Request) ([]byte, error) {
	now := r.cfg.Now().UTC()
	if now.Before(r.cfg.Certificate.NotBefore) || now.After(r.cfg.Certificate.NotAfter) {
		return nil, errors.New("tsp: the responder's certificate is outside its validity")
	}
	serial, err := r.cfg.Serial()
	if err != nil {
		return nil, err
	}
	info := &Info{Policy: r.cfg.Policy, Imprint: req.Imprint, Serial: serial, Time: now, Accuracy: r.cfg.Accuracy, Nonce: req.Nonce}
	content, err := info.marshal()
	if err != nil {
		return nil, err
	}
	h := crypto.SHA256.New()
	h.Write(content)
	tbs, err := r.prepared.SignedAttributes(h.Sum(nil), cms.Options{ContentType: cms.OIDTSTInfo, SigningTime: now})
	if err != nil {
		return nil, err
	}
	si, err := tbs.Sign(rand.Reader)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate // RFC 3161 §2.4.1: none unless asked for
	if req.CertReq {
		certs = r.prepared.Certificates()
	}
	return cms.AssembleAttached(cms.OIDTSTInfo, content, certs, si)
}

// refusal encodes PKIStatusInfo { rejection, failInfo } without a token.
func refusal(bit failure) []byte {
	bits := make([]byte, bit/8+1)
	bits[bit/8] = 0x80 >> (bit % 8)
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(2)
			b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) {
				b.AddUint8(7 - uint8(bit)%8) // unused bits: a named bit list ends with its last one
				b.AddBytes(bits)
			})
		})
	})
	return b.BytesOrPanic()
}
