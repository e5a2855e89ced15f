package citizen

import (
	"context"
	"errors"
	"log/slog"

	"github.com/google/uuid"

	"sealgate/internal/audit"
)

// Registry answers questions about citizens and their devices.
type Registry struct {
	store Store
	vault *Vault
}

// NewRegistry takes what it stands on.
func NewRegistry(store Store, vault *Vault) (*Registry, error) {
	if store == nil || vault == nil {
		return nil, errors.New("citizen: a registry needs a store and a vault")
	}
	return &Registry{store: store, vault: vault}, nil
}

// Person is what may be released about a citizen to a client that is entitled
// to it. It never prints its contents.
type Person struct {
	ID         uuid.UUID
	State      State
	name       string
	nationalID string
}

// Name gives the full name. It must not be logged.
func (p Person) Name() string { return p.name }

// NationalID gives the national ID in clear. It must not be logged.
func (p Person) NationalID() string { return p.nationalID }

// String gives only the identifier.
func (p Person) String() string { return p.ID.String() }

// GoString gives only the identifier.
func (p Person) GoString() string { return p.ID.String() }

// LogValue gives only the identifier.
func (p Person) LogValue() slog.Value { return slog.StringValue(p.ID.String()) }

// Person reads a citizen and opens the sealed values.
func (r *Registry) Person(ctx context.Context, id uuid.UUID) (Person, error) {
	c, err := r.store.Citizen(ctx, id)
	if err != nil {
		return Person{}, err
	}
	name, err := r.vault.Open(ctx, FieldName, c.NationalIDMAC, c.SealedName)
	if err != nil {
		return Person{}, err
	}
	nationalID, err := r.vault.Open(ctx, FieldNationalID, c.NationalIDMAC, c.SealedNationalID)
	if err != nil {
		return Person{}, err
	}
	return Person{ID: c.ID, State: c.State, name: name, nationalID: nationalID}, nil
}

// Citizen reads one citizen with the personal values still sealed.
func (r *Registry) Citizen(ctx context.Context, id uuid.UUID) (Citizen, error) {
	return r.store.Citizen(ctx, id)
}

// Devices lists a citizen's devices that are not removed, oldest first.
func (r *Registry) Devices(ctx context.Context, citizen uuid.UUID) ([]Device, error) {
	return r.store.Devices(ctx, citizen)
}

// DeviceByCredential finds the device of a passkey and its citizen's state.
func (r *Registry) DeviceByCredential(ctx context.Context, credentialID []byte) (Device, State, error) {
	if len(credentialID) < 16 || len(credentialID) > 1023 {
		return Device{}, "", ErrDeviceNotFound
	}
	return r.store.DeviceByCredential(ctx, credentialID)
}

// SuspendDevice stops an active device. The entry says who did it; its act,
// device and reason are filled in here.
func (r *Registry) SuspendDevice(ctx context.Context, id uuid.UUID, reason string, entry audit.Entry) error {
	entry.Act = audit.DeviceSuspended
	return r.store.SuspendDevice(ctx, id, reason, entry.Device(id).With(audit.KeyReason, reason))
}

// MayAct says whether a session of this citizen on this device still stands:
// both are active and belong together.
func (r *Registry) MayAct(ctx context.Context, citizen, device uuid.UUID) (bool, error) {
	return r.store.MayAct(ctx, citizen, device)
}
