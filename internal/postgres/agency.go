package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
)

// AgencyStore is agency.Store on Postgres.
type AgencyStore struct{ db *DB }

// Agency gives the store of agencies and clients.
func (db *DB) Agency() AgencyStore { return AgencyStore{db} }

var _ agency.Store = AgencyStore{}

const clientQuery = `
SELECT c.id, c.client_id, c.name_zh, c.name_en, c.host, c.token_endpoint_auth_method, c.secret_mac, c.jwks,
  c.redirect_uris, c.post_logout_redirect_uris, c.return_uris, c.grant_types, c.scopes, c.sector_identifier,
  c.minimum_acr, c.maximum_frame_age, coalesce(nullif(c.synced_passkeys, 'inherit'), ''), c.require_subject, c.state, c.built_in, c.created_at,
  a.id, a.code, a.name_zh, a.name_en, a.sector, a.state, a.created_at
FROM clients c JOIN agencies a ON a.id = c.agency_id `

// ClientByClientID reads a client and its agency.
func (s AgencyStore) ClientByClientID(ctx context.Context, clientID string) (*agency.Client, error) {
	return s.client(ctx, `WHERE c.client_id = $1`, clientID)
}

// ClientByID reads a client and its agency.
func (s AgencyStore) ClientByID(ctx context.Context, id uuid.UUID) (*agency.Client, error) {
	return s.client(ctx, `WHERE c.id = $1`, id)
}

func (s AgencyStore) client(ctx context.Context, where string, arg any) (*agency.Client, error) {
	c, err := scanClient(s.db.Pool.QueryRow(ctx, clientQuery+where, arg))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, agency.ErrClientUnknown
	}
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func scanClient(row pgx.Row) (agency.Client, error) {
	var c agency.Client
	var age *time.Duration
	a := &c.Agency
	err := row.Scan(&c.ID, &c.ClientID, &c.Name.ZhHant, &c.Name.En, &c.Host, &c.AuthMethod, &c.SecretMAC, &c.JWKS,
		&c.RedirectURIs, &c.PostLogoutRedirectURIs, &c.ReturnURIs, &c.GrantTypes, &c.Scopes, &c.SectorIdentifier,
		&c.MinimumACR, &age, &c.SyncedPasskeys, &c.RequireSubject, &c.State, &c.BuiltIn, &c.CreatedAt,
		&a.ID, &a.Code, &a.Name.ZhHant, &a.Name.En, &a.Sector, &a.State, &a.CreatedAt)
	if age != nil {
		c.MaximumFrameAge = *age
	}
	c.CreatedAt, a.CreatedAt = c.CreatedAt.UTC(), a.CreatedAt.UTC()
	return c, err
}

// SaveAgency inserts an agency or updates the one with the same code.
func (s AgencyStore) SaveAgency(ctx context.Context, a agency.Agency, entry audit.Entry) (agency.Agency, error) {
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		var inserted bool
		err := tx.QueryRow(ctx, `
INSERT INTO agencies AS a (id, code, name_zh, name_en, sector, state) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (code) DO UPDATE SET name_zh = excluded.name_zh, name_en = excluded.name_en,
  sector = excluded.sector, state = excluded.state
WHERE (a.name_zh, a.name_en, a.sector, a.state)
  IS DISTINCT FROM (excluded.name_zh, excluded.name_en, excluded.sector, excluded.state)
RETURNING id, created_at, xmax = 0`,
			a.ID, a.Code, a.Name.ZhHant, a.Name.En, a.Sector, a.State).Scan(&a.ID, &a.CreatedAt, &inserted)
		if errors.Is(err, pgx.ErrNoRows) { // nothing changed, nothing to record
			return tx.QueryRow(ctx, `SELECT id, created_at FROM agencies WHERE code = $1`, a.Code).Scan(&a.ID, &a.CreatedAt)
		}
		if err != nil {
			return err
		}
		if !inserted {
			entry = entry.With(audit.KeyReason, "updated")
		}
		return insertAudit(ctx, tx, entry)
	})
	a.CreatedAt = a.CreatedAt.UTC()
	return a, err
}

const saveClientSQL = `
INSERT INTO clients AS c (id, client_id, agency_id, name_zh, name_en, host, token_endpoint_auth_method, secret_mac, jwks,
  redirect_uris, post_logout_redirect_uris, return_uris, grant_types, scopes, sector_identifier,
  minimum_acr, maximum_frame_age, state, built_in, synced_passkeys, require_subject)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, coalesce(nullif($20, ''), 'inherit'), $21)
ON CONFLICT (client_id) DO UPDATE SET name_zh = excluded.name_zh, name_en = excluded.name_en, host = excluded.host,
  token_endpoint_auth_method = excluded.token_endpoint_auth_method, secret_mac = excluded.secret_mac, jwks = excluded.jwks,
  redirect_uris = excluded.redirect_uris, post_logout_redirect_uris = excluded.post_logout_redirect_uris,
  return_uris = excluded.return_uris, grant_types = excluded.grant_types, scopes = excluded.scopes,
  sector_identifier = excluded.sector_identifier, minimum_acr = excluded.minimum_acr,
  maximum_frame_age = excluded.maximum_frame_age, state = excluded.state, built_in = excluded.built_in,
  synced_passkeys = excluded.synced_passkeys, require_subject = excluded.require_subject
WHERE (c.name_zh, c.name_en, c.host, c.token_endpoint_auth_method, c.secret_mac, c.jwks, c.redirect_uris,
    c.post_logout_redirect_uris, c.return_uris, c.grant_types, c.scopes, c.sector_identifier, c.minimum_acr,
    c.maximum_frame_age, c.state, c.built_in, c.synced_passkeys, c.require_subject)
  IS DISTINCT FROM (excluded.name_zh, excluded.name_en, excluded.host, excluded.token_endpoint_auth_method,
    excluded.secret_mac, excluded.jwks, excluded.redirect_uris, excluded.post_logout_redirect_uris, excluded.return_uris,
    excluded.grant_types, excluded.scopes, excluded.sector_identifier, excluded.minimum_acr,
    excluded.maximum_frame_age, excluded.state, excluded.built_in, excluded.synced_passkeys, excluded.require_subject)
RETURNING id, agency_id, created_at, xmax = 0`

