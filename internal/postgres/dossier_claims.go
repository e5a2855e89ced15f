package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/dossier"
)

const claimColumns = `order_id, dossier_id, point, decision, citizen_id, deputy, later, comment, made_at, covers, digest, first, document, state, failure`

func scanClaim(row pgx.CollectableRow) (dossier.Claim, error) {
	var c dossier.Claim
	var id uuid.UUID
	var covers []int32
	err := row.Scan(&c.Order, &id, &c.Point, &c.Decision, &c.Citizen, &c.Deputy, &c.Later, &c.Comment, &c.MadeAt, &covers, &c.Digest, &c.First, &c.Document,
		&c.State, &c.Failure)
	c.Dossier, c.Covers, c.MadeAt = dossier.ID(id), ints(covers), c.MadeAt.UTC()
	return c, err
}

// Claim writes the claims of one order.
func (s DossierStore) Claim(ctx context.Context, claims []dossier.Claim, entries []audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		for _, c := range claims {
			b.exec(`INSERT INTO dossier_claims (`+claimColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
				c.Order, c.Dossier.UUID(), c.Point, c.Decision, c.Citizen, c.Deputy, c.Later, c.Comment, c.MadeAt, small(c.Covers), c.Digest, c.First, c.Document,
				c.State, c.Failure)
		}
		for _, e := range entries {
			queueAudit(b, e)
		}
	})
}

// Claims lists an order's claims.
func (s DossierStore) Claims(ctx context.Context, order uuid.UUID) ([]dossier.Claim, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT `+claimColumns+` FROM dossier_claims WHERE order_id = $1 ORDER BY first`, order)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanClaim)
}

// OfDossier lists a dossier's claims, newest first.
func (s DossierStore) OfDossier(ctx context.Context, id dossier.ID, limit int) ([]dossier.Claim, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT `+claimColumns+` FROM dossier_claims WHERE dossier_id = $1 ORDER BY made_at DESC, order_id, first LIMIT $2`, id.UUID(), limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanClaim)
}

// Release ends a claim that is out.
func (s DossierStore) Release(ctx context.Context, r dossier.Release) error {
	c := r.Claim
	err := s.db.pipeline(ctx, func(b *batch) {
		b.one(errNoRow, `UPDATE dossier_claims SET state = $4, failure = $5 WHERE order_id = $1 AND dossier_id = $2 AND point = $3 AND state = 'out'`,
			c.Order, c.Dossier.UUID(), c.Point, r.State, r.Failure)
		b.exec(`UPDATE dossier_points SET failure = $3 WHERE dossier_id = $1 AND number = $2 AND state IN ('open', 'later')`, c.Dossier.UUID(), c.Point, r.Failure)
		queueAudit(b, r.Audit)
	})
	if errors.Is(err, errNoRow) {
		return nil // somebody else has ended it
	}
	return err
}

// Unsettled lists orders that have ended, or were never made, with claims out.
// One that has just ended is left for a moment to the node that ended it.
func (s DossierStore) Unsettled(ctx context.Context, now time.Time, limit int) ([]uuid.UUID, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT c.order_id FROM dossier_claims c LEFT JOIN orders o ON o.id = c.order_id
WHERE c.state = 'out' AND (o.ended_at <= $1::timestamptz - interval '2 seconds' OR o.id IS NULL AND c.made_at < $1::timestamptz - interval '1 minute')
GROUP BY c.order_id ORDER BY min(c.made_at) LIMIT $2`, now, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// Certificates lists the certificates by which a person can sign now, newest first.
func (s DossierStore) Certificates(ctx context.Context, citizen uuid.UUID, now time.Time) ([][]byte, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT m.der FROM devices d JOIN mobile_certificates m ON m.device_id = d.id
WHERE d.citizen_id = $1 AND d.state = 'active' AND m.state = 'good' AND m.superseded_at IS NULL AND m.not_before <= $2 AND m.not_after > $2
ORDER BY m.created_at DESC LIMIT 20`, citizen, now)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[[]byte])
}

// Certificate reads a mobile certificate, in whatever state.
func (s DossierStore) Certificate(ctx context.Context, id uuid.UUID) ([]byte, error) {
	var der []byte
	err := s.db.Pool.QueryRow(ctx, `SELECT der FROM mobile_certificates WHERE id = $1`, id).Scan(&der)
	return der, err
}

// Refused writes the audit entry of a step that was not allowed.
func (s DossierStore) Refused(ctx context.Context, entry audit.Entry) error {
	return s.db.Audit().Append(ctx, entry)
}
