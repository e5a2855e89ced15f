package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/citizen"
	"sealgate/internal/enrolment"
)

var _ enrolment.PhoneStore = EnrolmentStore{}

// Adder reads a phone that is not removed, its citizen and citizen certificate,
// how far it stands from the card, and the credentials of all the person's
// phones. The chain of phones is followed over removed ones too.
func (s EnrolmentStore) Adder(ctx context.Context, device uuid.UUID) (*enrolment.Adder, error) {
	var a enrolment.Adder
	targets, finish := deviceTargets(&a.Device)
	c, cc := &a.Citizen, &a.Certificate
	var fingerprint []byte
	err := s.db.Pool.QueryRow(ctx, `WITH RECURSIVE chain AS (
	SELECT id, added_by_device_id, 1 AS depth FROM devices WHERE id = $1
	UNION ALL
	SELECT up.id, up.added_by_device_id, chain.depth + 1 FROM chain JOIN devices up ON up.id = chain.added_by_device_id WHERE chain.depth < $2)
SELECT `+deviceColumns+`, c.id, c.national_id_mac, c.national_id_sealed, c.name_sealed, c.subject_serial, c.user_handle, c.state, c.created_at,
	cc.id, cc.citizen_id, cc.fingerprint, cc.der, cc.card_number, cc.not_before, cc.not_after, cc.state, cc.checked_at, cc.created_at,
	(SELECT max(depth) FROM chain),
	(SELECT array_agg(o.credential_id ORDER BY o.id) FROM (SELECT id, credential_id FROM devices
		WHERE citizen_id = d.citizen_id AND state <> 'removed' ORDER BY id LIMIT $3) o)
FROM devices d JOIN citizens c ON c.id = d.citizen_id JOIN citizen_certificates cc ON cc.id = d.citizen_certificate_id
WHERE d.id = $1 AND d.state <> 'removed'`, device, enrolment.MaxChain, maxExcluded).
		Scan(append(targets, &c.ID, &c.NationalIDMAC, &c.SealedNationalID, &c.SealedName, &c.SubjectSerial, &c.UserHandle, &c.State, &c.CreatedAt,
			&cc.ID, &cc.CitizenID, &fingerprint, &cc.DER, &cc.CardNumber, &cc.NotBefore, &cc.NotAfter, &cc.State, &cc.CheckedAt, &cc.CreatedAt,
			&a.Depth, &a.Credentials)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, citizen.ErrDeviceNotFound
	}
	finish()
	copy(cc.Fingerprint[:], fingerprint)
	return &a, err
}

// maxExcluded bounds the list of credentials; far above any limit of phones.
const maxExcluded = 32
