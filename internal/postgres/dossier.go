package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/dossier"
)

// DossierStore is dossier.Store and dossier.ClaimStore on Postgres.
type DossierStore struct{ db *DB }

// Dossiers gives the store of official documents on their way.
func (db *DB) Dossiers() DossierStore { return DossierStore{db} }

var (
	_ dossier.Store      = DossierStore{}
	_ dossier.ClaimStore = DossierStore{}
)

const dossierColumns = `id, client_id, reference, title, revision, previous_id, previous_digest, digest_algorithm, level, state, stage, version, si,
	created_at, updated_at, expires_at, ended_at, end_reason`

func scanDossier(row pgx.Row) (*dossier.Dossier, error) {
	d := &dossier.Dossier{}
	var id uuid.UUID
	var previous *uuid.UUID
	err := row.Scan(&id, &d.ClientID, &d.Reference, &d.Title, &d.Revision, &previous, &d.PreviousDigest, &d.Algorithm, &d.Level, &d.State, &d.Stage,
		&d.Version, &d.SI, &d.CreatedAt, &d.UpdatedAt, &d.ExpiresAt, &d.EndedAt, &d.EndReason)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, dossier.ErrNotFound
	}
	d.ID = dossier.ID(id)
	if previous != nil {
		p := dossier.ID(*previous)
		d.Previous = &p
	}
	return d, err
}

// queueEvents tells the dossier's client, where it wants to be told.
func queueEvents(b *batch, client uuid.UUID, events []dossier.Event) {
	for _, e := range events {
		data, _ := json.Marshal(e.Data) // plain values: cannot fail
		b.exec(`SELECT queue_webhook($1, $2, $3)`, client, e.Type, data)
	}
}

// Create inserts a dossier with its files and points.
func (s DossierStore) Create(ctx context.Context, d *dossier.Dossier, entry audit.Entry, events ...dossier.Event) error {
	var previous *uuid.UUID
	if d.Previous != nil {
		id := d.Previous.UUID()
		previous = &id
	}
	err := s.db.pipeline(ctx, func(b *batch) {
		b.exec(`INSERT INTO dossiers (`+dossierColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`,
			d.ID.UUID(), d.ClientID, d.Reference, d.Title, d.Revision, previous, d.PreviousDigest, d.Algorithm, d.Level, d.State, d.Stage, d.Version, d.SI,
			d.CreatedAt, d.UpdatedAt, d.ExpiresAt, d.EndedAt, d.EndReason)
		for _, f := range d.Files {
			b.exec(`INSERT INTO dossier_files (dossier_id, number, name, media_type, size, digest) VALUES ($1, $2, $3, $4, $5, $6)`,
				d.ID.UUID(), f.Number, f.Name, f.MediaType, f.Size, f.Digest)
		}
		for _, p := range d.Points {
			b.exec(`INSERT INTO dossier_points (dossier_id, number, stage, title, citizen_id, files, state, opened_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
				d.ID.UUID(), p.Number, p.Stage, p.Title, p.Citizen, small(p.Files), p.State, p.OpenedAt)
			for _, q := range p.Deputies {
				queueDeputy(b, d.ID, p.Number, q)
			}
		}
		queueEvents(b, d.ClientID, events)
		queueAudit(b, entry)
	})
	switch {
	case isUnique(err, "dossiers_client_id_reference_revision_key"), isUnique(err, "dossiers_previous_id_key"):
		return dossier.ErrExists
	case isForeign(err, "dossier_points_citizen_id_fkey"), isForeign(err, "dossier_deputies_citizen_id_fkey"):
		return dossier.ErrSigner
	}
	return err
}

// small makes what Postgres takes for integer[].
func small(in []int) []int32 {
	out := make([]int32, len(in))
	for i, n := range in {
		out[i] = int32(n)
	}
	return out
}

func ints(in []int32) []int {
	out := make([]int, len(in))
	for i, n := range in {
		out[i] = int(n)
	}
	return out
}

// Find reads a dossier whole, in one round trip. Whoever changes it raises its
// version: where that differs between the first and the last statement,
// somebody came in between, and it is read again.
func (s DossierStore) Find(ctx context.Context, id dossier.ID) (*dossier.Dossier, error) {
	for {
		d, version, err := s.find(ctx, id)
		if err != nil || d.Version == version {
			return d, err
		}
	}
}

