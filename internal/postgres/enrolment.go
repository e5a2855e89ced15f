package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/devices"
	"sealgate/internal/enrolment"
	"sealgate/internal/issuing"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
)

// EnrolmentStore is enrolment.Store on Postgres.
type EnrolmentStore struct{ db *DB }

// Enrolments gives the store of enrolments.
func (db *DB) Enrolments() EnrolmentStore { return EnrolmentStore{db} }

var _ enrolment.Store = EnrolmentStore{}

// credentialRow is how a passkey waits in enrolments.credential for its card.
type credentialRow struct {
	ID                []byte        `json:"id"`
	COSEKey           []byte        `json:"cose_key"`
	Algorithm         int           `json:"algorithm"`
	SignCount         uint32        `json:"sign_count"`
	AAGUID            uuid.UUID     `json:"aaguid"`
	Transports        []string      `json:"transports"`
	BackupEligible    bool          `json:"backup_eligible"`
	BackupState       bool          `json:"backup_state"`
	AttestationFormat string        `json:"attestation_format"`
	Attested          bool          `json:"attested"`
	UserHandle        []byte        `json:"user_handle"`
	Facts             passkey.Facts `json:"facts"`
}

func credentialJSON(c *passkey.Credential) ([]byte, error) {
	return json.Marshal(credentialRow{ID: c.ID, COSEKey: c.PublicKey, Algorithm: c.Algorithm, SignCount: c.SignCount,
		AAGUID: c.AAGUID, Transports: c.Transports, BackupEligible: c.BackupEligible, BackupState: c.BackupState,
		AttestationFormat: c.AttestationFormat, Attested: c.Attested, UserHandle: c.UserHandle, Facts: c.Facts})
}

func credentialFrom(raw []byte) (*passkey.Credential, error) {
	if raw == nil {
		return nil, nil
	}
	var r credentialRow
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, err
	}
	return &passkey.Credential{ID: r.ID, PublicKey: r.COSEKey, Algorithm: r.Algorithm, SignCount: r.SignCount,
		AAGUID: r.AAGUID, Transports: r.Transports, BackupEligible: r.BackupEligible, BackupState: r.BackupState,
		AttestationFormat: r.AttestationFormat, Attested: r.Attested, UserHandle: r.UserHandle, Facts: r.Facts}, nil
}

// Begin inserts an enrol order, its enrolment and the audit entry.
func (s EnrolmentStore) Begin(ctx context.Context, e enrolment.Enrolment, entries ...audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		queueInsertOrder(b, e.Order)
		b.one(errNoRow, `INSERT INTO enrolments (order_id, national_id_mac, national_id_sealed, name_sealed, subject_serial,
			user_handle, certificate, certificate_fingerprint, card_number, created_at, proof_kind, by_device_id, in_person)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
			e.Order.ID.UUID(), e.NationalIDMAC, e.SealedNationalID, e.SealedName, e.SubjectSerial,
			e.UserHandle, e.Certificate, e.CertificateFingerprint, e.CardNumber, e.CreatedAt, e.ProofKind,
			uuid.NullUUID{UUID: e.ByDeviceID, Valid: e.ByDeviceID != uuid.Nil}, e.InPerson)
		for _, entry := range entries {
			queueAudit(b, entry)
		}
	})
}

// Find reads an enrolment with its order in one round trip.
func (s EnrolmentStore) Find(ctx context.Context, id order.ID) (*enrolment.Enrolment, error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT `+orderColumns+` FROM orders WHERE id = $1 AND kind = 'enrol'`, id.UUID())
	b.Queue(`SELECT national_id_mac, national_id_sealed, name_sealed, subject_serial, user_handle, certificate,
		certificate_fingerprint, card_number, credential, device_name, statement, proof, created_at, completed_at, proof_kind, by_device_id, in_person
		FROM enrolments WHERE order_id = $1`, id.UUID())
	results := s.db.Pool.SendBatch(ctx, b)
	defer results.Close()
	var e enrolment.Enrolment
	var err error
	if e.Order, err = scanOrder(results.QueryRow()); err != nil {
		return nil, noOrder(err)
	}
	var credential []byte
	var by uuid.NullUUID
	err = results.QueryRow().Scan(&e.NationalIDMAC, &e.SealedNationalID, &e.SealedName, &e.SubjectSerial, &e.UserHandle,
		&e.Certificate, &e.CertificateFingerprint, &e.CardNumber, &credential, &e.DeviceName, &e.Statement, &e.Proof,
		&e.CreatedAt, &e.CompletedAt, &e.ProofKind, &by, &e.InPerson)
	e.ByDeviceID = by.UUID
	if err != nil {
		return nil, noOrder(err)
	}
	e.Credential, err = credentialFrom(credential)
	return &e, err
}

