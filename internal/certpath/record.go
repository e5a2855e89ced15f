package certpath

import (
	"crypto/sha256"
	"encoding/json"
	"time"
)

// maxKeptAnswer is the greatest revocation answer kept whole, in bytes. The
// complete list of a national CA has megabytes and is published and archived by
// the CA: of such a one the hash is kept.
const maxKeptAnswer = 1 << 20

// RevocationRecord is one answer about one certificate of a path, as it is kept
// beside what the certificate vouched for, in JSON.
type RevocationRecord struct {
	Certificate []byte    `json:"certificate"` // SHA-256 of the certificate asked about
	Source      string    `json:"source"`      // ocsp, crl
	URL         string    `json:"url"`
	ThisUpdate  time.Time `json:"this_update"`
	NextUpdate  time.Time `json:"next_update,omitzero"`
	SHA256      []byte    `json:"sha256"`           // of the answer
	Answer      []byte    `json:"answer,omitempty"` // OCSPResponse or CertificateList, DER; left out above 1 MiB
}

// Records gives a result's revocation answers as a JSON list of RevocationRecord.
func (r *Result) Records() ([]byte, error) {
	records := make([]RevocationRecord, 0, len(r.Revocation))
	for _, ev := range r.Revocation {
		certificate, answer := sha256.Sum256(ev.Certificate.Raw), sha256.Sum256(ev.Raw)
		record := RevocationRecord{Certificate: certificate[:], Source: ev.Source, URL: ev.URL,
			ThisUpdate: ev.ThisUpdate.UTC(), NextUpdate: ev.NextUpdate.UTC(), SHA256: answer[:]}
		if len(ev.Raw) <= maxKeptAnswer {
			record.Answer = ev.Raw
		}
		records = append(records, record)
	}
	return json.Marshal(records)
}
