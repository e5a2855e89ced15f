package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/console"
)

// ConsoleStore is the console's stores on Postgres.
type ConsoleStore struct{ db *DB }

// Console gives the stores of administrators, their sessions and their acts.
func (db *DB) Console() ConsoleStore { return ConsoleStore{db} }

var (
	_ console.AdministratorStore = ConsoleStore{}
	_ console.SessionStore       = ConsoleStore{}
	_ console.ActStore           = ConsoleStore{}
	_ console.PeopleStore        = ConsoleStore{}
)

const insertInviteSQL = `INSERT INTO administrator_invites (token_hash, kind, name, roles, invited_by, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)`

func inviteArgs(kind string, i console.Invite) []any {
	return []any{i.Hash, kind, i.Name, i.Roles, nullable(i.By), i.CreatedAt, i.ExpiresAt}
}

func nullable(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

// FirstInvite inserts the first administrator's invitation while there is nobody.
func (s ConsoleStore) FirstInvite(ctx context.Context, i console.Invite, entry audit.Entry) (bool, error) {
	fresh := false
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		// Of several nodes that start at once one asks at a time.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('sealgate.first-administrator'))`); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT NOT EXISTS (SELECT 1 FROM administrators)`).Scan(&fresh); err != nil || !fresh {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM administrator_invites WHERE kind = 'first' AND used_at IS NULL`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insertInviteSQL, inviteArgs("first", i)...); err != nil {
			return err
		}
		return insertAudit(ctx, tx, entry)
	})
	return fresh, err
}

// OperatorInvite inserts an invitation made in a shell.
func (s ConsoleStore) OperatorInvite(ctx context.Context, i console.Invite, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.exec(insertInviteSQL, inviteArgs("operator", i)...)
		queueAudit(b, entry)
	})
}

// Invite writes the approval and inserts the invitation.
func (s ConsoleStore) Invite(ctx context.Context, a *console.Approval, i console.Invite, entry audit.Entry) error {
	return s.db.tx(ctx, func(tx pgx.Tx) error {
		if err := insertApproval(ctx, tx, a); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insertInviteSQL, inviteArgs("console", i)...); err != nil {
			return err
		}
		return insertAudit(ctx, tx, entry)
	})
}

// FindInvite reads an invitation that can still be used.
func (s ConsoleStore) FindInvite(ctx context.Context, hash []byte, at time.Time) (*console.Invite, error) {
	i := console.Invite{Hash: hash}
	var by *uuid.UUID
	err := s.db.Pool.QueryRow(ctx, `SELECT name, roles, invited_by, created_at, expires_at FROM administrator_invites
WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2`, hash, at).Scan(&i.Name, &i.Roles, &by, &i.CreatedAt, &i.ExpiresAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, console.ErrInvite
	}
	if by != nil {
		i.By = *by
	}
	return &i, err
}