func noOrder(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return order.ErrNotFound
	}
	return err
}

// Standing reads what is known of a national ID's MAC and a subject serial.
func (s EnrolmentStore) Standing(ctx context.Context, mac []byte, serial string) (enrolment.Standing, error) {
	return standing(ctx, s.db.Pool, mac, serial, "")
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// standing finds the citizens that have the MAC or the serial: none, the one
// that has both, or a conflict. lock is "" or a locking clause.
func standing(ctx context.Context, q querier, mac []byte, serial, lock string) (enrolment.Standing, error) {
	var st enrolment.Standing
	rows, err := q.Query(ctx, `SELECT c.id, c.state, c.national_id_mac = $1 AND c.subject_serial = $2,
		(SELECT coalesce(array_agg(d.name ORDER BY d.id), '{}') FROM devices d WHERE d.citizen_id = c.id AND d.state <> 'removed')
		FROM citizens c WHERE c.national_id_mac = $1 OR c.subject_serial = $2 ORDER BY c.id `+lock, mac, serial)
	if err != nil {
		return st, err
	}
	var same bool
	_, err = pgx.ForEachRow(rows, []any{&st.CitizenID, &st.State, &same, &st.Names}, func() error {
		st.Devices = len(st.Names)
		st.Known = true
		st.Conflict = st.Conflict || !same
		return nil
	})
	return st, err
}

// CredentialBound says whether a credential belongs to a device already.
func (s EnrolmentStore) CredentialBound(ctx context.Context, credentialID []byte) (bool, error) {
	var bound bool
	err := s.db.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM devices WHERE credential_id = $1)`, credentialID).Scan(&bound)
	return bound, err
}

// SaveCredential writes the passkey and the statement once.
func (s EnrolmentStore) SaveCredential(ctx context.Context, c enrolment.CredentialStep) error {
	credential, err := credentialJSON(c.Credential)
	if err != nil {
		return err
	}
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(order.ErrState, `UPDATE orders SET expires_at = least(greatest(expires_at, $4), final_expires_at)
			WHERE id = $1 AND kind = 'enrol' AND state = 'scanned' AND claim_hash = $2 AND expires_at > $3
			AND (check_digits IS NULL OR check_passed_at IS NOT NULL)`,
			c.Order.UUID(), c.ClaimHash, c.At, c.ExpiresAt)
		b.one(order.ErrState, `UPDATE enrolments SET credential = $2, attestation = $3, client_data_json = $4,
			device_name = $5, statement = $6 WHERE order_id = $1 AND credential IS NULL AND completed_at IS NULL`,
			c.Order.UUID(), credential, c.Attestation.AttestationObject, c.Attestation.ClientDataJSON,
			c.DeviceName, c.Statement)
		queueAudit(b, c.Audit)
	})
}

// Complete binds the device. The order's row is locked first, then the
// citizen's, so that what is decided about either stays true until the commit.
func (s EnrolmentStore) Complete(ctx context.Context, b enrolment.Binding) error {
	return s.db.tx(ctx, func(tx pgx.Tx) error {
		var waits bool
		err := tx.QueryRow(ctx, `SELECT state = 'scanned' AND expires_at > $3 AND browser_hash = $2
			AND (check_digits IS NULL OR check_passed_at IS NOT NULL)
			FROM orders WHERE id = $1 AND kind = 'enrol' FOR NO KEY UPDATE`, b.Order.UUID(), b.BrowserHash, b.At).Scan(&waits)
		if err != nil {
			return noOrder(err)
		}
		if !waits {
			return order.ErrState
		}
		if b.Citizen.ID, err = findOrInsertCitizen(ctx, tx, b); err != nil {
			return err
		}
		if b.Confirmed != nil {
			if err := consume(ctx, tx, b.Confirmed); err != nil {
				return err
			}
		}
		if b.By != nil {
			if err := useAdder(ctx, tx, b); err != nil {
				return err
			}
		}
		if b.Replace {
			if err := replaceDevices(ctx, tx, b); err != nil {
				return err
			}
		}
		if err := insertBoundDevice(ctx, tx, b); err != nil {
			return err
		}
		if err := insertNotices(ctx, tx, b.Citizen.ID, b.Device.ID, b.Device.ID, "device_added", b.At); err != nil {
			return err
		}
		if err := insertKey(ctx, tx, b.Key); err != nil {
			return err
		}
		if b.Request != nil {
			request := *b.Request
			request.CitizenID = b.Citizen.ID
			if err := insertRequest(ctx, tx, request); err != nil {
				return err
			}
			return closeEnrolment(ctx, tx, b)
		}
		b.Mobile.CitizenID = b.Citizen.ID
		if err := insertMobileCertificate(ctx, tx, b.Mobile); err != nil {
			return err
		}
		return closeEnrolment(ctx, tx, b)
	})
}

// useAdder moves the signature counter of the phone that agreed, if it still may:
// it could have been stopped or removed since it was asked.
func useAdder(ctx context.Context, tx pgx.Tx, b enrolment.Binding) error {
	tag, err := tx.Exec(ctx, `UPDATE devices SET sign_count = $2, backup_state = $3, last_used_at = $4
		WHERE id = $1 AND citizen_id = $6 AND state = 'active' AND (sign_count = $5 OR ($2 = 0 AND sign_count = 0))
		AND (cooldown_until IS NULL OR cooldown_until <= $4)`,
		b.By.Device, int64(b.By.Verified.NewSignCount), b.By.Verified.BackupState, b.At, int64(b.By.SignCount), b.Citizen.ID)
	if err == nil && tag.RowsAffected() != 1 {
		err = order.ErrDeviceStopped
	}
	return err
}

// replaceDevices removes the citizen's devices that have the new one's name.
func replaceDevices(ctx context.Context, tx pgx.Tx, b enrolment.Binding) error {
	rows, err := tx.Query(ctx, `SELECT id FROM devices WHERE citizen_id = $1 AND name = $2 AND state <> 'removed' ORDER BY id`, b.Citizen.ID, b.Device.Name)
	if err != nil {
		return err
	}
	old, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return err
	}
	for _, id := range old {
		err := changeDevice(ctx, tx, devices.Change{CitizenID: b.Citizen.ID, DeviceID: id,
			From: []citizen.DeviceState{citizen.DeviceActive, citizen.DeviceSuspended}, To: citizen.DeviceRemoved, Reason: citizen.ReasonReplaced,
			Certificates: devices.Revoke, Revocation: issuing.ReasonSuperseded, Notice: "device_replaced", At: b.At,
			Audit: audit.New(audit.DeviceRemoved).ByCitizen(b.Citizen.ID).Device(id).Order(b.Order.UUID()).With(audit.KeyReason, citizen.ReasonReplaced)})
		if err != nil {
			return err
		}
	}
	return nil
}

// findOrInsertCitizen gives the citizen's id and leaves the row locked. Of two
// first bindings at once one inserts; the other waits for it and then finds it.
func findOrInsertCitizen(ctx context.Context, tx pgx.Tx, b enrolment.Binding) (uuid.UUID, error) {
	c := b.Citizen
	_, err := tx.Exec(ctx, `INSERT INTO citizens (id, national_id_mac, national_id_sealed, name_sealed, subject_serial, user_handle, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		c.ID, c.NationalIDMAC, c.SealedNationalID, c.SealedName, c.SubjectSerial, c.UserHandle, c.CreatedAt)
	if err != nil {
		return uuid.Nil, err
	}
	// Two statements: a count in the locking one could be older than the lock.
	if _, err := standing(ctx, tx, c.NationalIDMAC, c.SubjectSerial, "FOR NO KEY UPDATE OF c"); err != nil {
		return uuid.Nil, err
	}
	st, err := standing(ctx, tx, c.NationalIDMAC, c.SubjectSerial, "")
	if err != nil {
		return uuid.Nil, err
	}
	return st.CitizenID, b.Judge(st)
}

