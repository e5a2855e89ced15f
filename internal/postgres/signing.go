package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/signing"
)

// SigningStore is signing.Store on Postgres.
type SigningStore struct{ db *DB }

// Signing gives the store of signatures.
func (db *DB) Signing() SigningStore { return SigningStore{db} }

var _ signing.Store = SigningStore{}

// Load reads all that is known about an approved sign order, in one query.
func (s SigningStore) Load(ctx context.Context, order uuid.UUID) (signing.Work, error) {
	var w signing.Work
	e, g, c := &w.Evidence, &w.Evidence.Granted, &w.Evidence.Certificate
	var leftOut []int32
	var hash []byte
	err := s.db.Pool.QueryRow(ctx, `
SELECT o.state, o.attempts, o.wait_reason, o.content,
       p.order_id, p.citizen_id, p.device_id, p.credential_id, p.cose_key, p.content, p.left_out,
       p.authenticator_data, p.client_data_json, p.signature, p.rp_id,
       d.citizen_id, d.credential_id, d.cose_key,
       a.citizen_id, a.device_id, a.mobile_certificate_id, a.key_id, a.digests_hash, a.consumed_at IS NOT NULL,
       m.id, m.serial, m.citizen_id, m.device_id, m.key_id, m.authority, m.der, m.not_before, m.not_after, m.state,
       k.state = 'active' AND k.purpose = 'mobile', d.state = 'active' AND c.state = 'active'
FROM orders o
JOIN approvals p ON p.order_id = o.id
JOIN signing_authorizations a ON a.order_id = o.id
JOIN devices d ON d.id = p.device_id
JOIN citizens c ON c.id = p.citizen_id
JOIN mobile_certificates m ON m.id = a.mobile_certificate_id
JOIN keys k ON k.id = m.key_id
WHERE o.id = $1 AND o.kind = 'sign'`, order).Scan(&w.State, &w.Attempts, &w.Waiting, &e.OrderContent,
		&e.Order, &e.Citizen, &e.Device, &e.CredentialID, &e.COSEKey, &e.Content, &leftOut,
		&e.AuthenticatorData, &e.ClientDataJSON, &e.Signature, &e.RPID,
		&e.DeviceCitizen, &e.DeviceCredentialID, &e.DeviceCOSEKey,
		&g.Citizen, &g.Device, &g.Certificate, &g.Key, &hash, &w.Consumed,
		&c.ID, &c.Serial, &c.CitizenID, &c.DeviceID, &c.KeyID, &c.Authority, &c.DER, &c.NotBefore, &c.NotAfter, &c.State,
		&w.KeyActive, &w.Active)
	if errors.Is(err, pgx.ErrNoRows) {
		return w, signing.ErrNotFound
	}
	if err != nil {
		return w, err
	}
	copy(g.DigestsHash[:], hash)
	for _, n := range leftOut {
		e.LeftOut = append(e.LeftOut, int(n))
	}
	if bytes.Contains(e.Content, []byte(`"earlier":"`)) { // else there is nothing to ask for
		w.Earlier, err = s.earlier(ctx, order)
	}
	return w, err
}

