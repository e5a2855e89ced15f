package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
)

// CitizenStore is citizen.Store on Postgres.
type CitizenStore struct{ db *DB }

// Citizens gives the store of citizens and their devices.
func (db *DB) Citizens() CitizenStore { return CitizenStore{db} }

var _ citizen.Store = CitizenStore{}

const citizenColumns = `id, national_id_mac, national_id_sealed, name_sealed, subject_serial, user_handle, state, created_at`

func scanCitizen(row pgx.Row) (citizen.Citizen, error) {
	var c citizen.Citizen
	err := row.Scan(&c.ID, &c.NationalIDMAC, &c.SealedNationalID, &c.SealedName, &c.SubjectSerial,
		&c.UserHandle, &c.State, &c.CreatedAt)
	return c, err
}

// Citizen reads one citizen.
func (s CitizenStore) Citizen(ctx context.Context, id uuid.UUID) (citizen.Citizen, error) {
	c, err := scanCitizen(s.db.Pool.QueryRow(ctx, `SELECT `+citizenColumns+` FROM citizens WHERE id = $1`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return c, citizen.ErrCitizenNotFound
	}
	return c, err
}

const deviceColumns = `d.id, d.citizen_id, d.citizen_certificate_id, d.enrolment_id, d.credential_id, d.cose_key,
d.cose_algorithm, d.user_handle, d.sign_count, d.aaguid, d.transports, d.backup_eligible, d.backup_state,
d.attestation_format, d.attested, d.name, d.state, d.state_reason, d.created_at, d.last_used_at,
d.state_changed_at, d.added_by_device_id, d.cooldown_until`

// deviceTargets are the places that deviceColumns are scanned into. finish
// completes what cannot be scanned directly.
func deviceTargets(d *citizen.Device) (targets []any, finish func()) {
	var used, changed, cooldown *time.Time
	return []any{&d.ID, &d.CitizenID, &d.CitizenCertificateID, &d.EnrolmentID, &d.CredentialID, &d.COSEKey,
			&d.COSEAlgorithm, &d.UserHandle, &d.SignCount, &d.AAGUID, &d.Transports, &d.BackupEligible, &d.BackupState,
			&d.AttestationFormat, &d.Attested, &d.Name, &d.State, &d.StateReason, &d.CreatedAt, &used,
			&changed, &d.AddedByDeviceID, &cooldown},
		func() {
			for to, from := range map[*time.Time]*time.Time{&d.LastUsedAt: used, &d.StateChangedAt: changed, &d.CooldownUntil: cooldown} {
				if from != nil {
					*to = *from
				}
			}
		}
}

// Devices lists a citizen's devices that are not removed, oldest first.
func (s CitizenStore) Devices(ctx context.Context, id uuid.UUID) ([]citizen.Device, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT `+deviceColumns+` FROM devices d
WHERE d.citizen_id = $1 AND d.state <> 'removed' ORDER BY d.created_at, d.id LIMIT $2`, id, maxDevices)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (citizen.Device, error) {
		var d citizen.Device
		targets, finish := deviceTargets(&d)
		err := row.Scan(targets...)
		finish()
		return d, err
	})
}

// maxDevices bounds the list, far above any device limit.
const maxDevices = 100

// DeviceByCredential finds a device and the state of its citizen in one query.
func (s CitizenStore) DeviceByCredential(ctx context.Context, credentialID []byte) (citizen.Device, citizen.State, error) {
	var d citizen.Device
	var state citizen.State
	targets, finish := deviceTargets(&d)
	err := s.db.Pool.QueryRow(ctx, `SELECT `+deviceColumns+`, c.state FROM devices d
JOIN citizens c ON c.id = d.citizen_id WHERE d.credential_id = $1`, credentialID).Scan(append(targets, &state)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return d, "", citizen.ErrDeviceNotFound
	}
	finish()
	return d, state, err
}

// MayAct says whether a citizen and a device belong together and are active.
func (s CitizenStore) MayAct(ctx context.Context, id, device uuid.UUID) (bool, error) {
	var may bool
	err := s.db.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM devices d JOIN citizens c ON c.id = d.citizen_id
WHERE d.id = $1 AND c.id = $2 AND d.state = 'active' AND c.state = 'active')`, device, id).Scan(&may)
	return may, err
}

// Certificate reads the citizen certificate that bound a device.
func (s CitizenStore) Certificate(ctx context.Context, id uuid.UUID) (citizen.Certificate, error) {
	var c citizen.Certificate
	var fingerprint []byte
	err := s.db.Pool.QueryRow(ctx, `SELECT id, citizen_id, fingerprint, der, card_number, not_before, not_after, state,
checked_at, created_at FROM citizen_certificates WHERE id = $1`, id).Scan(&c.ID, &c.CitizenID, &fingerprint, &c.DER,
		&c.CardNumber, &c.NotBefore, &c.NotAfter, &c.State, &c.CheckedAt, &c.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, citizen.ErrCitizenNotFound
	}
	copy(c.Fingerprint[:], fingerprint)
	return c, err
}

// SuspendDevice takes an active device to suspended and holds its certificate,
// with the audit entries.
func (s CitizenStore) SuspendDevice(ctx context.Context, id uuid.UUID, reason string, e audit.Entry) error {
	return s.db.tx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE devices SET state = 'suspended', state_reason = $2, state_changed_at = $3
WHERE id = $1 AND state = 'active'`, id, reason, e.At)
		if err != nil {
			return err
		}
		if tag.RowsAffected() != 1 {
			return citizen.ErrDeviceNotFound
		}
		if err := holdCertificates(ctx, tx, id, e); err != nil {
			return err
		}
		return insertAudit(ctx, tx, e)
	})
}
