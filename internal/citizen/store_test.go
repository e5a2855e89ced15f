package citizen_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// seed writes one test citizen with a certificate and gives their ids.
func seed(t *testing.T, pool *pgxpool.Pool, vault *citizen.Vault) (person, certificate uuid.UUID) {
	t.Helper()
	ctx := context.Background()
	id, err := citizen.ParseNationalID("A123456789")
	must(t, err)
	mac := vault.MAC(id)
	number, err := vault.Seal(ctx, citizen.FieldNationalID, mac, id.Reveal())
	must(t, err)
	name, err := vault.Seal(ctx, citizen.FieldName, mac, "(測試用) 王小明")
	must(t, err)
	person, certificate = uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	_, err = pool.Exec(ctx, `INSERT INTO citizens (id, national_id_mac, national_id_sealed, name_sealed, subject_serial, user_handle)
		VALUES ($1, $2, $3, $4, '9000000000000001', $5)`, person, mac, number, name, vault.UserHandle(mac))
	must(t, err)
	fingerprint := sha256.Sum256([]byte("certificate"))
	_, err = pool.Exec(ctx, `INSERT INTO citizen_certificates (id, citizen_id, fingerprint, der, card_number, not_before, not_after, checked_at)
		VALUES ($1, $2, $3, 'certificate', 'TP00000000000001', now(), now() + interval '1 year', now())`, certificate, person, fingerprint[:])
	must(t, err)
	return person, certificate
}

func addDevice(t *testing.T, pool *pgxpool.Pool, person, certificate uuid.UUID, name string, credential []byte) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	_, err := pool.Exec(context.Background(), `INSERT INTO devices (id, citizen_id, citizen_certificate_id, enrolment_id, credential_id, cose_key,
		cose_algorithm, user_handle, sign_count, aaguid, transports, backup_eligible, backup_state, attestation_format, name)
		VALUES ($1, $2, $3, $4, $5, 'key', -7, 'handle', 4294967295, $6, '{internal}', true, false, 'none', $7)`,
		id, person, certificate, uuid.Must(uuid.NewV7()), credential, uuid.New(), name)
	must(t, err)
	return id
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRegistry(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	vault := citizen.VaultForTests(t)
	r, err := citizen.NewRegistry(postgres.New(pool).Citizens(), vault)
	must(t, err)
	person, certificate := seed(t, pool, vault)

	p, err := r.Person(ctx, person)
	must(t, err)
	if p.Name() != "(測試用) 王小明" || p.NationalID() != "A123456789" || p.State != citizen.Active {
		t.Error("the person's sealed values do not come back")
	}
	if _, err := r.Person(ctx, uuid.New()); !errors.Is(err, citizen.ErrCitizenNotFound) {
		t.Errorf("unknown citizen: %v", err)
	}

	one := addDevice(t, pool, person, certificate, "一", bytes.Repeat([]byte{1}, 16))
	two := addDevice(t, pool, person, certificate, "二", bytes.Repeat([]byte{2}, 16))
	list, err := r.Devices(ctx, person)
	must(t, err)
	if len(list) != 2 || list[0].ID != one || list[1].Name != "二" || list[0].SignCount != 4294967295 || !list[0].LastUsedAt.IsZero() {
		t.Errorf("devices %+v", list)
	}

	d, state, err := r.DeviceByCredential(ctx, bytes.Repeat([]byte{1}, 16))
	must(t, err)
	if d.ID != one || d.Usable(state) != nil {
		t.Errorf("device %s is %v", d.ID, d.Usable(state))
	}
	for _, credential := range [][]byte{nil, {1}, bytes.Repeat([]byte{9}, 16), make([]byte, 1024)} {
		if _, _, err := r.DeviceByCredential(ctx, credential); !errors.Is(err, citizen.ErrDeviceNotFound) {
			t.Errorf("credential of %d bytes: %v", len(credential), err)
		}
	}

	c, err := postgres.New(pool).Citizens().Certificate(ctx, certificate)
	must(t, err)
	if c.Fingerprint != sha256.Sum256([]byte("certificate")) || c.State != citizen.CertificateGood {
		t.Errorf("certificate %+v", c)
	}

	must(t, r.SuspendDevice(ctx, one, citizen.ReasonCounter, audit.New(audit.DeviceSuspended).Citizen(person)))
	d, state, err = r.DeviceByCredential(ctx, bytes.Repeat([]byte{1}, 16))
	must(t, err)
	if !errors.Is(d.Usable(state), citizen.ErrDeviceInactive) || d.StateReason != citizen.ReasonCounter {
		t.Errorf("after suspending: %s, %s", d.State, d.StateReason)
	}
	// A second time changes nothing and writes no second entry.
	if err := r.SuspendDevice(ctx, one, citizen.ReasonOperator, audit.New(audit.DeviceSuspended)); !errors.Is(err, citizen.ErrDeviceNotFound) {
		t.Errorf("suspended twice: %v", err)
	}
	var entries int
	must(t, pool.QueryRow(ctx, `SELECT count(*) FROM audit_entries WHERE act = 'device.suspended' AND device_id = $1 AND detail->>'reason' = 'counter'`, one).Scan(&entries))
	if entries != 1 {
		t.Errorf("%d audit entries, want 1", entries)
	}

	_, err = pool.Exec(ctx, `UPDATE citizens SET state = 'frozen'`)
	must(t, err)
	d, state, err = r.DeviceByCredential(ctx, bytes.Repeat([]byte{2}, 16))
	must(t, err)
	if d.ID != two || !errors.Is(d.Usable(state), citizen.ErrCitizenInactive) {
		t.Errorf("a frozen citizen's device: %v", d.Usable(state))
	}
	_, err = pool.Exec(ctx, `UPDATE devices SET state = 'removed', last_used_at = $2 WHERE id = $1`, two, time.Now())
	must(t, err)
	if list, err = r.Devices(ctx, person); err != nil || len(list) != 1 {
		t.Errorf("a removed device is listed: %v", err)
	}
}
