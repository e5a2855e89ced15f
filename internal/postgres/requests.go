package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/devices"
	"sealgate/internal/issuing"
)

// RequestStore is issuing.RequestStore and issuing.ReportStore on Postgres.
type RequestStore struct{ db *DB }

// Requests gives the store of requests to an outside CA.
func (db *DB) Requests() RequestStore { return RequestStore{db} }

var (
	_ issuing.RequestStore = RequestStore{}
	_ issuing.ReportStore  = RequestStore{}
)

// insertRequest writes a request in the caller's transaction (the binding of a
// phone, or a renewal).
func insertRequest(ctx context.Context, tx pgx.Tx, r issuing.Request) error {
	_, err := tx.Exec(ctx, `INSERT INTO certificate_requests (id, citizen_id, device_id, key_id, key_hash, renews_id, request, next_attempt_at, created_at)
VALUES ($1, $2, $3, $4, $5, nullif($6, '00000000-0000-0000-0000-000000000000'::uuid), $7, $8, $8)`,
		r.ID, r.CitizenID, r.DeviceID, r.KeyID, r.KeyHash[:], r.Renews, r.DER, r.CreatedAt)
	return err
}

const requestColumns = `r.id, r.citizen_id, r.device_id, r.key_id, r.key_hash, coalesce(r.renews_id, '00000000-0000-0000-0000-000000000000'::uuid),
  r.request, r.state, r.attempts, r.last_error, r.created_at, cc.der, d.state, coalesce(m.der, ''::bytea)`

const requestTables = ` FROM certificate_requests r JOIN devices d ON d.id = r.device_id
JOIN citizen_certificates cc ON cc.id = d.citizen_certificate_id LEFT JOIN mobile_certificates m ON m.id = r.certificate_id `

func scanRequest(row pgx.Row) (issuing.Request, error) {
	var r issuing.Request
	var hash []byte
	err := row.Scan(&r.ID, &r.CitizenID, &r.DeviceID, &r.KeyID, &hash, &r.Renews, &r.DER, &r.State, &r.Attempts, &r.LastError,
		&r.CreatedAt, &r.Card, &r.DeviceState, &r.Certificate)
	copy(r.KeyHash[:], hash)
	return r, err
}

// Lease puts the next attempt off for whoever asks first.
func (s RequestStore) Lease(ctx context.Context, id uuid.UUID, now, until time.Time) (issuing.Request, error) {
	tag, err := s.db.Pool.Exec(ctx, `UPDATE certificate_requests SET next_attempt_at = $3
WHERE id = $1 AND state = 'waiting' AND next_attempt_at <= $2`, id, now, until)
	if err != nil {
		return issuing.Request{}, err
	}
	r, err := s.Find(ctx, id)
	switch {
	case err != nil:
		return r, err
	case r.State != issuing.RequestWaiting:
		return r, issuing.ErrRequestDone
	case tag.RowsAffected() != 1:
		return r, issuing.ErrRequestBusy
	}
	return r, nil
}

// maxDue bounds one round of the job.
const maxDue = 1000

// Due lists waiting requests whose time has come.
func (s RequestStore) Due(ctx context.Context, now time.Time, limit int) ([]uuid.UUID, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT id FROM certificate_requests WHERE state = 'waiting' AND next_attempt_at <= $1
ORDER BY next_attempt_at LIMIT $2`, now, min(max(limit, 1), maxDue))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// Waiting lists waiting requests of devices that are still there.
func (s RequestStore) Waiting(ctx context.Context, after uuid.UUID, limit int) ([]issuing.Request, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT `+requestColumns+requestTables+`WHERE r.state = 'waiting' AND r.id > $1 AND d.state <> 'removed'
ORDER BY r.id LIMIT $2`, after, min(max(limit, 1), maxDue))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (issuing.Request, error) { return scanRequest(row) })
}

