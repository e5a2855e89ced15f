package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/oidc"
)

// OIDCStore is oidc.Store on Postgres.
type OIDCStore struct{ db *DB }

// OIDC gives the store of the OpenID Provider.
func (db *DB) OIDC() OIDCStore { return OIDCStore{db} }

var _ oidc.Store = OIDCStore{}

const nilUUID = `'00000000-0000-0000-0000-000000000000'`

const grantColumns = `o.id, o.client_id, o.state, o.request, coalesce(o.citizen_id, ` + nilUUID + `), coalesce(o.device_id, ` + nilUUID + `),
  o.acr, coalesce(o.approved_at, o.created_at), coalesce(d.attested, false), coalesce(c.state = 'active' AND d.state = 'active', false),
  c.national_id_mac, c.national_id_sealed, c.name_sealed`

const grantTables = ` LEFT JOIN citizens c ON c.id = o.citizen_id LEFT JOIN devices d ON d.id = o.device_id `

// grantTargets are the places that grantColumns are scanned into.
func grantTargets(g *oidc.Grant) []any {
	return []any{&g.Order, &g.Client, &g.State, &g.Request, &g.Citizen, &g.Device, &g.ACR, &g.ApprovedAt, &g.Attested,
		&g.Active, &g.NationalIDMAC, &g.NationalIDSealed, &g.NameSealed}
}

// Grant reads a login order with its citizen and device.
func (s OIDCStore) Grant(ctx context.Context, order uuid.UUID) (*oidc.Grant, error) {
	var g oidc.Grant
	err := s.db.Pool.QueryRow(ctx, `SELECT `+grantColumns+` FROM orders o`+grantTables+`WHERE o.id = $1 AND o.kind = 'login'`,
		order).Scan(grantTargets(&g)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, oidc.ErrGrantUnknown
	}
	return &g, err
}

// RedeemCode completes an approved login order and writes its access token.
func (s OIDCStore) RedeemCode(ctx context.Context, r oidc.Redemption) error {
	t := r.Token
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(oidc.ErrCodeUsed, `UPDATE orders SET state = 'completed', completed_at = $2, ended_at = $2
WHERE id = $1 AND kind = 'login' AND state = 'approved' AND client_id = $3`, t.Grant.Order, r.At, t.Client)
		b.exec(`INSERT INTO access_tokens (id, client_id, order_id, citizen_id, subject, scopes, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			t.ID, t.Client, t.Grant.Order, t.Grant.Citizen, t.Subject, list(t.Scopes), t.CreatedAt, t.ExpiresAt)
		queueAudit(b, r.Audit)
		if r.Assertion != nil {
			queueAssertion(b, *r.Assertion)
		}
	})
}

// queueAssertion makes a client assertion work once: the primary key refuses a second use.
func queueAssertion(b *batch, a oidc.UsedAssertion) {
	b.one(oidc.ErrAssertionReplayed, `INSERT INTO used_challenges (challenge, expires_at) VALUES ($1, $2)
ON CONFLICT (challenge) DO NOTHING`, a.Hash[:], a.ExpiresAt)
}

// RevokeOrder revokes the tokens of an order. Their ids are younger than the
// order's, which spares older partitions.
func (s OIDCStore) RevokeOrder(ctx context.Context, order uuid.UUID, at time.Time, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.exec(`UPDATE access_tokens SET revoked_at = $2 WHERE order_id = $1 AND id > $1 AND revoked_at IS NULL`, order, at)
		queueAudit(b, entry)
	})
}

// Token reads an access token with its grant.
func (s OIDCStore) Token(ctx context.Context, id uuid.UUID) (*oidc.Token, error) {
	var t oidc.Token
	targets := append([]any{&t.ID, &t.Client, &t.Subject, &t.Scopes, &t.CreatedAt, &t.ExpiresAt, &t.Revoked}, grantTargets(&t.Grant)...)
	err := s.db.Pool.QueryRow(ctx, `SELECT t.id, t.client_id, t.subject, t.scopes, t.created_at, t.expires_at,
  t.revoked_at IS NOT NULL, `+grantColumns+`
FROM access_tokens t JOIN orders o ON o.id = t.order_id`+grantTables+`WHERE t.id = $1`, id).Scan(targets...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, oidc.ErrTokenUnknown
	}
	if err != nil {
		return nil, err
	}
	return &t, nil
}

// RevokeToken revokes one token of a client.
func (s OIDCStore) RevokeToken(ctx context.Context, id, client uuid.UUID, at time.Time, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(oidc.ErrTokenUnknown, `UPDATE access_tokens SET revoked_at = $3
WHERE id = $1 AND client_id = $2 AND revoked_at IS NULL`, id, client, at)
		queueAudit(b, entry)
	})
}

// UseAssertion consumes a client assertion by itself.
func (s OIDCStore) UseAssertion(ctx context.Context, a oidc.UsedAssertion) error {
	return s.db.pipeline(ctx, func(b *batch) { queueAssertion(b, a) })
}

// Issued records a token that is not stored.
func (s OIDCStore) Issued(ctx context.Context, a *oidc.UsedAssertion, entry audit.Entry) error {
	if a == nil {
		return s.db.Audit().Append(ctx, entry)
	}
	return s.db.pipeline(ctx, func(b *batch) {
		queueAssertion(b, *a)
		queueAudit(b, entry)
	})
}

// Refused writes the entry of something that was not allowed.
func (s OIDCStore) Refused(ctx context.Context, entry audit.Entry) error {
	return s.db.Audit().Append(ctx, entry)
}
