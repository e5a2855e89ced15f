package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/order"
)

// OrderStore keeps orders. It is order.Store and order.WaitingStore.
type OrderStore struct{ db *DB }

// Orders gives the store of orders.
func (db *DB) Orders() OrderStore { return OrderStore{db} }

var (
	_ order.Store        = OrderStore{}
	_ order.WaitingStore = OrderStore{}
)

const orderColumns = `id, kind, state, client_id, content, request, return_uri, qr_secret, browser_hash, start_hash,
	subject_citizen_id, started, created_at, expires_at, final_expires_at, extended, frozen_step, frozen_at,
	claim_hash, claim_source, claimed, scanned_at, check_digits, check_tries, check_passed_at,
	citizen_id, device_id, acr, left_out, approved_at, completed_at, ended_at, end_reason, failures, wait_reason, subject_certificate_id`

// scanOrder reads one row of orderColumns.
func scanOrder(row pgx.Row) (*order.Order, error) {
	var (
		o                *order.Order = &order.Order{}
		id               uuid.UUID
		started, claimed []byte
		failures         []byte
		source, digits   *string
		leftOut          []int32
	)
	err := row.Scan(&id, &o.Kind, &o.State, &o.ClientID, &o.Content, &o.Request, &o.ReturnURI, &o.QRSecret, &o.BrowserHash, &o.StartHash,
		&o.SubjectCitizenID, &started, &o.CreatedAt, &o.ExpiresAt, &o.FinalExpiresAt, &o.Extended, &o.FrozenStep, &o.FrozenAt,
		&o.ClaimHash, &source, &claimed, &o.ScannedAt, &digits, &o.CheckTries, &o.CheckPassedAt,
		&o.CitizenID, &o.DeviceID, &o.ACR, &leftOut, &o.ApprovedAt, &o.CompletedAt, &o.EndedAt, &o.EndReason, &failures, &o.WaitReason, &o.SubjectCertificateID)
	if err != nil {
		return nil, err
	}
	o.ID = order.ID(id)
	if source != nil {
		o.ClaimSource = order.Source(*source)
	}
	if digits != nil {
		o.CheckDigits = *digits
	}
	for _, n := range leftOut {
		o.LeftOut = append(o.LeftOut, int(n))
	}
	if err := json.Unmarshal(started, &o.Started); err != nil {
		return nil, err
	}
	if len(failures) > 0 {
		if err := json.Unmarshal(failures, &o.Failures); err != nil {
			return nil, err
		}
	}
	if len(claimed) > 0 {
		if err := json.Unmarshal(claimed, &o.Claimed); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// queueInsertOrder adds the insert of a new order to a batch.
func queueInsertOrder(b *batch, o *order.Order) {
	started, _ := json.Marshal(o.Started) // a struct of plain values: cannot fail
	b.one(errNoRow, `INSERT INTO orders (id, kind, client_id, content, request, return_uri, qr_secret, browser_hash, start_hash,
		subject_citizen_id, started, created_at, expires_at, final_expires_at, subject_certificate_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		o.ID.UUID(), o.Kind, o.ClientID, o.Content, nullJSON(o.Request), o.ReturnURI, o.QRSecret, o.BrowserHash, o.StartHash,
		o.SubjectCitizenID, started, o.CreatedAt, o.ExpiresAt, o.FinalExpiresAt, o.SubjectCertificateID)
}

func nullJSON(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	return []byte(raw)
}

// Create inserts an order in state created.
func (s OrderStore) Create(ctx context.Context, o *order.Order, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		queueInsertOrder(b, o)
		for _, e := range o.Earlier {
			b.exec(`INSERT INTO order_inputs (order_id, document, earlier) VALUES ($1, $2, $3)`, o.ID.UUID(), e.Document, e.DER)
		}
		queueAudit(b, entry)
	})
}

// Find reads one order.
func (s OrderStore) Find(ctx context.Context, id order.ID) (*order.Order, error) {
	o, err := scanOrder(s.db.Pool.QueryRow(ctx, `SELECT `+orderColumns+` FROM orders WHERE id = $1`, id.UUID()))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, order.ErrNotFound
	}
	return o, err
}

// FindByCode finds the created order whose typed code has this MAC.
func (s OrderStore) FindByCode(ctx context.Context, mac []byte, now time.Time) (*order.Order, error) {
	o, err := scanOrder(s.db.Pool.QueryRow(ctx, `SELECT `+orderColumns+` FROM orders
		WHERE code_mac = $1 AND state = 'created' AND code_expires_at > $2`, mac, now))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, order.ErrCodeUnknown
	}
	return o, err
}

// Claim takes a created order to scanned; only the first claim finds it created.
func (s OrderStore) Claim(ctx context.Context, c order.Claiming) (*order.Order, error) {
	claimed, err := json.Marshal(c.Claimed)
	if err != nil {
		return nil, err
	}
	var o *order.Order
	err = s.db.pipeline(ctx, func(b *batch) {
		b.scan(order.ErrState, func(row pgx.Row) error {
			var err error
			o, err = scanOrder(row)
			return err
		}, `UPDATE orders SET state = 'scanned', claim_hash = $2, claim_source = $3, claimed = $4, scanned_at = $5,
			expires_at = least($6, final_expires_at), check_digits = nullif($7, ''), code_mac = NULL
			WHERE id = $1 AND state = 'created' AND expires_at > $5 AND ($8::bytea IS NULL OR browser_hash = $8)
			RETURNING `+orderColumns,
			c.Order.UUID(), c.ClaimHash, c.Source, claimed, c.At, c.ExpiresAt, c.CheckDigits, c.BrowserHash)
		queueAudit(b, c.Audit)
	})
	return o, err
}

const deviceForApproval = `SELECT d.id, d.citizen_id, d.name, d.state = 'active', c.state = 'active', d.user_handle,
	d.credential_id, d.cose_key, d.cose_algorithm, d.sign_count, d.aaguid, d.backup_eligible, d.backup_state,
	d.attestation_format, d.attested, m.id, m.key_id, d.state_reason, d.last_used_at, d.cooldown_until, cc.id, cc.checked_at, cc.not_after,
	m.id IS NULL AND EXISTS (SELECT 1 FROM certificate_requests r WHERE r.device_id = d.id AND r.state = 'waiting')
	FROM devices d JOIN citizens c ON c.id = d.citizen_id
	JOIN citizen_certificates cc ON cc.id = d.citizen_certificate_id
	LEFT JOIN LATERAL (SELECT id, key_id FROM mobile_certificates
		WHERE device_id = d.id AND state = 'good' AND not_before <= $2 AND not_after > $2 AND superseded_at IS NULL
		ORDER BY not_after DESC LIMIT 1) m ON true
	WHERE d.credential_id = $1 AND d.state <> 'removed'`

// ForApproval reads an order and the device that owns a credential in one round trip.
func (s OrderStore) ForApproval(ctx context.Context, id order.ID, credentialID []byte, now time.Time) (*order.Order, *order.Device, error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT `+orderColumns+` FROM orders WHERE id = $1`, id.UUID())
	b.Queue(deviceForApproval, credentialID, now)
	results := s.db.Pool.SendBatch(ctx, b)
	defer results.Close()
	o, err := scanOrder(results.QueryRow())
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, order.ErrNotFound
	}
	if err != nil {
		return nil, nil, err
	}
	d, err := scanDevice(results.QueryRow())
	if errors.Is(err, pgx.ErrNoRows) {
		return o, nil, nil
	}
	return o, d, err
}

// scanDevice reads one row of deviceForApproval.
func scanDevice(row pgx.Row) (*order.Device, error) {
	d := &order.Device{}
	var certificate, key *uuid.UUID
	var used *time.Time
	var count int64
	err := row.Scan(&d.ID, &d.CitizenID, &d.Name, &d.Active, &d.CitizenActive, &d.UserHandle,
		&d.Credential.ID, &d.Credential.PublicKey, &d.Credential.Algorithm, &count, &d.Credential.AAGUID,
		&d.Credential.BackupEligible, &d.Credential.BackupState, &d.Credential.AttestationFormat, &d.Credential.Attested,
		&certificate, &key, &d.StopReason, &used, &d.CooldownUntil, &d.Card.ID, &d.Card.CheckedAt, &d.Card.NotAfter,
		&d.CertificatePending)
	if err != nil {
		return nil, err
	}
	d.Credential.SignCount = uint32(count)
	d.Credential.UserHandle = d.UserHandle
	if used != nil {
		d.LastUsedAt = *used
	}
	if certificate != nil && key != nil {
		d.Certificate = &order.Certificate{ID: *certificate, KeyID: *key}
	}
	return d, nil
}

// Approve is the one transaction of an approval: state, signature counter,
// evidence, authorization to sign, audit entry.
func (s OrderStore) Approve(ctx context.Context, a order.Approval) error {
	leftOut := make([]int32, len(a.LeftOut))
	for i, n := range a.LeftOut {
		leftOut[i] = int32(n)
	}
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(order.ErrState, `UPDATE orders SET state = 'approved', citizen_id = $3, device_id = $4, acr = $5, left_out = $6, approved_at = $7
			WHERE id = $1 AND state = 'scanned' AND claim_hash = $2 AND expires_at > $7
			AND (check_digits IS NULL OR check_passed_at IS NOT NULL)`,
			a.Order.UUID(), a.ClaimHash, a.Device.CitizenID, a.Device.ID, a.ACR, leftOut, a.At)
		queueDeviceUse(b, a.Device, a.Verified.NewSignCount, a.Verified.BackupState, a.At)
		b.one(errNoRow, `INSERT INTO approvals (order_id, citizen_id, device_id, credential_id, cose_key, content, left_out,
			authenticator_data, client_data_json, signature, rp_id, acr, approved_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
			a.Order.UUID(), a.Device.CitizenID, a.Device.ID, a.Device.Credential.ID, a.Device.Credential.PublicKey, a.Content, leftOut,
			a.Assertion.AuthenticatorData, a.Assertion.ClientDataJSON, a.Assertion.Signature, a.RPID, a.ACR, a.At)
		if auth := a.Authorization; auth != nil {
			// A certificate that was renewed or stopped meanwhile signs nothing new:
			// the device is judged once more, and another one may be found.
			b.one(order.ErrDeviceStopped, `INSERT INTO signing_authorizations (order_id, citizen_id, device_id, mobile_certificate_id, key_id, digests_hash, created_at)
				SELECT $1, $2, $3, id, key_id, $6, $7 FROM mobile_certificates WHERE id = $4 AND key_id = $5 AND state = 'good' AND superseded_at IS NULL`,
				a.Order.UUID(), a.Device.CitizenID, a.Device.ID, auth.Certificate.ID, auth.Certificate.KeyID, auth.DigestsHash[:], a.At)
		}
		queueAudit(b, a.Audit)
		for _, e := range a.Allowed {
			queueAudit(b, e)
		}
	})
}

// End takes an open order to an end.
func (s OrderStore) End(ctx context.Context, e order.Ending) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(order.ErrState, `UPDATE orders SET state = $2, end_reason = $3, ended_at = $4, code_mac = NULL
			WHERE id = $1 AND state IN ('created', 'scanned')
			AND ($5::bytea IS NULL OR claim_hash = $5) AND ($6::bytea IS NULL OR browser_hash = $6) AND ($7::uuid IS NULL OR client_id = $7)`,
			e.Order.UUID(), e.To, e.Reason, e.At, e.ClaimHash, e.BrowserHash, e.ClientID)
		queueAudit(b, e.Audit)
	})
}

// Refused writes the audit entry of a step that was not allowed.
func (s OrderStore) Refused(ctx context.Context, entry audit.Entry) error {
	return s.db.Audit().Append(ctx, entry)
}