// ByKey finds the request that was made for a key.
func (s RequestStore) ByKey(ctx context.Context, hash [32]byte) (issuing.Request, error) {
	r, err := scanRequest(s.db.Pool.QueryRow(ctx, `SELECT `+requestColumns+requestTables+`WHERE r.key_hash = $1`, hash[:]))
	if errors.Is(err, pgx.ErrNoRows) {
		return r, issuing.ErrRequestUnknown
	}
	return r, err
}

// Accept registers a certificate. The citizen's row is locked first, as by
// everything that changes a device, so that the certificate's state is the
// device's whichever comes first.
func (s RequestStore) Accept(ctx context.Context, a issuing.Acceptance) error {
	err := s.db.txAgain(ctx, func(tx pgx.Tx) error {
		c := a.Certificate
		if _, err := tx.Exec(ctx, `SELECT 1 FROM citizens WHERE id = $1 FOR NO KEY UPDATE`, c.CitizenID); err != nil {
			return err
		}
		var state issuing.RequestState
		var device, person, key, ended string
		var renewal bool
		err := tx.QueryRow(ctx, `SELECT r.state, r.last_error, d.state, c.state, k.state, r.renews_id IS NOT NULL FROM certificate_requests r
JOIN devices d ON d.id = r.device_id JOIN citizens c ON c.id = r.citizen_id JOIN keys k ON k.id = r.key_id
WHERE r.id = $1 AND r.device_id = $2 AND r.citizen_id = $3 AND r.key_id = $4 FOR NO KEY UPDATE OF r, d`,
			a.Request, c.DeviceID, c.CitizenID, c.KeyID).Scan(&state, &ended, &device, &person, &key, &renewal)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && state == issuing.RequestIssued {
			return issuing.ErrRequestDone
		}
		if err != nil {
			return err
		}
		c.State = issuing.Good
		switch {
		case state == issuing.RequestRefused:
			c.State, c.RevokedAt, c.Reason = issuing.Revoked, &a.At, issuing.ReasonCessation
			if ended == issuing.EndedCardRevoked {
				c.Reason = issuing.ReasonPrivilegeTaken
			}
			return insertTooLate(ctx, tx, a, c)
		case device == "removed" || key != "active":
			c.State, c.RevokedAt, c.Reason = issuing.Revoked, &a.At, issuing.ReasonCessation
		case device != "active" || person != "active":
			c.State, c.RevokedAt, c.Reason = issuing.Held, &a.At, issuing.ReasonHold
		}
		if err := insertAccepted(ctx, tx, a, c); err != nil || !renewal {
			return err
		}
		return insertNotices(ctx, tx, c.CitizenID, c.DeviceID, c.DeviceID, "certificate_renewed", a.At)
	})
	if isUnique(err, "mobile_certificates_serial") {
		return issuing.ErrSeen
	}
	return err
}

// insertTooLate registers a certificate whose request had ended: revoked, so
// that its CA is told, and in nobody's place.
func insertTooLate(ctx context.Context, tx pgx.Tx, a issuing.Acceptance, c issuing.Certificate) error {
	b := &batch{}
	queueAccepted(b, a, c)
	b.exec(`UPDATE mobile_certificates SET superseded_at = $2 WHERE id = $1`, c.ID, a.At)
	return b.within(ctx, tx)
}

// insertAccepted registers a certificate in the place of the device's last one.
func insertAccepted(ctx context.Context, tx pgx.Tx, a issuing.Acceptance, c issuing.Certificate) error {
	b := &batch{}
	b.exec(`WITH old AS (UPDATE mobile_certificates SET superseded_at = $2 WHERE device_id = $1 AND superseded_at IS NULL RETURNING key_id)
UPDATE keys SET destroy_after = $3 WHERE id IN (SELECT key_id FROM old) AND purpose = 'mobile'`, c.DeviceID, a.At, a.At.Add(issuing.OldKeyLife))
	b.exec(`UPDATE device_notices SET seen_at = $2 WHERE about_id = $1 AND seen_at IS NULL AND kind LIKE 'certificate\_ends\_%'`, c.DeviceID, a.At)
	queueAccepted(b, a, c)
	b.exec(`UPDATE device_statements SET new_certificate_id = $2 WHERE new_request_id = $1`, a.Request, c.ID)
	return b.within(ctx, tx)
}

