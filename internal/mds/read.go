package mds

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
)

// Trust says whose BLOBs are believed.
type Trust struct {
	// Roots are the anchors of the signer's chain; the public service is signed
	// under GlobalSign Root R3.
	Roots []*x509.Certificate
	// Signer is the DNS name in the signing certificate; "" is DefaultSigner.
	Signer string
}

// algorithms a BLOB may be signed with (RFC 7518 §3.1): no symmetric ones, no "none".
var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}

// Read verifies a BLOB in JWS compact form and reads it. The signer's chain
// must be good at the time given: now for a new one, the time of acceptance for
// one that was accepted before.
func Read(raw []byte, trust Trust, at time.Time) (*Blob, error) {
	if len(trust.Roots) == 0 {
		return nil, ErrNoRoot
	}
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || len(raw) > MaxBLOB {
		return nil, malformed("impossible length")
	}
	if dot := bytes.IndexByte(raw, '.'); dot <= 0 || dot > maxHeader || bytes.Count(raw, []byte{'.'}) != 2 {
		return nil, malformed("not a JWS in compact form")
	}
	object, err := jose.ParseSignedCompact(string(raw), algorithms)
	if err != nil {
		return nil, malformed("not a JWS that can be read")
	}
	if err := headerForm(raw); err != nil {
		return nil, err
	}
	leaf, err := signer(object.Signatures[0].Protected, trust, at)
	if err != nil {
		return nil, err
	}
	payload, err := object.Verify(leaf.PublicKey)
	if err != nil {
		return nil, ErrSignature.Because(errors.New("the signature does not hold"))
	}
	b, err := parse(payload)
	if err != nil {
		return nil, err
	}
	b.digest = sha256.Sum256(raw)
	return b, nil
}

// headerForm bounds the number of certificates before any is parsed.
func headerForm(raw []byte) error {
	text, err := base64.RawURLEncoding.DecodeString(string(raw[:bytes.IndexByte(raw, '.')]))
	if err != nil {
		return malformed("header")
	}
	var header struct {
		X5C []string `json:"x5c"`
	}
	if err := json.Unmarshal(text, &header); err != nil {
		return malformed("header")
	}
	if len(header.X5C) == 0 || len(header.X5C) > maxChain {
		return ErrSigner.Because(errors.New("the header must carry the signer's certificates (x5c), six at most"))
	}
	return nil
}

// signer builds the chain and checks the name; it gives the signing certificate.
func signer(header jose.Header, trust Trust, at time.Time) (*x509.Certificate, error) {
	roots := x509.NewCertPool()
	for _, c := range trust.Roots {
		roots.AddCert(c)
	}
	name := trust.Signer
	if name == "" {
		name = DefaultSigner
	}
	chains, err := header.Certificates(x509.VerifyOptions{Roots: roots, CurrentTime: at, DNSName: name,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, ErrSigner.Because(err)
	}
	leaf := chains[0][0]
	if leaf.IsCA {
		return nil, ErrSigner.Because(errors.New("signed by an authority itself"))
	}
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return nil, ErrSigner.Because(errors.New("the signer's RSA key is weak"))
		}
	case *ecdsa.PublicKey:
	default:
		return nil, ErrSigner.Because(errors.New("the signer's key is of no known kind"))
	}
	return leaf, nil
}

// The payload's members that are used (FIDO Metadata Service v3.0 §3.1.6).
type payloadJSON struct {
	Number     int64       `json:"no"`
	NextUpdate string      `json:"nextUpdate"`
	Entries    []entryJSON `json:"entries"`
}

type entryJSON struct {
	AAGUID    string        `json:"aaguid"`
	KeyIDs    []string      `json:"attestationCertificateKeyIdentifiers"`
	Statement statementJSON `json:"metadataStatement"`
	Reports   []reportJSON  `json:"statusReports"`
}

type statementJSON struct {
	Description string   `json:"description"`
	Attachment  []string `json:"attachmentHint"`
	Roots       []string `json:"attestationRootCertificates"`
}

type reportJSON struct {
	Status           string `json:"status"`
	Effective        string `json:"effectiveDate"`
	BatchCertificate string `json:"batchCertificate"`
	Certificate      string `json:"certificate"` // the same, as the v3.0 text names it
}

