package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/front/csc"
	"sealgate/internal/oidc"
)

// CSCStore is csc.Store on Postgres.
type CSCStore struct{ db *DB }

// CSC gives the store of the Cloud Signature Consortium's API.
func (db *DB) CSC() CSCStore { return CSCStore{db} }

var _ csc.Store = CSCStore{}

// Grant reads an order that the door made, and whether it has its token.
func (s CSCStore) Grant(ctx context.Context, order uuid.UUID) (*csc.Grant, error) {
	var g csc.Grant
	err := s.db.Pool.QueryRow(ctx, `SELECT o.id, o.client_id, o.kind, o.state, o.request, coalesce(o.citizen_id, `+nilUUID+`),
  coalesce(o.device_id, `+nilUUID+`), coalesce(c.state = 'active' AND d.state = 'active', false), t.order_id IS NOT NULL
FROM orders o LEFT JOIN citizens c ON c.id = o.citizen_id LEFT JOIN devices d ON d.id = o.device_id
LEFT JOIN csc_tokens t ON t.order_id = o.id
WHERE o.id = $1 AND o.request->>'door' = $2`, order, csc.DoorName).Scan(&g.Order, &g.Client, &g.Kind, &g.State, &g.Request,
		&g.Citizen, &g.Device, &g.Active, &g.Redeemed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, oidc.ErrGrantUnknown
	}
	return &g, err
}

// Redeem writes the one token of an order. A login order is completed by it, a
// sign order is completed already.
func (s CSCStore) Redeem(ctx context.Context, r csc.Redemption) error {
	t := r.Token
	return s.db.pipeline(ctx, func(b *batch) {
		if t.Scope == csc.ScopeService {
			b.one(oidc.ErrCodeUsed, `UPDATE orders SET state = 'completed', completed_at = $2, ended_at = $2
WHERE id = $1 AND kind = 'login' AND state = 'approved' AND client_id = $3 AND citizen_id = $4`, t.Order, t.CreatedAt, t.Client, t.Citizen)
		} else {
			b.found(oidc.ErrCodeUsed, `SELECT 1 FROM orders WHERE id = $1 AND kind = 'sign' AND state = 'completed' AND client_id = $2
AND citizen_id = $3 AND subject_certificate_id = $4`, t.Order, t.Client, t.Citizen, t.Certificate)
		}
		b.one(oidc.ErrCodeUsed, `INSERT INTO csc_tokens (order_id, client_id, citizen_id, scope, certificate_id, created_at, expires_at)
VALUES ($1, $2, $3, $4, nullif($5::uuid, `+nilUUID+`), $6, $7) ON CONFLICT (order_id) DO NOTHING`,
			t.Order, t.Client, t.Citizen, t.Scope, t.Certificate, t.CreatedAt, t.ExpiresAt)
		queueAudit(b, r.Audit)
		if r.Assertion != nil {
			queueAssertion(b, *r.Assertion)
		}
	})
}

// Token reads an access token.
func (s CSCStore) Token(ctx context.Context, order uuid.UUID) (*csc.Token, error) {
	var t csc.Token
	var spent []int32
	err := s.db.Pool.QueryRow(ctx, `SELECT t.order_id, t.client_id, t.citizen_id, t.scope, coalesce(t.certificate_id, `+nilUUID+`), t.spent,
  t.created_at, t.expires_at, t.revoked_at IS NOT NULL, coalesce(c.state = 'active' AND d.state = 'active', false), coalesce(d.id, `+nilUUID+`)
FROM csc_tokens t JOIN orders o ON o.id = t.order_id LEFT JOIN citizens c ON c.id = o.citizen_id LEFT JOIN devices d ON d.id = o.device_id
WHERE t.order_id = $1 AND o.id = $1`, order).Scan(&t.Order, &t.Client, &t.Citizen, &t.Scope, &t.Certificate, &spent,
		&t.CreatedAt, &t.ExpiresAt, &t.Revoked, &t.Active, &t.Device)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, oidc.ErrTokenUnknown
	}
	for _, n := range spent {
		t.Spent = append(t.Spent, int(n))
	}
	return &t, err
}

// Revoke ends a token of its client.
func (s CSCStore) Revoke(ctx context.Context, order, client uuid.UUID, at time.Time, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(oidc.ErrTokenUnknown, `UPDATE csc_tokens SET revoked_at = $3
WHERE order_id = $1 AND client_id = $2 AND revoked_at IS NULL`, order, client, at)
		queueAudit(b, entry)
	})
}

// UseAssertion consumes a client assertion by itself.
func (s CSCStore) UseAssertion(ctx context.Context, a oidc.UsedAssertion) error {
	return s.db.pipeline(ctx, func(b *batch) { queueAssertion(b, a) })
}

const credentialColumns = `m.id, m.citizen_id, m.device_id, m.der, m.authority, m.state, m.not_before, m.not_after, d.name,
  c.state = 'active' AND d.state = 'active', m.superseded_at IS NOT NULL`

func credentialTargets(c *csc.Credential) []any {
	return []any{&c.ID, &c.Citizen, &c.Device, &c.DER, &c.Authority, &c.State, &c.NotBefore, &c.NotAfter, &c.DeviceName, &c.Active, &c.Superseded}
}

// Credentials lists the certificates in use, of each device one.
func (s CSCStore) Credentials(ctx context.Context, citizen uuid.UUID) ([]csc.Credential, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT DISTINCT ON (m.device_id) `+credentialColumns+`
FROM mobile_certificates m JOIN devices d ON d.id = m.device_id JOIN citizens c ON c.id = m.citizen_id
WHERE m.citizen_id = $1 AND d.state <> 'removed' AND m.superseded_at IS NULL
ORDER BY m.device_id, m.not_after DESC LIMIT 100`, citizen)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (csc.Credential, error) {
		var c csc.Credential
		err := row.Scan(credentialTargets(&c)...)
		return c, err
	})
}

// Credential reads one certificate.
func (s CSCStore) Credential(ctx context.Context, certificate uuid.UUID) (*csc.Credential, error) {
	var c csc.Credential
	err := s.db.Pool.QueryRow(ctx, `SELECT `+credentialColumns+`
FROM mobile_certificates m JOIN devices d ON d.id = m.device_id JOIN citizens c ON c.id = m.citizen_id
WHERE m.id = $1 AND d.state <> 'removed'`, certificate).Scan(credentialTargets(&c)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, csc.ErrCredentialUnknown
	}
	return &c, err
}

// Spend marks documents as handed out: of two calls at once, one finds them so.
func (s CSCStore) Spend(ctx context.Context, order uuid.UUID, documents []int, at time.Time, entry audit.Entry) error {
	places := make([]int32, len(documents))
	for i, n := range documents {
		places[i] = int32(n)
	}
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(csc.ErrSpent, `UPDATE csc_tokens SET spent = spent || $2::integer[]
WHERE order_id = $1 AND scope = 'credential' AND NOT (spent && $2::integer[]) AND revoked_at IS NULL AND expires_at > $3`, order, places, at)
		queueAudit(b, entry)
	})
}
