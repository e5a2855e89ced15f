package passkey

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
)

// Reasons for which a device is stopped because of its model. They stay with
// the device; its owner cannot lift them, a new BLOB or policy can.
const (
	StopCompromised = "authenticator_compromised" // revoked, or something it protects came out
	StopDenied      = "authenticator_denied"      // the operator's list
)

// Bound is a device's passkey as the job that looks again sees it.
type Bound struct {
	Device, Citizen uuid.UUID
	AAGUID          uuid.UUID
	Facts           Facts
}

// RecheckStore reads bound passkeys model by model and stops devices.
type RecheckStore interface {
	// Models lists the AAGUIDs of devices that work or that their holder can resume, each once.
	Models(ctx context.Context) ([]uuid.UUID, error)
	// Bound lists those devices of a model with an id above after, by id; of the
	// zero AAGUID only those attested as U2F.
	Bound(ctx context.Context, aaguid, after uuid.UUID, limit int) ([]Bound, error)
	// Stop takes such a device to suspended, for a reason its holder cannot lift,
	// with its audit entry; it is no error when the device is gone meanwhile.
	Stop(ctx context.Context, device uuid.UUID, reason string, entry audit.Entry) error
}

// Judge says whether a bound passkey must stop by what is known now, why, and
// the metadata's word for it. Lists that only permit (PermittedAAGUIDs,
// MinimumCertification) are for new phones: they stop nobody.
func (rp *RelyingParty) Judge(b Bound, now time.Time) (reason, status string) {
	m := modelOf(rp.metadata(), b.AAGUID, b.Facts.KeyIdentifier)
	if r, bad := m.compromised(now, b.Facts.hashes()); bad {
		return StopCompromised, string(r.Status)
	}
	if b.AAGUID != uuid.Nil && slices.Contains(rp.cfg.Policy.DeniedAAGUIDs, b.AAGUID) {
		return StopDenied, ""
	}
	return "", ""
}

// WouldRefuse says what registering a phone of this model would meet, by the
// rules about models alone; nil when nothing is held against it. proved says
// whether its attestation leads to a root.
func (rp *RelyingParty) WouldRefuse(aaguid uuid.UUID, proved bool, now time.Time) error {
	enforced := rp.cfg.Attestation == AttestationEnforced
	switch {
	case enforced && !proved:
		return ErrAttestation
	case enforced && len(rp.cfg.PermittedAAGUIDs) > 0 && !slices.Contains(rp.cfg.PermittedAAGUIDs, aaguid):
		return ErrAttestation
	}
	reg := &registration{auth: authData{aaguid: aaguid}}
	return rp.judgePolicy(reg, modelOf(rp.metadata(), aaguid, ""), proved, &Facts{}, now)
}

// recheckPage is how many devices are read at a time.
const recheckPage = 500

// Recheck looks at all bound passkeys again and stops those whose model became
// unacceptable; it says how many. Models that nothing is held against cost one
// look at the index, however many phones there are.
func (rp *RelyingParty) Recheck(ctx context.Context, store RecheckStore, now time.Time) (stopped int, err error) {
	models, err := store.Models(ctx)
	if err != nil {
		return 0, err
	}
	for _, aaguid := range models {
		// Without certificates of its own the strictest reading applies: when even
		// that holds nothing against the model, no device of it need be read.
		if reason, _ := rp.Judge(Bound{AAGUID: aaguid}, now); reason == "" && aaguid != uuid.Nil {
			continue
		}
		n, err := rp.recheckModel(ctx, store, aaguid, now)
		stopped += n
		if err != nil {
			return stopped, err
		}
	}
	return stopped, nil
}

func (rp *RelyingParty) recheckModel(ctx context.Context, store RecheckStore, aaguid uuid.UUID, now time.Time) (stopped int, err error) {
	after := uuid.Nil
	for {
		page, err := store.Bound(ctx, aaguid, after, recheckPage)
		if err != nil {
			return stopped, err
		}
		for _, b := range page {
			after = b.Device
			reason, status := rp.Judge(b, now)
			if reason == "" {
				continue
			}
			e := audit.New(audit.DeviceSuspended).Citizen(b.Citizen).Device(b.Device).
				With(audit.KeyReason, reason).With(audit.KeyAAGUID, b.AAGUID.String())
			if status != "" {
				e = e.With(audit.KeyModelStatus, status)
			}
			if err := store.Stop(ctx, b.Device, reason, e); err != nil {
				return stopped, err
			}
			stopped++
		}
		if len(page) < recheckPage {
			return stopped, nil
		}
	}
}
