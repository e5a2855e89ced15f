package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/console"
	"sealgate/internal/devices"
)

// Propose writes the approval and the act that waits.
func (s ConsoleStore) Propose(ctx context.Context, a *console.Approval, act console.Act, entry audit.Entry) error {
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		if err := insertApproval(ctx, tx, a); err != nil {
			return err
		}
		var digits *string
		if act.Digits != "" {
			digits = &act.Digits
		}
		b := &batch{}
		// A proposal about the same order that ran out makes room.
		b.exec(`UPDATE two_person_acts SET state = 'withdrawn', decided_by = proposer_id, decided_at = $2
WHERE order_id = $1 AND state = 'waiting' AND expires_at <= $2`, nullable(act.OrderID), act.CreatedAt)
		b.exec(`INSERT INTO two_person_acts (id, kind, statement, reason, citizen_id, order_id, digits, proposer_id, proposal_id, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, act.ID, act.Kind, act.Statement, act.Reason, nullable(act.CitizenID), nullable(act.OrderID), digits,
			act.ProposerID, a.ID, act.CreatedAt, act.ExpiresAt)
		queueAudit(b, entry)
		return b.within(ctx, tx)
	})
	if isUnique(err, "two_person_acts_order") {
		return console.ErrActState
	}
	return err
}

const actColumns = `t.id, t.kind, t.statement, t.reason, t.citizen_id, t.order_id, coalesce(t.digits, ''), t.tries, t.state, t.proposer_id, p.name, ap.credential_id,
	t.created_at, t.expires_at, coalesce(d.name, ''), t.decided_at
FROM two_person_acts t JOIN administrators p ON p.id = t.proposer_id JOIN administrator_approvals ap ON ap.id = t.proposal_id
LEFT JOIN administrators d ON d.id = t.decided_by`

func scanAct(row pgx.Row) (console.Act, error) {
	var a console.Act
	var person, order *uuid.UUID
	err := row.Scan(&a.ID, &a.Kind, &a.Statement, &a.Reason, &person, &order, &a.Digits, &a.Tries, &a.State, &a.ProposerID, &a.Proposer, &a.ProposerCredential,
		&a.CreatedAt, &a.ExpiresAt, &a.DecidedBy, &a.DecidedAt)
	if person != nil {
		a.CitizenID = *person
	}
	if order != nil {
		a.OrderID = *order
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = console.ErrAct
	}
	return a, err
}

// Act reads one.
func (s ConsoleStore) Act(ctx context.Context, id uuid.UUID) (*console.Act, error) {
	return oneAct(s.db.Pool.QueryRow(ctx, `SELECT `+actColumns+` WHERE t.id = $1`, id))
}

// ActOfOrder reads the newest act about an order.
func (s ConsoleStore) ActOfOrder(ctx context.Context, order uuid.UUID) (*console.Act, error) {
	return oneAct(s.db.Pool.QueryRow(ctx, `SELECT `+actColumns+` WHERE t.order_id = $1 ORDER BY t.id DESC LIMIT 1`, order))
}

func oneAct(row pgx.Row) (*console.Act, error) {
	a, err := scanAct(row)
	if err != nil {
		return nil, err
	}
	return &a, nil
}

// maxActs bounds the list of acts.
const maxActs = 200

// Acts lists those that wait and those decided since, newest first.
func (s ConsoleStore) Acts(ctx context.Context, now, since time.Time) ([]console.Act, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT `+actColumns+` WHERE t.state = 'waiting' AND t.expires_at > $1 OR t.decided_at > $2
ORDER BY t.state = 'waiting' DESC, t.id DESC LIMIT $3`, now, since, maxActs)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (console.Act, error) { return scanAct(row) })
}

// Close ends an act that waits without carrying it out.
func (s ConsoleStore) Close(ctx context.Context, id uuid.UUID, to console.ActState, by uuid.UUID, at time.Time, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(console.ErrActState, `UPDATE two_person_acts SET state = $2, decided_by = $3, decided_at = $4 WHERE id = $1 AND state = 'waiting' AND expires_at > $4`,
			id, to, by, at)
		queueAudit(b, entry)
	})
}

// WrongDigits counts a wrong try and refuses an act with too many.
func (s ConsoleStore) WrongDigits(ctx context.Context, id uuid.UUID, most int, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.exec(`UPDATE two_person_acts SET tries = tries + 1, state = CASE WHEN tries + 1 >= $2 THEN 'refused' ELSE state END,
	decided_at = CASE WHEN tries + 1 >= $2 THEN $3::timestamptz END WHERE id = $1 AND state = 'waiting'`, id, most, entry.At)
		queueAudit(b, entry)
	})
}

// consume writes the second administrator's approval and takes the act from
// waiting to confirmed: by another administrator and passkey, in time, over the
// same statement, while the first may still propose it. It belongs into the
// transaction of the act itself.
func consume(ctx context.Context, tx pgx.Tx, c *console.Confirmation) error {
	if err := insertApproval(ctx, tx, c.Approval); err != nil {
		return err
	}
	a := c.Approval
	b := &batch{}
	b.one(console.ErrActState, `UPDATE two_person_acts t SET state = 'confirmed', decided_by = $2, confirmation_id = $3, decided_at = $4
WHERE t.id = $1 AND t.state = 'waiting' AND t.expires_at > $4 AND t.statement = $5 AND t.proposer_id <> $2
AND NOT EXISTS (SELECT 1 FROM administrator_approvals p WHERE p.id = t.proposal_id AND p.credential_id = $6)`,
		c.Act.ID, a.AdministratorID, a.ID, a.At, a.Statement, a.CredentialID)
	b.found(console.ErrActState, `SELECT 1 FROM administrators WHERE id = $1 AND removed_at IS NULL AND roles && $2 FOR SHARE`, c.Act.ProposerID, c.ProposerRoles)
	queueAudit(b, c.Entry)
	return b.within(ctx, tx)
}