// parse reads a verified payload into the index.
func parse(payload []byte) (*Blob, error) {
	if tooDeep(payload) {
		return nil, malformed("nested too deeply")
	}
	var p payloadJSON
	if err := json.Unmarshal(payload, &p); err != nil {
		return nil, malformed("the payload is not the JSON it should be")
	}
	day, err := time.Parse(time.DateOnly, p.NextUpdate)
	if err != nil {
		return nil, malformed("nextUpdate is no date")
	}
	if p.Number <= 0 || len(p.Entries) == 0 || len(p.Entries) > maxEntries {
		return nil, malformed("no number, no entries, or too many")
	}
	b := &Blob{Number: p.Number, NextUpdate: day, byAAGUID: map[uuid.UUID]*Entry{}, byKey: map[KeyIdentifier][]*Entry{}}
	same := map[string][]byte{} // models of one maker share their roots
	for i := range p.Entries {
		e, err := p.Entries[i].entry(same)
		if err != nil {
			return nil, ErrMalformed.Because(fmt.Errorf("entry %d: %w", i, err))
		}
		if e.AAGUID != uuid.Nil {
			if b.byAAGUID[e.AAGUID] != nil {
				return nil, ErrMalformed.Because(fmt.Errorf("entry %d: the model %s is there twice", i, e.AAGUID))
			}
			b.byAAGUID[e.AAGUID] = e
		}
		for _, id := range e.KeyIdentifiers {
			b.byKey[id] = append(b.byKey[id], e)
		}
		b.entries = append(b.entries, e)
	}
	return b, nil
}

// tooDeep counts open brackets outside strings; whether it is JSON at all is
// for the parser to say.
func tooDeep(data []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

func (j *entryJSON) entry(same map[string][]byte) (*Entry, error) {
	if len(j.KeyIDs) > maxKeyIDs || len(j.Reports) > maxStatuses || len(j.Statement.Roots) > maxRoots {
		return nil, errors.New("a list is too long")
	}
	e := &Entry{Description: shorten(j.Statement.Description)}
	if j.AAGUID != "" {
		var err error
		if e.AAGUID, err = uuid.Parse(j.AAGUID); err != nil {
			return nil, errors.New("aaguid")
		}
	}
	for _, text := range j.KeyIDs {
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) != len(KeyIdentifier{}) {
			return nil, errors.New("attestationCertificateKeyIdentifiers")
		}
		e.KeyIdentifiers = append(e.KeyIdentifiers, KeyIdentifier(raw))
	}
	for _, hint := range j.Statement.Attachment {
		e.Internal = e.Internal || hint == "internal"
	}
	for _, text := range j.Statement.Roots {
		der, ok := certificate(text)
		if !ok {
			continue // an anchor that cannot be read anchors nothing
		}
		if same[string(der)] == nil {
			same[string(der)] = der
		}
		e.roots = append(e.roots, same[string(der)])
	}
	for _, r := range j.Reports {
		report, err := r.report()
		if err != nil {
			return nil, err
		}
		e.Reports = append(e.Reports, report)
	}
	return e, nil
}

func (j reportJSON) report() (Report, error) {
	r := Report{Status: Status(strings.Clone(j.Status))}
	if j.Status == "" || len(j.Status) > 64 {
		return r, errors.New("a status report without status")
	}
	if j.Effective != "" {
		var err error
		if r.Effective, err = time.Parse(time.DateOnly, j.Effective); err != nil {
			return r, errors.New("effectiveDate")
		}
	}
	batch := j.BatchCertificate
	if batch == "" {
		batch = j.Certificate
	}
	// A certificate that cannot be read limits nothing: the report is about all.
	if der, ok := certificate(batch); ok {
		r.Certificate = sha256.Sum256(der)
	}
	return r, nil
}

// certificate decodes base64 that may be broken into lines.
func certificate(text string) ([]byte, bool) {
	text = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, text)
	der, err := base64.StdEncoding.DecodeString(text)
	return der, err == nil && len(der) > 0 && len(der) <= maxRootLength
}

// shorten copies, so that the index does not hold on to the payload.
func shorten(s string) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "")
	}
	return strings.Clone(s)
}
