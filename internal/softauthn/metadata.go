package softauthn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // a key identifier, not a protection
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"time"

	"github.com/google/uuid"
)

// MetadataSigner is a TEST metadata service: a root and a signer under it that
// make FIDO metadata BLOBs of any content.
type MetadataSigner struct {
	Root    *x509.Certificate
	rootKey *ecdsa.PrivateKey
	// Name is the DNS name in the signing certificate; the public service's by default.
	Name string
	// NotAfter is when the signing certificate ends; a day from now by default.
	NotAfter time.Time
}

// Model is one entry of a BLOB.
type Model struct {
	AAGUID      [16]byte
	KeyIDs      []string // hex, for U2F
	Description string
	Internal    bool
	Roots       []*x509.Certificate
	Reports     []ModelReport
}

// ModelReport is one status report; Effective is "2026-01-31", or empty.
type ModelReport struct {
	Status, Effective string
	Certificate       []byte // DER, to limit the report to one batch
}

// NewMetadataSigner makes a root that is valid for thirty years.
func NewMetadataSigner() (*MetadataSigner, error) {
	a, err := NewAuthority()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Soft metadata root (test)"},
		NotBefore: now.AddDate(-10, 0, 0), NotAfter: now.AddDate(20, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	return &MetadataSigner{Root: root, rootKey: a.key, Name: "mds.fidoalliance.org", NotAfter: now.Add(24 * time.Hour)}, err
}

// BLOB makes a signed BLOB with these models.
func (m *MetadataSigner) BLOB(number int64, nextUpdate string, models ...Model) ([]byte, error) {
	entries := []map[string]any{}
	for _, model := range models {
		entries = append(entries, model.entry())
	}
	payload, err := json.Marshal(map[string]any{"legalHeader": "TEST", "no": number, "nextUpdate": nextUpdate, "entries": entries})
	if err != nil {
		return nil, err
	}
	return m.Sign(payload)
}

func (m Model) entry() map[string]any {
	statement := map[string]any{"description": m.Description}
	if m.Internal {
		statement["attachmentHint"] = []string{"internal"}
	}
	var roots []string
	for _, c := range m.Roots {
		roots = append(roots, base64.StdEncoding.EncodeToString(c.Raw))
	}
	statement["attestationRootCertificates"] = roots
	entry := map[string]any{"metadataStatement": statement, "timeOfLastStatusChange": "2026-01-01"}
	if m.AAGUID != ([16]byte{}) {
		entry["aaguid"] = uuid.UUID(m.AAGUID).String()
	}
	if len(m.KeyIDs) > 0 {
		entry["attestationCertificateKeyIdentifiers"] = m.KeyIDs
	}
	reports := []map[string]string{}
	for _, r := range m.Reports {
		report := map[string]string{"status": r.Status}
		if r.Effective != "" {
			report["effectiveDate"] = r.Effective
		}
		if r.Certificate != nil {
			report["batchCertificate"] = base64.StdEncoding.EncodeToString(r.Certificate)
		}
		reports = append(reports, report)
	}
	entry["statusReports"] = reports
	return entry
}

// Sign makes the JWS of any payload, with a fresh signing certificate (ES256).
func (m *MetadataSigner) Sign(payload []byte) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: m.Name}, DNSNames: []string{m.Name},
		NotBefore: m.Root.NotBefore, NotAfter: m.NotAfter, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, m.Root, key.Public(), m.rootKey)
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(map[string]any{"alg": "ES256", "typ": "JWT", "x5c": []string{base64.StdEncoding.EncodeToString(der)}})
	if err != nil {
		return nil, err
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return []byte(signed + "." + base64.RawURLEncoding.EncodeToString(signature)), nil
}

// AttestationKeyID is the key identifier of the authenticator's attestation
// certificate, as a U2F model's metadata name it.
func (a *Authenticator) AttestationKeyID() (string, error) {
	leaf, err := a.AttestationCertificate()
	if err != nil {
		return "", err
	}
	c, err := x509.ParseCertificate(leaf)
	if err != nil {
		return "", err
	}
	key, err := c.PublicKey.(*ecdsa.PublicKey).Bytes()
	if err != nil {
		return "", err
	}
	sum := sha1.Sum(key) //nolint:gosec // RFC 5280 §4.2.1.2 method 1
	return hex.EncodeToString(sum[:]), nil
}

// AttestationCertificate is the DER of the certificate it signs attestations with.
func (a *Authenticator) AttestationCertificate() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key, err := a.attestationKey()
	if err != nil {
		return nil, err
	}
	return key.chain[0], nil
}