// FindPerson looks a person up; the entry is written whether somebody is found or not.
func (s ConsoleStore) FindPerson(ctx context.Context, q console.PersonQuery, entry audit.Entry) (uuid.UUID, error) {
	id := uuid.Nil
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT id FROM citizens WHERE national_id_mac = $1
UNION ALL SELECT citizen_id FROM devices WHERE id = $2
UNION ALL SELECT citizen_id FROM mobile_certificates WHERE serial = $3 LIMIT 1`, q.NationalIDMAC, q.DeviceID, q.Serial).Scan(&id)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return insertAudit(ctx, tx, entry.Citizen(id).WithBool(audit.KeyFound, id != uuid.Nil))
	})
	if err == nil && id == uuid.Nil {
		err = console.ErrPerson
	}
	return id, err
}

// Person reads a person with their phones that are not removed.
func (s ConsoleStore) Person(ctx context.Context, id uuid.UUID) (*console.Person, error) {
	p := &console.Person{ID: id}
	var mac, name []byte
	err := s.db.Pool.QueryRow(ctx, `SELECT state, national_id_mac, name_sealed FROM citizens WHERE id = $1`, id).Scan(&p.State, &mac, &name)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, console.ErrPerson
	}
	if err != nil {
		return nil, err
	}
	p.WithName(mac, name)
	rows, err := s.db.Pool.Query(ctx, `SELECT d.id, d.name, d.state, d.state_reason, d.created_at, d.last_used_at, d.state_changed_at, m.serial, coalesce(m.state, ''), m.not_after
FROM devices d LEFT JOIN LATERAL (SELECT serial, state, not_after FROM mobile_certificates
	WHERE device_id = d.id AND superseded_at IS NULL ORDER BY created_at DESC LIMIT 1) m ON true
WHERE d.citizen_id = $1 AND d.state <> 'removed' ORDER BY d.created_at, d.id LIMIT $2`, id, maxDevices)
	if err != nil {
		return nil, err
	}
	p.Phones, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (console.Phone, error) {
		var d console.Phone
		err := row.Scan(&d.ID, &d.Name, &d.State, &d.Reason, &d.BoundAt, &d.LastUsedAt, &d.ChangedAt, &d.Serial, &d.Certificate, &d.CertificateTo)
		return d, err
	})
	return p, err
}

// StopPhones writes the approval and stops active phones as lost.
func (s ConsoleStore) StopPhones(ctx context.Context, a *console.Approval, stop console.Stop, entry audit.Entry) (int, error) {
	n := 0
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		if err := insertApproval(ctx, tx, a); err != nil {
			return err
		}
		var err error
		n, err = deskPhones(ctx, tx, stop.CitizenID, stop.Devices, devices.Change{From: []citizen.DeviceState{citizen.DeviceActive}, To: citizen.DeviceSuspended,
			Reason: citizen.ReasonLoss, Certificates: devices.Hold, Notice: "loss_reported", At: stop.At}, audit.DeviceSuspended, entry)
		return err
	})
	return n, err
}

// ResumePhones consumes the confirmation and resumes what a loss had stopped.
func (s ConsoleStore) ResumePhones(ctx context.Context, c *console.Confirmation, phones []uuid.UUID, at time.Time) (int, error) {
	n := 0
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		if err := consume(ctx, tx, c); err != nil {
			return err
		}
		entry := c.Entry
		entry.ID, entry.Act = uuid.Must(uuid.NewV7()), audit.LossUndone
		var err error
		n, err = deskPhones(ctx, tx, c.Act.CitizenID, phones, devices.Change{From: []citizen.DeviceState{citizen.DeviceSuspended}, Reasons: []string{citizen.ReasonLoss},
			To: citizen.DeviceActive, Certificates: devices.Restore, Notice: "device_resumed", At: at}, audit.DeviceResumed, entry)
		return err
	})
	return n, err
}

// deskPhones changes those of a person's phones that are as the change expects;
// others have been changed by somebody else meanwhile and are left as they are.
func deskPhones(ctx context.Context, tx pgx.Tx, person uuid.UUID, phones []uuid.UUID, step devices.Change, act audit.Act, entry audit.Entry) (int, error) {
	if _, err := tx.Exec(ctx, `SELECT 1 FROM citizens WHERE id = $1 FOR NO KEY UPDATE`, person); err != nil {
		return 0, err
	}
	rows, err := tx.Query(ctx, `SELECT id FROM devices WHERE citizen_id = $1 AND id = ANY ($2) AND state = ANY ($3) AND ($4::text[] IS NULL OR state_reason = ANY ($4)) ORDER BY id`,
		person, phones, states(step.From), step.Reasons)
	if err != nil {
		return 0, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return 0, err
	}
	if len(ids) == 0 {
		return 0, console.ErrNothing
	}
	step.CitizenID = person
	for _, id := range ids {
		step.DeviceID = id
		step.Audit = audit.New(act).By(entry.ActorKind, entry.Actor).Citizen(person).Device(id).From(entry.IP).With(audit.KeyReason, citizen.ReasonLoss)
		if err := changeDevice(ctx, tx, step); err != nil {
			return 0, err
		}
	}
	return len(ids), insertAudit(ctx, tx, entry.Citizen(person).WithInt(audit.KeyCount, len(ids)))
}
