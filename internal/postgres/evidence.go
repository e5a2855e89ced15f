package postgres

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/enrolment"
	"sealgate/internal/evidence"
)

// EvidenceStore is evidence.Store on Postgres.
type EvidenceStore struct{ db *DB }

// Evidence gives the store of evidence.
func (db *DB) Evidence() EvidenceStore { return EvidenceStore{db} }

var _ evidence.Store = EvidenceStore{}

// Rows reads an approval, the binding of its device and the order's signatures
// as they are at one moment.
func (s EvidenceStore) Rows(ctx context.Context, order uuid.UUID) (*evidence.Rows, error) {
	var r *evidence.Rows
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, s.db.Pool, options, func(tx pgx.Tx) error {
		var err error
		if r, err = evidenceRows(ctx, tx, order); err != nil {
			return err
		}
		r.Signatures, err = evidenceSignatures(ctx, tx, order)
		return err
	})
	return r, err
}

func evidenceRows(ctx context.Context, tx pgx.Tx, order uuid.UUID) (*evidence.Rows, error) {
	r := &evidence.Rows{Order: order}
	var leftOut []int32
	var revocation, authority []byte
	err := tx.QueryRow(ctx, `
SELECT p.content, p.left_out, p.credential_id, p.cose_key, p.authenticator_data, p.client_data_json, p.signature, p.rp_id,
       e.certificate, e.proof, e.revocation, e.attestation, e.client_data_json, o.content,
       m.der, a.certificate
FROM approvals p
JOIN devices d ON d.id = p.device_id
JOIN enrolments e ON e.order_id = d.enrolment_id
LEFT JOIN orders o ON o.id = e.order_id
LEFT JOIN signing_authorizations g ON g.order_id = p.order_id
LEFT JOIN mobile_certificates m ON m.id = g.mobile_certificate_id
LEFT JOIN authorities a ON a.name = m.authority
WHERE p.order_id = $1`, order).Scan(&r.Content, &leftOut, &r.CredentialID, &r.COSEKey, &r.AuthenticatorData, &r.ClientDataJSON,
		&r.Signature, &r.RPID, &r.CardCertificate, &r.Proof, &revocation, &r.AttestationObject, &r.EnrolClient, &r.EnrolContent,
		&r.MobileCertificate, &authority)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, evidence.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	for _, n := range leftOut {
		r.LeftOut = append(r.LeftOut, int(n))
	}
	if authority != nil {
		r.MobileIssuers = [][]byte{authority}
	}
	r.Revocation, err = evidenceAnswers(revocation)
	return r, err
}

// evidenceAnswers takes from enrolment's records what a bundle holds of them.
func evidenceAnswers(raw []byte) ([]evidence.Answer, error) {
	if raw == nil {
		return nil, nil
	}
	var records []enrolment.RevocationRecord
	if err := json.Unmarshal(raw, &records); err != nil {
		return nil, err
	}
	answers := make([]evidence.Answer, len(records))
	for i, r := range records {
		answers[i] = evidence.Answer{Certificate: r.Certificate, Source: r.Source, Answer: r.Answer}
		if len(r.Answer) == 0 {
			answers[i].SHA256 = r.SHA256
		}
	}
	return answers, nil
}

func evidenceSignatures(ctx context.Context, tx pgx.Tx, order uuid.UUID) ([]evidence.Signature, error) {
	rows, err := tx.Query(ctx, `SELECT document, der FROM signatures WHERE order_id = $1 ORDER BY document`, order)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (evidence.Signature, error) {
		var s evidence.Signature
		err := row.Scan(&s.Document, &s.CMS)
		return s, err
	})
}