func (s DossierStore) find(ctx context.Context, id dossier.ID) (d *dossier.Dossier, version int64, err error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT `+dossierColumns+` FROM dossiers WHERE id = $1`, id.UUID())
	b.Queue(`SELECT number, name, media_type, size, digest FROM dossier_files WHERE dossier_id = $1 ORDER BY number`, id.UUID())
	b.Queue(`SELECT number, stage, title, citizen_id, files, state, opened_at, later_reason, signed_by, deputy, comment, signed_at, order_id, document, failure
FROM dossier_points WHERE dossier_id = $1 ORDER BY number`, id.UUID())
	b.Queue(`SELECT point, citizen_id, reason, not_before, not_after FROM dossier_deputies WHERE dossier_id = $1 ORDER BY point, not_before, citizen_id`, id.UUID())
	b.Queue(`SELECT version FROM dossiers WHERE id = $1`, id.UUID())
	results := s.db.Pool.SendBatch(ctx, b)
	defer results.Close()
	if d, err = scanDossier(results.QueryRow()); err != nil {
		return nil, 0, err
	}
	for _, part := range []func(*dossier.Dossier, pgx.CollectableRow) error{scanFile, scanPoint, scanDeputy} {
		if err := collect(results, func(row pgx.CollectableRow) error { return part(d, row) }); err != nil {
			return nil, 0, err
		}
	}
	err = results.QueryRow().Scan(&version)
	return d, version, err
}

func scanFile(d *dossier.Dossier, row pgx.CollectableRow) error {
	var f dossier.File
	err := row.Scan(&f.Number, &f.Name, &f.MediaType, &f.Size, &f.Digest)
	d.Files = append(d.Files, f)
	return err
}

func scanPoint(d *dossier.Dossier, row pgx.CollectableRow) error {
	var p dossier.Point
	var files []int32
	err := row.Scan(&p.Number, &p.Stage, &p.Title, &p.Citizen, &files, &p.State, &p.OpenedAt, &p.LaterReason, &p.SignedBy, &p.Deputy, &p.Comment,
		&p.SignedAt, &p.Order, &p.Document, &p.Failure)
	p.Files = ints(files)
	d.Points = append(d.Points, p)
	return err
}

func scanDeputy(d *dossier.Dossier, row pgx.CollectableRow) error {
	var q dossier.Deputy
	var number int
	err := row.Scan(&number, &q.Citizen, &q.Reason, &q.NotBefore, &q.NotAfter)
	if p := d.Point(number); p != nil {
		p.Deputies = append(p.Deputies, q)
	}
	return err
}

// collect reads all rows of the next statement of a batch.
func collect(results pgx.BatchResults, fn func(row pgx.CollectableRow) error) error {
	rows, err := results.Query()
	if err != nil {
		return err
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) { return struct{}{}, fn(row) })
	return err
}

// List lists a client's dossiers without files and points.
func (s DossierStore) List(ctx context.Context, client uuid.UUID, state dossier.State, before dossier.ID, limit int) ([]*dossier.Dossier, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT id, client_id, reference, title, revision, previous_id, NULL::bytea, digest_algorithm, level, state, stage, version, NULL::bytea,
	created_at, updated_at, expires_at, ended_at, end_reason FROM dossiers
WHERE client_id = $1 AND id < $2 AND ($3 = '' OR state = $3) ORDER BY id DESC LIMIT $4`, client, before.UUID(), string(state), limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*dossier.Dossier, error) { return scanDossier(row) })
}