// earlier reads the signatures that those of an order join, by document.
func (s SigningStore) earlier(ctx context.Context, order uuid.UUID) (map[int][]byte, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT document, earlier FROM order_inputs WHERE order_id = $1`, order)
	if err != nil {
		return nil, err
	}
	out := map[int][]byte{}
	var document int
	var der []byte
	_, err = pgx.ForEachRow(rows, []any{&document, &der}, func() error {
		out[document] = bytes.Clone(der)
		return nil
	})
	return out, err
}

// Complete stores the signatures and completes the order. The rows of the
// certificate, the device and the citizen are locked, so that a revocation or a
// stop comes either before, and wins, or after.
func (s SigningStore) Complete(ctx context.Context, c signing.Completion) error {
	documents := make([]int32, len(c.Signatures))
	forms := make([]string, len(c.Signatures))
	ders := make([][]byte, len(c.Signatures))
	renewAt := make([]*time.Time, len(c.Signatures))
	for i, sig := range c.Signatures {
		if !sig.RenewAt.IsZero() {
			renewAt[i] = &sig.RenewAt
		}
		documents[i], forms[i], ders[i] = int32(sig.Document), string(sig.Form), sig.DER
	}
	var failures []byte
	if len(c.Failures) > 0 {
		failures, _ = json.Marshal(c.Failures) // a map of plain values: cannot fail
	}
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(signing.ErrConsumed, `UPDATE signing_authorizations SET consumed_at = $2
WHERE order_id = $1 AND digests_hash = $3 AND mobile_certificate_id = $4 AND consumed_at IS NULL`,
			c.Order, c.At, c.DigestsHash[:], c.Certificate)
		b.one(signing.ErrConsumed, `UPDATE orders SET state = 'completed', completed_at = $2, ended_at = $2, next_attempt_at = NULL,
  failures = $3, wait_reason = ''
WHERE id = $1 AND kind = 'sign' AND state = 'approved'`, c.Order, c.At, failures)
		b.found(signing.ErrCertificate, `SELECT id FROM mobile_certificates WHERE id = $1 AND state = 'good' FOR SHARE`, c.Certificate)
		b.found(signing.ErrStopped, `SELECT d.id FROM devices d JOIN citizens c ON c.id = d.citizen_id
WHERE d.id = $1 AND c.id = $2 AND d.state = 'active' AND c.state = 'active' FOR SHARE`, c.Device, c.Citizen)
		b.exec(`INSERT INTO signatures (order_id, document, mobile_certificate_id, form, der, created_at, renew_at)
SELECT $1, d.document, $2, d.form, d.der, $3, d.renew_at
FROM unnest($4::integer[], $5::text[], $6::bytea[], $7::timestamptz[]) AS d (document, form, der, renew_at)`,
			c.Order, c.Certificate, c.At, documents, forms, ders, renewAt)
		queueAudit(b, c.Entry)
	})
}

// Fail ends an approved order and spends its authorization.
func (s SigningStore) Fail(ctx context.Context, order uuid.UUID, reason string, e audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.exec(`UPDATE signing_authorizations SET consumed_at = $2 WHERE order_id = $1 AND consumed_at IS NULL`, order, e.At)
		b.one(signing.ErrNotApproved, `UPDATE orders SET state = 'failed', ended_at = $2, end_reason = $3, next_attempt_at = NULL, wait_reason = ''
WHERE id = $1 AND kind = 'sign' AND state = 'approved'`, order, e.At, reason)
		queueAudit(b, e)
	})
}

// Postpone notes a failed attempt.
func (s SigningStore) Postpone(ctx context.Context, order uuid.UUID, next time.Time, why string, e *audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(signing.ErrNotApproved, `UPDATE orders SET attempts = attempts + 1, next_attempt_at = $2, wait_reason = $3
WHERE id = $1 AND kind = 'sign' AND state = 'approved'`, order, next, why)
		if e != nil {
			queueAudit(b, *e)
		}
	})
}

// maxUnfinished bounds one round of the job.
const maxUnfinished = 1000

// Unfinished lists orders to try. A fresh approval is left for a few seconds
// to the node that took it.
func (s SigningStore) Unfinished(ctx context.Context, limit int) ([]uuid.UUID, error) {
	if limit <= 0 || limit > maxUnfinished {
		limit = maxUnfinished
	}
	rows, err := s.db.Pool.Query(ctx, `SELECT id FROM orders
WHERE state = 'approved' AND kind = 'sign' AND coalesce(next_attempt_at, approved_at + interval '5 seconds') <= now()
ORDER BY approved_at LIMIT $1`, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// Signatures lists an order's signatures by document.
func (s SigningStore) Signatures(ctx context.Context, order uuid.UUID) ([]signing.Signature, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT document, form, der, mobile_certificate_id, created_at
FROM signatures WHERE order_id = $1 ORDER BY document`, order)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (signing.Signature, error) { return scanSignature(row) })
}

// Signature reads one document's signature.
func (s SigningStore) Signature(ctx context.Context, order uuid.UUID, document int) (signing.Signature, error) {
	sig, err := scanSignature(s.db.Pool.QueryRow(ctx, `SELECT document, form, der, mobile_certificate_id, created_at
FROM signatures WHERE order_id = $1 AND document = $2`, order, document))
	if errors.Is(err, pgx.ErrNoRows) {
		return sig, signing.ErrNotFound
	}
	return sig, err
}

func scanSignature(row pgx.Row) (signing.Signature, error) {
	var sig signing.Signature
	err := row.Scan(&sig.Document, &sig.Form, &sig.DER, &sig.Certificate, &sig.CreatedAt)
	return sig, err
}
