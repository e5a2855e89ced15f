package postgres

import (
	"context"
	"net/netip"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
)

// maxAuditRows bounds every list of audit entries.
const maxAuditRows = 500

const insertAuditSQL = `
INSERT INTO audit_entries (id, at, act, result, actor_kind, actor, citizen_id, device_id, client_id, order_id, ip, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

// insertAudit writes an act's audit entry in the act's own transaction.
func insertAudit(ctx context.Context, tx pgx.Tx, e audit.Entry) error {
	_, err := tx.Exec(ctx, insertAuditSQL, auditArgs(e)...)
	return err
}

// queueAudit adds an act's audit entry to the act's own pipeline.
func queueAudit(b *batch, e audit.Entry) { b.exec(insertAuditSQL, auditArgs(e)...) }

// queueAuditWhen adds an entry that is written only where the condition holds
// after the statements before it. The condition's values count from $13.
func queueAuditWhen(b *batch, e audit.Entry, condition string, args ...any) {
	b.exec(`
INSERT INTO audit_entries (id, at, act, result, actor_kind, actor, citizen_id, device_id, client_id, order_id, ip, detail)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 WHERE `+condition, append(auditArgs(e), args...)...)
}

func auditArgs(e audit.Entry) []any {
	var ip *netip.Addr
	if e.IP.IsValid() {
		ip = &e.IP
	}
	detail := e.Detail
	if detail == nil {
		detail = map[string]any{}
	}
	return []any{e.ID, e.At, string(e.Act), string(e.Result), string(e.ActorKind), e.Actor,
		e.CitizenID, e.DeviceID, e.ClientID, e.OrderID, ip, detail}
}

// AuditStore is audit.Store on Postgres.
type AuditStore struct{ db *DB }

// Audit gives the store of audit entries.
func (db *DB) Audit() AuditStore { return AuditStore{db} }

var _ audit.Store = AuditStore{}

// Append writes one entry by itself: the trace of a refusal.
func (s AuditStore) Append(ctx context.Context, e audit.Entry) error {
	if s.db.refusals != nil {
		return s.db.refusals.Append(ctx, e)
	}
	return s.write(ctx, e)
}

func (s AuditStore) write(ctx context.Context, e audit.Entry) error {
	_, err := s.db.Pool.Exec(ctx, insertAuditSQL, auditArgs(e)...)
	return err
}

const auditColumns = `id, at, act, result, actor_kind, actor, citizen_id, device_id, client_id, order_id, ip, detail`

// ForOrder lists an order's entries, oldest first.
func (s AuditStore) ForOrder(ctx context.Context, order uuid.UUID, limit int) ([]audit.Entry, error) {
	return s.list(ctx, `SELECT `+auditColumns+` FROM audit_entries WHERE order_id = $1 ORDER BY id LIMIT $2`,
		order, auditLimit(limit))
}

// ForCitizen lists entries that concern a citizen, newest first, older than before.
func (s AuditStore) ForCitizen(ctx context.Context, citizen, before uuid.UUID, limit int) ([]audit.Entry, error) {
	if before == uuid.Nil {
		before = uuid.Max
	}
	return s.list(ctx, `SELECT `+auditColumns+` FROM audit_entries
WHERE citizen_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, citizen, before, auditLimit(limit))
}

func (s AuditStore) list(ctx context.Context, sql string, args ...any) ([]audit.Entry, error) {
	rows, err := s.db.Pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (audit.Entry, error) {
		var e audit.Entry
		var ip *netip.Addr
		err := row.Scan(&e.ID, &e.At, &e.Act, &e.Result, &e.ActorKind, &e.Actor,
			&e.CitizenID, &e.DeviceID, &e.ClientID, &e.OrderID, &ip, &e.Detail)
		if ip != nil {
			e.IP = *ip
		}
		e.At = e.At.UTC()
		return e, err
	})
}

func auditLimit(n int) int {
	if n <= 0 || n > maxAuditRows {
		return maxAuditRows
	}
	return n
}