// queueAccepted writes authority, certificate, end of the request and entries.
func queueAccepted(b *batch, a issuing.Acceptance, c issuing.Certificate) {
	b.exec(`INSERT INTO authorities AS a (name, key_id, certificate, issuer, chain, created_at) VALUES ($1, NULL, $2, '', $3, $4)
ON CONFLICT (name) DO UPDATE SET certificate = excluded.certificate, chain = excluded.chain WHERE a.chain IS DISTINCT FROM excluded.chain`,
		c.Authority, a.Chain[0], a.Chain, a.At)
	var reason *int
	if c.RevokedAt != nil {
		reason = &c.Reason
	}
	b.one(errNoRow, `INSERT INTO mobile_certificates (id, serial, citizen_id, device_id, key_id, authority, der, not_before, not_after, state, revoked_at, reason, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		c.ID, c.Serial, c.CitizenID, c.DeviceID, c.KeyID, c.Authority, c.DER, c.NotBefore, c.NotAfter, c.State, c.RevokedAt, reason, c.CreatedAt)
	b.one(issuing.ErrRequestDone, `UPDATE certificate_requests SET state = 'issued', certificate_id = $2, ended_at = $3, attempts = attempts + 1, last_error = ''
WHERE id = $1 AND state <> 'issued'`, a.Request, c.ID, a.At)
	e := c.Issued().By(a.By.ActorKind, a.By.Actor)
	queueAudit(b, e)
	if c.State != issuing.Good {
		act := audit.CertificateRevoked
		if c.State == issuing.Held {
			act = audit.CertificateHeld
		}
		stopped := audit.New(act)
		stopped.Detail = e.Detail
		queueAudit(b, stopped.Citizen(c.CitizenID).Device(c.DeviceID).WithInt(audit.KeyReason, c.Reason))
	}
}

// Note writes a setback of a waiting request.
func (s RequestStore) Note(ctx context.Context, n issuing.Setback) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.exec(`UPDATE certificate_requests SET attempts = attempts + 1, last_error = $2, next_attempt_at = $3
WHERE id = $1 AND state = 'waiting'`, n.Request, n.Code, n.Next)
		if n.Audit != nil {
			queueAudit(b, *n.Audit)
		}
	})
}

// Close ends a waiting request without a certificate. Its key signs nothing
// then and is destroyed by the job that cleans up.
func (s RequestStore) Close(ctx context.Context, id uuid.UUID, code string, e audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(issuing.ErrRequestDone, `UPDATE certificate_requests SET state = 'refused', last_error = $2, ended_at = $3
WHERE id = $1 AND state = 'waiting'`, id, code, e.At)
		b.exec(`UPDATE keys SET destroy_after = $2 WHERE purpose = 'mobile' AND id = (SELECT key_id FROM certificate_requests WHERE id = $1)`, id, e.At)
		queueAudit(b, e)
	})
}

// endings are why a device's request ends, by why the device was stopped.
var endings = map[string]string{citizen.ReasonCardRevoked: issuing.EndedCardRevoked, citizen.ReasonCardExpired: issuing.EndedCardExpired}

// endsRequests says whether a device that was stopped so can never use what it
// waits for: removed, or nobody can resume it.
func endsRequests(c devices.Change) bool {
	return c.To == citizen.DeviceRemoved || endings[c.Reason] != ""
}

// endRequests ends what a device waits for, by whoever stopped it.
func endRequests(ctx context.Context, tx pgx.Tx, c devices.Change) error {
	code := endings[c.Reason]
	if code == "" {
		code = issuing.EndedDeviceRemoved
	}
	rows, err := tx.Query(ctx, `WITH ended AS (UPDATE certificate_requests SET state = 'refused', last_error = $2, ended_at = $3
	WHERE device_id = $1 AND state = 'waiting' RETURNING key_id)
UPDATE keys SET destroy_after = $3 WHERE purpose = 'mobile' AND id IN (SELECT key_id FROM ended) RETURNING id`, c.DeviceID, code, c.At)
	if err != nil {
		return err
	}
	ended, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return err
	}
	for _, key := range ended {
		e := audit.New(audit.CertificateRefused).By(c.Audit.ActorKind, c.Audit.Actor).From(c.Audit.IP).With(audit.KeyKeyID, key.String()).Refuse(code)
		e.OrderID = c.Audit.OrderID
		if err := insertAudit(ctx, tx, e.Citizen(c.CitizenID).Device(c.DeviceID)); err != nil {
			return err
		}
	}
	return nil
}

// Find reads one request.
func (s RequestStore) Find(ctx context.Context, id uuid.UUID) (issuing.Request, error) {
	r, err := scanRequest(s.db.Pool.QueryRow(ctx, `SELECT `+requestColumns+requestTables+`WHERE r.id = $1`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return r, issuing.ErrRequestUnknown
	}
	return r, err
}

// Chain gives the certificates from an outside authority to its anchor.
func (s RequestStore) Chain(ctx context.Context, authority string) ([][]byte, error) {
	var chain [][]byte
	err := s.db.Pool.QueryRow(ctx, `SELECT chain FROM authorities WHERE name = $1 AND chain IS NOT NULL`, authority).Scan(&chain)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, issuing.ErrNoAuthority
	}
	return chain, err
}

const unreported = `m.authority LIKE 'outside:%' AND (m.state <> m.reported_state OR coalesce(m.reason, -1) <> coalesce(m.reported_reason, -1))`

// Unreported lists certificates of outside CAs whose state their CA has not been
// told, or, with since, all whose state changed after it.
func (s RequestStore) Unreported(ctx context.Context, since time.Time, after uuid.UUID, limit int) ([]issuing.Report, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT m.id, m.authority, a.certificate, m.serial, m.state, coalesce(m.revoked_at, m.reported_at, m.created_at), coalesce(m.reason, 0)
FROM mobile_certificates m JOIN authorities a ON a.name = m.authority
WHERE m.id > $1 AND (CASE WHEN $2::timestamptz IS NULL THEN `+unreported+`
  ELSE m.authority LIKE 'outside:%' AND (m.revoked_at >= $2 OR (`+unreported+`)) END) ORDER BY m.id LIMIT $3`,
		after, nullTime(since), min(max(limit, 1), maxDue))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (issuing.Report, error) {
		var r issuing.Report
		err := row.Scan(&r.Certificate, &r.Authority, &r.Issuer, &r.Serial, &r.State, &r.At, &r.Reason)
		return r, err
	})
}