// Join uses an invitation up and inserts the administrator.
func (s ConsoleStore) Join(ctx context.Context, inviteHash []byte, use console.Use, session console.Session, userHandle []byte, entry audit.Entry) error {
	who, key := session.Administrator, session.Administrator.Passkeys[0]
	transports := key.Transports
	if transports == nil {
		transports = []string{}
	}
	err := s.db.pipeline(ctx, func(b *batch) {
		b.one(console.ErrTicket, `INSERT INTO used_challenges (challenge, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, use.Challenge[:], use.Until)
		b.exec(`INSERT INTO administrators (id, name, roles, user_handle, invited_by, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			who.ID, who.Name, who.Roles, userHandle, nullable(who.InvitedBy), who.CreatedAt)
		b.one(console.ErrInvite, `UPDATE administrator_invites i SET used_at = $2, used_by = $3
WHERE i.token_hash = $1 AND i.used_at IS NULL AND i.expires_at > $2 AND (i.invited_by IS NULL
	OR EXISTS (SELECT 1 FROM administrators a WHERE a.id = i.invited_by AND a.removed_at IS NULL))`, inviteHash, use.At, who.ID)
		b.one(console.ErrPasskeyKnown, `INSERT INTO administrator_passkeys (credential_id, administrator_id, cose_key, cose_algorithm, sign_count, aaguid,
	transports, backup_eligible, backup_state, attestation_format, attested, name, created_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
WHERE NOT EXISTS (SELECT 1 FROM devices WHERE credential_id = $1) ON CONFLICT DO NOTHING`,
			key.ID, who.ID, key.PublicKey, key.Algorithm, int64(key.SignCount), key.AAGUID, transports, key.BackupEligible, key.BackupState,
			key.AttestationFormat, key.Attested, key.Name, key.CreatedAt)
		queueSession(b, session)
		queueAudit(b, entry)
	})
	return err
}

func queueSession(b *batch, session console.Session) {
	b.exec(`INSERT INTO administrator_sessions (token_hash, browser_hash, administrator_id, credential_id, created_at, seen_at, ends_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)`, session.Hash, session.BrowserHash, session.Administrator.ID, session.Credential.ID,
		session.CreatedAt, session.SeenAt, session.EndsAt)
}

const administratorColumns = `a.id, a.name, a.roles, a.created_at, a.removed_at, a.invited_by,
	k.credential_id, k.cose_key, k.cose_algorithm, k.sign_count, k.aaguid, k.transports, k.backup_eligible, k.backup_state,
	k.attestation_format, k.attested, k.name, k.created_at, k.last_used_at, a.user_handle`

// administratorTargets are where administratorColumns go; finish puts together
// what could not be scanned in place.
func administratorTargets(a *console.Administrator, k *console.Passkey) (targets []any, finish func()) {
	var by *uuid.UUID
	var count int64
	return []any{&a.ID, &a.Name, &a.Roles, &a.CreatedAt, &a.RemovedAt, &by, &k.ID, &k.PublicKey, &k.Algorithm, &count, &k.AAGUID, &k.Transports,
			&k.BackupEligible, &k.BackupState, &k.AttestationFormat, &k.Attested, &k.Name, &k.CreatedAt, &k.LastUsedAt, &k.UserHandle}, func() {
			a.Active, k.SignCount, a.InvitedBy = a.RemovedAt == nil, uint32(count), uuid.Nil
			if by != nil {
				a.InvitedBy = *by
			}
			a.Passkeys = []console.Passkey{*k}
		}
}

// List reads all administrators with their passkeys.
func (s ConsoleStore) List(ctx context.Context) ([]console.Administrator, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT `+administratorColumns+` FROM administrators a JOIN administrator_passkeys k ON k.administrator_id = a.id
ORDER BY a.removed_at IS NOT NULL, a.created_at, a.id, k.created_at LIMIT 1000`)
	if err != nil {
		return nil, err
	}
	var all []console.Administrator
	defer rows.Close()
	for rows.Next() {
		var a console.Administrator
		var k console.Passkey
		targets, finish := administratorTargets(&a, &k)
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		finish()
		if n := len(all); n > 0 && all[n-1].ID == a.ID {
			all[n-1].Passkeys = append(all[n-1].Passkeys, k)
			continue
		}
		all = append(all, a)
	}
	return all, rows.Err()
}

// Remove ends an administrator's rights, sessions, invitations and proposals.
func (s ConsoleStore) Remove(ctx context.Context, a *console.Approval, id uuid.UUID, entry audit.Entry) error {
	return s.db.tx(ctx, func(tx pgx.Tx) error {
		// Two removals at once could each leave the other as the last officer.
		if _, err := tx.Exec(ctx, `SELECT 1 FROM administrators WHERE removed_at IS NULL ORDER BY id FOR UPDATE`); err != nil {
			return err
		}
		if err := insertApproval(ctx, tx, a); err != nil {
			return err
		}
		b := &batch{}
		b.one(console.ErrPerson, `UPDATE administrators SET removed_at = $2 WHERE id = $1 AND removed_at IS NULL`, id, a.At)
		b.found(console.ErrLastOfficer, `SELECT 1 FROM administrators WHERE removed_at IS NULL AND 'security_officer' = ANY (roles) LIMIT 1`)
		b.exec(`UPDATE administrator_sessions SET ended_at = $2 WHERE administrator_id = $1 AND ended_at IS NULL`, id, a.At)
		b.exec(`UPDATE two_person_acts SET state = 'withdrawn', decided_by = $3, decided_at = $2 WHERE proposer_id = $1 AND state = 'waiting'`, id, a.At, a.AdministratorID)
		queueAudit(b, entry)
		return b.within(ctx, tx)
	})
}

// Refused writes the entry of what was not allowed.
func (s ConsoleStore) Refused(ctx context.Context, entry audit.Entry) error {
	return s.db.Audit().Append(ctx, entry)
}

// ByCredential reads whose passkey it is.
func (s ConsoleStore) ByCredential(ctx context.Context, credentialID []byte) (*console.Administrator, error) {
	var a console.Administrator
	var k console.Passkey
	targets, finish := administratorTargets(&a, &k)
	err := s.db.Pool.QueryRow(ctx, `SELECT `+administratorColumns+` FROM administrator_passkeys k JOIN administrators a ON a.id = k.administrator_id
WHERE k.credential_id = $1 AND a.removed_at IS NULL`, credentialID).Scan(targets...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, console.ErrSignIn
	}
	finish()
	return &a, err
}

// SignIn uses the challenge up and inserts the session.
func (s ConsoleStore) SignIn(ctx context.Context, use console.Use, session console.Session, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		queueUse(b, use)
		b.found(console.ErrSignIn, `SELECT 1 FROM administrators WHERE id = $1 AND removed_at IS NULL FOR SHARE`, session.Administrator.ID)
		queueSession(b, session)
		queueAudit(b, entry)
	})
}

// queueUse uses a challenge up and moves the passkey's counter on: greater, or
// both zero (WebAuthn Level 3 §6.1.1).
func queueUse(b *batch, use console.Use) {
	b.one(console.ErrTicket, `INSERT INTO used_challenges (challenge, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, use.Challenge[:], use.Until)
	b.one(console.ErrTicket, `UPDATE administrator_passkeys SET sign_count = $2, backup_state = $3, last_used_at = $4
WHERE credential_id = $1 AND ($2 > sign_count OR $2 = 0 AND sign_count = 0)`, use.CredentialID, int64(use.SignCount), use.BackupState, use.At)
}

// Session reads a session that has not ended.
func (s ConsoleStore) Session(ctx context.Context, hash []byte) (*console.Session, error) {
	session := &console.Session{Hash: hash}
	targets, finish := administratorTargets(&session.Administrator, &session.Credential)
	err := s.db.Pool.QueryRow(ctx, `SELECT `+administratorColumns+`, s.browser_hash, s.created_at, s.seen_at, s.ends_at
FROM administrator_sessions s JOIN administrators a ON a.id = s.administrator_id JOIN administrator_passkeys k ON k.credential_id = s.credential_id
WHERE s.token_hash = $1 AND s.ended_at IS NULL AND a.removed_at IS NULL`, hash).
		Scan(append(targets, &session.BrowserHash, &session.CreatedAt, &session.SeenAt, &session.EndsAt)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, console.ErrSignedOut
	}
	finish()
	return session, err
}

// Touch writes when a session was last used.
func (s ConsoleStore) Touch(ctx context.Context, hash []byte, at time.Time) error {
	_, err := s.db.Pool.Exec(ctx, `UPDATE administrator_sessions SET seen_at = $2 WHERE token_hash = $1 AND ended_at IS NULL AND seen_at < $2`, hash, at)
	return err
}

// EndSession ends a session.
func (s ConsoleStore) EndSession(ctx context.Context, hash []byte, at time.Time, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.exec(`UPDATE administrator_sessions SET ended_at = $2 WHERE token_hash = $1 AND ended_at IS NULL`, hash, at)
		queueAudit(b, entry)
	})
}

// insertApproval writes an administrator's assertion once, where the session, the
// administrator and the needed role still stand.
func insertApproval(ctx context.Context, tx pgx.Tx, a *console.Approval) error {
	b := &batch{}
	queueUse(b, a.Use)
	b.found(console.ErrSignedOut, `SELECT 1 FROM administrator_sessions WHERE token_hash = $1 AND administrator_id = $2 AND ended_at IS NULL FOR SHARE`,
		a.SessionHash, a.AdministratorID)
	b.found(console.ErrRole, `SELECT 1 FROM administrators WHERE id = $1 AND removed_at IS NULL AND roles && $2 FOR SHARE`, a.AdministratorID, a.Roles)
	b.exec(`INSERT INTO administrator_approvals (id, administrator_id, credential_id, cose_key, step, purpose, statement, nonce,
	authenticator_data, client_data_json, signature, rp_id, approved_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		a.ID, a.AdministratorID, a.CredentialID, a.COSEKey, a.Step, a.Purpose, a.Statement, a.Nonce, a.AuthenticatorData, a.ClientDataJSON,
		a.Signature, a.RPID, a.At)
	return b.within(ctx, tx)
}