// Step writes a change of an open dossier that is still at the version read.
func (s DossierStore) Step(ctx context.Context, step dossier.Step) error {
	d := step.Dossier
	err := s.db.pipeline(ctx, func(b *batch) {
		b.one(dossier.ErrMoved, `UPDATE dossiers SET state = $3, stage = $4, si = $5, updated_at = $6, ended_at = $7, end_reason = $8, version = version + 1
WHERE id = $1 AND version = $2 AND state = 'open'`, d.ID.UUID(), d.Version, d.State, d.Stage, d.SI, d.UpdatedAt, d.EndedAt, d.EndReason)
		for _, n := range step.Points {
			p := d.Point(n)
			b.one(dossier.ErrMoved, `UPDATE dossier_points SET state = $3, opened_at = $4, later_reason = $5, signed_by = $6, deputy = $7, comment = $8,
  signed_at = $9, order_id = $10, document = $11, failure = $12 WHERE dossier_id = $1 AND number = $2`, d.ID.UUID(), n, p.State, p.OpenedAt, p.LaterReason,
				p.SignedBy, p.Deputy, p.Comment, p.SignedAt, p.Order, p.Document, p.Failure)
		}
		if c := step.Claim; c != nil {
			b.one(dossier.ErrMoved, `UPDATE dossier_claims SET state = 'attached' WHERE order_id = $1 AND dossier_id = $2 AND point = $3 AND state = 'out'`,
				c.Order, c.Dossier.UUID(), c.Point)
			for file, der := range step.Signatures {
				b.exec(`INSERT INTO dossier_signatures (dossier_id, point, file, der) VALUES ($1, $2, $3, $4)`, d.ID.UUID(), c.Point, file, der)
			}
		}
		if q := step.Deputy; q != nil {
			queueDeputy(b, d.ID, step.Points[0], *q)
		}
		queueEvents(b, d.ClientID, step.Events)
		queueAudit(b, step.Audit)
	})
	if isForeign(err, "dossier_deputies_citizen_id_fkey") {
		return dossier.ErrSigner
	}
	return err
}

func queueDeputy(b *batch, id dossier.ID, point int, q dossier.Deputy) {
	b.exec(`INSERT INTO dossier_deputies (dossier_id, point, citizen_id, reason, not_before, not_after) VALUES ($1, $2, $3, $4, $5, $6)`,
		id.UUID(), point, q.Citizen, q.Reason, q.NotBefore, q.NotAfter)
}

// Overdue lists open dossiers whose time has run out.
func (s DossierStore) Overdue(ctx context.Context, now time.Time, limit int) ([]dossier.ID, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT id FROM dossiers WHERE state = 'open' AND expires_at <= $1 ORDER BY expires_at LIMIT $2`, now, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (dossier.ID, error) {
		var id uuid.UUID
		err := row.Scan(&id)
		return dossier.ID(id), err
	})
}

// Inbox lists points that wait for a person.
func (s DossierStore) Inbox(ctx context.Context, citizen uuid.UUID, now time.Time, limit int) ([]dossier.PointRef, error) {
	return s.refs(ctx, `SELECT dossier_id, number FROM (
  SELECT p.dossier_id, p.number, p.opened_at FROM dossier_points p WHERE p.citizen_id = $1 AND p.state IN ('open', 'later')
  UNION
  SELECT p.dossier_id, p.number, p.opened_at FROM dossier_deputies q JOIN dossier_points p ON p.dossier_id = q.dossier_id AND p.number = q.point
  WHERE q.citizen_id = $1 AND q.not_before <= $2 AND q.not_after > $2 AND p.state IN ('open', 'later')) w
JOIN dossiers d ON d.id = w.dossier_id AND d.state = 'open' AND d.expires_at > $2
ORDER BY w.opened_at, w.dossier_id, w.number LIMIT $3`, citizen, now, limit)
}

// Signed lists points that a person signed.
func (s DossierStore) Signed(ctx context.Context, citizen uuid.UUID, limit int) ([]dossier.PointRef, error) {
	return s.refs(ctx, `SELECT dossier_id, number FROM dossier_points WHERE signed_by = $1 ORDER BY signed_at DESC, dossier_id, number LIMIT $2`, citizen, limit)
}

func (s DossierStore) refs(ctx context.Context, sql string, args ...any) ([]dossier.PointRef, error) {
	rows, err := s.db.Pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (dossier.PointRef, error) {
		var id uuid.UUID
		var ref dossier.PointRef
		err := row.Scan(&id, &ref.Point)
		ref.Dossier = dossier.ID(id)
		return ref, err
	})
}

// Signature reads a point's signature over a file.
func (s DossierStore) Signature(ctx context.Context, id dossier.ID, point, file int) ([]byte, error) {
	var der []byte
	err := s.db.Pool.QueryRow(ctx, `SELECT der FROM dossier_signatures WHERE dossier_id = $1 AND point = $2 AND file = $3`, id.UUID(), point, file).Scan(&der)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, dossier.ErrNotSigned
	}
	return der, err
}
