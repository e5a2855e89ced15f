package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/webhook"
)

// WebhookStore is webhook.Store on Postgres. Messages are written by the
// function queue_webhook in the transactions of the acts they tell of.
type WebhookStore struct{ db *DB }

// Webhooks gives the store of messages to clients.
func (db *DB) Webhooks() WebhookStore { return WebhookStore{db} }

var _ webhook.Store = WebhookStore{}

// Due takes messages whose time has come. What is for a client that no longer
// wants to be told is never due.
func (s WebhookStore) Due(ctx context.Context, now, until time.Time, each int) ([]webhook.Message, error) {
	rows, err := s.db.Pool.Query(ctx, `WITH due AS (
  SELECT w.id, c.id AS client, c.webhook_url, c.webhook_secret FROM clients c CROSS JOIN LATERAL (
    SELECT m.id FROM webhook_messages m WHERE m.client_id = c.id AND m.next_attempt_at <= $1
    ORDER BY m.next_attempt_at, m.created_at LIMIT $3 FOR UPDATE SKIP LOCKED) w
  WHERE c.webhook_url <> '' AND c.state = 'active')
, taken AS (
  UPDATE webhook_messages m SET next_attempt_at = $2 FROM due WHERE m.id = due.id
  RETURNING m.id, m.client_id, m.type, m.data, m.created_at, m.attempts, due.webhook_url, due.webhook_secret)
SELECT id, client_id, type, data, created_at, attempts, webhook_url, webhook_secret FROM taken ORDER BY created_at, id`, now, until, each)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (webhook.Message, error) {
		var m webhook.Message
		err := row.Scan(&m.ID, &m.Client, &m.Type, &m.Data, &m.CreatedAt, &m.Attempts, &m.URL, &m.Secret)
		return m, err
	})
}

// Done writes the outcome of an attempt.
func (s WebhookStore) Done(ctx context.Context, o webhook.Outcome) error {
	return s.db.pipeline(ctx, func(b *batch) {
		switch {
		case o.Delivered:
			b.exec(`UPDATE webhook_messages SET attempts = attempts + 1, next_attempt_at = NULL, delivered_at = $2, last_error = ''
WHERE id = $1 AND next_attempt_at IS NOT NULL`, o.ID, o.At)
		case o.Dead:
			b.exec(`UPDATE webhook_messages SET attempts = attempts + 1, next_attempt_at = NULL, dead_at = $2, last_error = $3
WHERE id = $1 AND next_attempt_at IS NOT NULL`, o.ID, o.At, o.Error)
		case o.Untried:
			b.exec(`UPDATE webhook_messages SET next_attempt_at = $2 WHERE id = $1 AND next_attempt_at IS NOT NULL`, o.ID, o.Next)
		default:
			b.exec(`UPDATE webhook_messages SET attempts = attempts + 1, next_attempt_at = $2, last_error = $3
WHERE id = $1 AND next_attempt_at IS NOT NULL`, o.ID, o.Next, o.Error)
		}
		if o.Audit != nil {
			queueAudit(b, *o.Audit)
		}
	})
}

// Forget removes messages that are at their end, and those that nobody wants to
// be told of any more.
func (s WebhookStore) Forget(ctx context.Context, before time.Time) error {
	_, err := s.db.Pool.Exec(ctx, `DELETE FROM webhook_messages WHERE created_at < $1`, before)
	return err
}

// SetWebhook sets where a client is told; "" for nowhere. The secret is sealed.
func (s AgencyStore) SetWebhook(ctx context.Context, client uuid.UUID, address string, sealed []byte, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(agency.ErrClientUnknown, `UPDATE clients SET webhook_url = $2, webhook_secret = $3 WHERE id = $1 AND NOT built_in`, client, address, sealed)
		if address == "" {
			b.exec(`DELETE FROM webhook_messages WHERE client_id = $1 AND next_attempt_at IS NOT NULL`, client)
		}
		queueAudit(b, entry.Client(client))
	})
}

// Webhook says where a client is told; "" for nowhere.
func (s AgencyStore) Webhook(ctx context.Context, client uuid.UUID) (string, error) {
	var address string
	err := s.db.Pool.QueryRow(ctx, `SELECT webhook_url FROM clients WHERE id = $1`, client).Scan(&address)
	if errors.Is(err, pgx.ErrNoRows) {
		err = agency.ErrClientUnknown
	}
	return address, err
}