// notKnownBad refuses a card that we know to be revoked, where this binding could
// not learn its status and an allowance let that pass: silence must not bring a
// card back. One that was looked at for this binding is judged by that look,
// unless another look has found it bad since.
func notKnownBad(ctx context.Context, tx pgx.Tx, c citizen.Certificate) error {
	var bad bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM citizen_certificates WHERE fingerprint = $1 AND state <> 'good' AND checked_at >= $2)`,
		c.Fingerprint[:], c.CheckedAt).Scan(&bad)
	if err == nil && bad {
		err = citizen.ErrCardRevoked
	}
	return err
}

// insertBoundDevice writes the citizen certificate, new or seen again, and the device.
func insertBoundDevice(ctx context.Context, tx pgx.Tx, b enrolment.Binding) error {
	c, d := b.Certificate, b.Device
	if err := notKnownBad(ctx, tx, c); err != nil {
		return err
	}
	var certificate uuid.UUID
	err := tx.QueryRow(ctx, `INSERT INTO citizen_certificates AS c (id, citizen_id, fingerprint, der, card_number, not_before, not_after, checked_at, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (fingerprint) DO UPDATE SET state = 'good', checked_at = greatest(c.checked_at, excluded.checked_at),
			card_number = CASE WHEN c.card_number = '' THEN excluded.card_number ELSE c.card_number END
		WHERE c.citizen_id = excluded.citizen_id RETURNING c.id`,
		c.ID, b.Citizen.ID, c.Fingerprint[:], c.DER, c.CardNumber, c.NotBefore, c.NotAfter, c.CheckedAt, c.CreatedAt).Scan(&certificate)
	if errors.Is(err, pgx.ErrNoRows) {
		return enrolment.ErrCitizenConflict // the same certificate under another citizen
	}
	if err != nil {
		return err
	}
	transports := d.Transports
	if transports == nil {
		transports = []string{}
	}
	_, err = tx.Exec(ctx, `INSERT INTO devices (id, citizen_id, citizen_certificate_id, enrolment_id, credential_id, cose_key,
		cose_algorithm, user_handle, sign_count, aaguid, transports, backup_eligible, backup_state, attestation_format, attested, name, created_at,
		added_by_device_id, cooldown_until)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
		d.ID, b.Citizen.ID, certificate, b.Order.UUID(), d.CredentialID, d.COSEKey,
		d.COSEAlgorithm, d.UserHandle, int64(d.SignCount), d.AAGUID, transports, d.BackupEligible, d.BackupState,
		d.AttestationFormat, d.Attested, d.Name, d.CreatedAt, d.AddedByDeviceID, pgtype.Timestamptz{Time: d.CooldownUntil, Valid: !d.CooldownUntil.IsZero()})
	if isUnique(err, "devices_credential_id_key") {
		return enrolment.ErrPhoneBound
	}
	return err
}