// SaveClient inserts a client or updates the one with the same client_id.
func (s AgencyStore) SaveClient(ctx context.Context, c agency.Client, entry audit.Entry) (agency.Client, error) {
	var age *time.Duration
	if c.MaximumFrameAge != 0 {
		age = &c.MaximumFrameAge
	}
	var jwks any // a nil RawMessage would be sent as JSON null
	if len(c.JWKS) > 0 {
		jwks = []byte(c.JWKS)
	}
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		var inserted bool
		var owner uuid.UUID
		changed := true
		err := tx.QueryRow(ctx, saveClientSQL, c.ID, c.ClientID, c.Agency.ID, c.Name.ZhHant, c.Name.En, c.Host,
			c.AuthMethod, c.SecretMAC, jwks, list(c.RedirectURIs), list(c.PostLogoutRedirectURIs), list(c.ReturnURIs),
			list(c.GrantTypes), list(c.Scopes), c.SectorIdentifier, c.MinimumACR, age, c.State, c.BuiltIn, c.SyncedPasskeys, c.RequireSubject).
			Scan(&c.ID, &owner, &c.CreatedAt, &inserted)
		if errors.Is(err, pgx.ErrNoRows) {
			changed = false
			err = tx.QueryRow(ctx, `SELECT id, agency_id, created_at FROM clients WHERE client_id = $1`, c.ClientID).
				Scan(&c.ID, &owner, &c.CreatedAt)
		}
		if err != nil {
			return err
		}
		if owner != c.Agency.ID {
			return agency.ErrClientInvalid.With("field", "agency")
		}
		if !changed {
			return nil
		}
		if !inserted {
			entry.Act = audit.ClientChanged
		}
		return insertAudit(ctx, tx, entry.Client(c.ID))
	})
	c.CreatedAt = c.CreatedAt.UTC()
	return c, err
}

// list keeps a nil slice from becoming NULL.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// SetSecret replaces the keyed hash of a client's secret.
func (s AgencyStore) SetSecret(ctx context.Context, clientID string, mac []byte, entry audit.Entry) error {
	return s.db.tx(ctx, func(tx pgx.Tx) error {
		var id uuid.UUID
		var method agency.AuthMethod
		err := tx.QueryRow(ctx, `SELECT id, token_endpoint_auth_method FROM clients WHERE client_id = $1 FOR UPDATE`,
			clientID).Scan(&id, &method)
		if errors.Is(err, pgx.ErrNoRows) {
			return agency.ErrClientUnknown
		}
		if err != nil {
			return err
		}
		if method != agency.AuthClientSecretBasic && method != agency.AuthClientSecretPost {
			return agency.ErrClientInvalid.With("field", "token_endpoint_auth_method")
		}
		if _, err := tx.Exec(ctx, `UPDATE clients SET secret_mac = $2 WHERE id = $1`, id, mac); err != nil {
			return err
		}
		return insertAudit(ctx, tx, entry.Client(id).With(audit.KeyReason, "secret"))
	})
}

// SetPolicy changes what a client demands, and nothing else.
func (s AgencyStore) SetPolicy(ctx context.Context, clientID string, p agency.Policy, entry audit.Entry) error {
	return s.db.tx(ctx, func(tx pgx.Tx) error {
		var id uuid.UUID
		err := tx.QueryRow(ctx, `UPDATE clients SET synced_passkeys = coalesce($2, synced_passkeys),
  minimum_acr = coalesce($3, minimum_acr), require_subject = coalesce($4, require_subject)
WHERE client_id = $1 AND NOT built_in RETURNING id`, clientID, p.SyncedPasskeys, p.MinimumACR, p.RequireSubject).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return agency.ErrClientUnknown
		}
		if err != nil {
			return err
		}
		return insertAudit(ctx, tx, entry.Client(id))
	})
}

// maxClients bounds a list of clients.
const maxClients = 1000

// Clients lists clients by client_id.
func (s AgencyStore) Clients(ctx context.Context, limit int) ([]agency.Client, error) {
	if limit <= 0 || limit > maxClients {
		limit = maxClients
	}
	rows, err := s.db.Pool.Query(ctx, clientQuery+`ORDER BY c.client_id LIMIT $1`, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (agency.Client, error) { return scanClient(row) })
}
