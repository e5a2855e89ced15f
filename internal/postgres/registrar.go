package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/console"
	"sealgate/internal/enrolment"
)

var _ enrolment.RegistrarStore = EnrolmentStore{}

// KnownCitizen finds a person by national ID with the newest good certificate.
func (s EnrolmentStore) KnownCitizen(ctx context.Context, mac []byte) (*enrolment.Known, error) {
	var k enrolment.Known
	c, cc := &k.Citizen, &k.Certificate
	var fingerprint []byte
	err := s.db.Pool.QueryRow(ctx, `SELECT c.id, c.national_id_mac, c.national_id_sealed, c.name_sealed, c.subject_serial, c.user_handle, c.state, c.created_at,
	cc.id, cc.citizen_id, cc.fingerprint, cc.der, cc.card_number, cc.not_before, cc.not_after, cc.state, cc.checked_at, cc.created_at
FROM citizens c JOIN citizen_certificates cc ON cc.citizen_id = c.id AND cc.state = 'good'
WHERE c.national_id_mac = $1 ORDER BY cc.not_after DESC, cc.id DESC LIMIT 1`, mac).
		Scan(&c.ID, &c.NationalIDMAC, &c.SealedNationalID, &c.SealedName, &c.SubjectSerial, &c.UserHandle, &c.State, &c.CreatedAt,
			&cc.ID, &cc.CitizenID, &fingerprint, &cc.DER, &cc.CardNumber, &cc.NotBefore, &cc.NotAfter, &cc.State, &cc.CheckedAt, &cc.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, enrolment.ErrInPersonUnknown
	}
	copy(cc.Fingerprint[:], fingerprint)
	return &k, err
}

// Proposal reads the first registrar's assertion of an act.
func (s EnrolmentStore) Proposal(ctx context.Context, act uuid.UUID) (*console.Signed, error) {
	var a console.Signed
	err := s.db.Pool.QueryRow(ctx, `SELECT a.step, a.administrator_id::text, a.credential_id, a.cose_key, a.nonce, a.authenticator_data, a.client_data_json, a.signature
FROM two_person_acts t JOIN administrator_approvals a ON a.id = t.proposal_id WHERE t.id = $1`, act).
		Scan(&a.Step, &a.Administrator, &a.CredentialID, &a.PublicKey, &a.Nonce, &a.AuthenticatorData, &a.ClientDataJSON, &a.Signature)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, console.ErrAct
	}
	return &a, err
}