// closeEnrolment keeps the evidence, ends the order and writes the audit entries.
func closeEnrolment(ctx context.Context, tx pgx.Tx, b enrolment.Binding) error {
	tag, err := tx.Exec(ctx, `UPDATE enrolments SET proof = $2, revocation = $3, completed_at = $4
		WHERE order_id = $1 AND completed_at IS NULL AND statement = $5`,
		b.Order.UUID(), b.Proof, b.Revocation, b.At, b.Statement)
	if err == nil && tag.RowsAffected() != 1 {
		err = order.ErrState
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE orders SET state = 'completed', approved_at = $2, completed_at = $2, ended_at = $2,
		citizen_id = $3, device_id = $4, code_mac = NULL WHERE id = $1`, b.Order.UUID(), b.At, b.Citizen.ID, b.Device.ID)
	if err != nil {
		return err
	}
	for _, e := range b.Audit {
		if err := insertAudit(ctx, tx, e.Citizen(b.Citizen.ID)); err != nil {
			return err
		}
	}
	return nil
}

// Refused writes the audit entry of a step that was not allowed.
func (s EnrolmentStore) Refused(ctx context.Context, entry audit.Entry) error {
	return s.db.Audit().Append(ctx, entry)
}

// Outcome reads what Complete bound.
func (s EnrolmentStore) Outcome(ctx context.Context, id order.ID) (*enrolment.Bound, error) {
	var bound enrolment.Bound
	targets, finish := deviceTargets(&bound.Device)
	var certificate *uuid.UUID
	var end *time.Time
	err := s.db.Pool.QueryRow(ctx, `SELECT `+deviceColumns+`, m.id, m.der, m.not_after FROM devices d
		LEFT JOIN mobile_certificates m ON m.device_id = d.id WHERE d.enrolment_id = $1 ORDER BY m.created_at LIMIT 1`, id.UUID()).
		Scan(append(targets, &certificate, &bound.Certificate, &end)...)
	finish()
	if certificate != nil {
		bound.CertificateID, bound.NotAfter = *certificate, *end
	}
	return &bound, noOrder(err)
}