// Reported notes that an outside CA was told of a state. It gives false where
// the state has changed again since, or was reported before.
func (s RequestStore) Reported(ctx context.Context, r issuing.Report, e audit.Entry) (bool, error) {
	err := s.db.pipeline(ctx, func(b *batch) {
		b.one(errNoRow, `UPDATE mobile_certificates m SET reported_state = m.state, reported_reason = m.reason, reported_at = $5
WHERE m.authority = $1 AND m.serial = $2 AND m.state = $3 AND coalesce(m.reason, 0) = $4 AND `+unreported,
			r.Authority, r.Serial, r.State, r.Reason, e.At)
		queueAudit(b, e)
	})
	if errors.Is(err, errNoRow) {
		return false, nil
	}
	return err == nil, err
}

// Outstanding counts what waits: requests without a certificate, and states
// that an outside CA has not been told.
func (s RequestStore) Outstanding(ctx context.Context) (requests, reports int64, err error) {
	err = s.db.Pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM certificate_requests WHERE state = 'waiting'),
  (SELECT count(*) FROM mobile_certificates m WHERE `+unreported+`)`).Scan(&requests, &reports)
	return requests, reports, err
}

// Record writes an entry alone.
func (s RequestStore) Record(ctx context.Context, e audit.Entry) error {
	return s.db.Audit().Append(ctx, e)
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
