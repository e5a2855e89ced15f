package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/console"
	"sealgate/internal/enrolment"
	"sealgate/internal/evidence"
	"sealgate/internal/signing"
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
		var device uuid.UUID
		if r, device, err = evidenceRows(ctx, tx, order); err != nil {
			return err
		}
		if err = evidenceBinding(ctx, tx, device, &r.Binding, 1); err != nil {
			return err
		}
		r.Signatures, err = evidenceSignatures(ctx, tx, order)
		return err
	})
	return r, err
}

func evidenceRows(ctx context.Context, tx pgx.Tx, order uuid.UUID) (*evidence.Rows, uuid.UUID, error) {
	r := &evidence.Rows{Order: order}
	var device uuid.UUID
	var leftOut []int32
	var authority []byte
	var chain [][]byte
	err := tx.QueryRow(ctx, `
SELECT p.device_id, p.content, p.left_out, p.credential_id, p.cose_key, p.authenticator_data, p.client_data_json, p.signature, p.rp_id,
       m.der, a.certificate, a.chain
FROM approvals p
LEFT JOIN signing_authorizations g ON g.order_id = p.order_id
LEFT JOIN mobile_certificates m ON m.id = g.mobile_certificate_id
LEFT JOIN authorities a ON a.name = m.authority
WHERE p.order_id = $1`, order).Scan(&device, &r.Content, &leftOut, &r.CredentialID, &r.COSEKey, &r.AuthenticatorData, &r.ClientDataJSON,
		&r.Signature, &r.RPID, &r.MobileCertificate, &authority, &chain)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, device, evidence.ErrNotFound
	}
	if err != nil {
		return nil, device, err
	}
	for _, n := range leftOut {
		r.LeftOut = append(r.LeftOut, int(n))
	}
	switch {
	case len(chain) > 1: // of another CA: all but the anchor, which whoever checks must have
		r.MobileIssuers = chain[:len(chain)-1]
	case authority != nil:
		r.MobileIssuers = [][]byte{authority}
	}
	return r, device, nil
}

// evidenceBinding reads how a device was bound, and the bindings of those that
// agreed to it, down to the card.
func evidenceBinding(ctx context.Context, tx pgx.Tx, device uuid.UUID, r *evidence.BindingRows, depth int) error {
	var statement, proof, revocation []byte
	var by uuid.NullUUID
	err := tx.QueryRow(ctx, `
SELECT e.certificate, e.statement, e.proof_kind, e.proof, e.by_device_id, e.revocation, e.attestation, e.client_data_json, o.content
FROM devices d
JOIN enrolments e ON e.order_id = d.enrolment_id
LEFT JOIN orders o ON o.id = e.order_id
WHERE d.id = $1`, device).Scan(&r.CardCertificate, &statement, &r.Proof.Kind, &proof, &by, &revocation, &r.AttestationObject,
		&r.EnrolClient, &r.EnrolContent)
	if errors.Is(err, pgx.ErrNoRows) {
		return evidence.ErrNotFound
	}
	if err != nil {
		return err
	}
	if r.Revocation, err = evidenceAnswers(revocation); err != nil || r.Proof.Kind == evidence.KindCard {
		r.Proof.CMS = proof
		return err
	}
	if r.Proof.Kind == evidence.KindRegistrar {
		r.Proof.Statement = statement
		r.Proof.Registrars, err = evidenceRegistrars(proof)
		return err
	}
	if r.Proof.Kind != evidence.KindDevice || depth >= evidence.MaxDepth {
		return fmt.Errorf("evidence of a binding by %s, number %d", r.Proof.Kind, depth)
	}
	var p enrolment.PhoneProof
	if err := json.Unmarshal(proof, &p); err != nil {
		return err
	}
	r.Proof.Statement, r.Proof.AuthenticatorData, r.Proof.ClientDataJSON, r.Proof.Signature = statement, p.AuthenticatorData, p.ClientDataJSON, p.Signature
	r.By = &evidence.BindingRows{}
	return evidenceBinding(ctx, tx, by.UUID, r.By, depth+1)
}

// evidenceRegistrars takes the two assertions as the binding kept them.
func evidenceRegistrars(raw []byte) ([]evidence.RegistrarAssertion, error) {
	var kept []console.Signed
	if err := json.Unmarshal(raw, &kept); err != nil {
		return nil, err
	}
	out := make([]evidence.RegistrarAssertion, len(kept))
	for i, a := range kept {
		out[i] = evidence.RegistrarAssertion{Step: string(a.Step), Administrator: a.Administrator, CredentialID: a.CredentialID, PublicKey: a.PublicKey,
			Nonce: a.Nonce, AuthenticatorData: a.AuthenticatorData, ClientDataJSON: a.ClientDataJSON, Signature: a.Signature}
	}
	return out, nil
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
	rows, err := tx.Query(ctx, `SELECT document, form, der FROM signatures WHERE order_id = $1 ORDER BY document`, order)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (evidence.Signature, error) {
		var s evidence.Signature
		var form signing.Form
		var value []byte
		err := row.Scan(&s.Document, &form, &value)
		if form.Wrapped() {
			s.CMS = value
		} else {
			s.Value = value
		}
		return s, err
	})
}
