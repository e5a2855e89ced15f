package passkey_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/fault"
	"sealgate/internal/mds"
	"sealgate/internal/passkey"
	"sealgate/internal/softauthn"
)

// metadata is a test service's BLOB, read as the real one would be.
func metadata(t testing.TB, nextUpdate string, models ...softauthn.Model) *mds.Blob {
	t.Helper()
	m, err := softauthn.NewMetadataSigner()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.BLOB(1, nextUpdate, append(models, softauthn.Model{AAGUID: uuid.New(), Description: "Another"})...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := mds.Read(raw, mds.Trust{Roots: []*x509.Certificate{m.Root}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const fresh, past = "2099-01-01", "2020-01-01"

// TestPolicyTable: each rule, with what is refused under each mode of
// attestation. "" is accepted; "noted" is accepted and kept in the facts.
func TestPolicyTable(t *testing.T) {
	authority := newAuthority(t)
	entry := func(reports ...softauthn.ModelReport) softauthn.Model {
		return softauthn.Model{AAGUID: model, Description: "Test phone", Internal: true, Roots: []*x509.Certificate{authority.Certificate}, Reports: reports}
	}
	report := func(status string) softauthn.ModelReport {
		return softauthn.ModelReport{Status: status, Effective: "2024-01-01"}
	}
	attested := softauthn.Options{AAGUID: model, Attestation: softauthn.PackedX5C, Authority: authority}
	claimed := softauthn.Options{AAGUID: model}
	stranger := softauthn.Options{AAGUID: model, Attestation: softauthn.PackedX5C}
	synced := softauthn.Options{AAGUID: model, BackupEligible: true, BackupState: true}
	const refused, compromised, attest = "passkey_model_refused", "passkey_model_compromised", "passkey_attestation"
	level := func(l mds.Level) passkey.Policy { return passkey.Policy{MinimumCertification: l} }
	for _, tc := range []struct {
		name    string
		phone   softauthn.Options
		blob    *mds.Blob
		policy  passkey.Policy
		allowed []uuid.UUID
		monitor string
		enforce string
	}{
		{"proved by its own root", attested, metadata(t, fresh, entry()), passkey.Policy{}, nil, "", ""},
		{"a chain of somebody else", stranger, metadata(t, fresh, entry()), passkey.Policy{}, nil, "", attest},
		{"a claim", claimed, metadata(t, fresh, entry()), passkey.Policy{}, nil, "", attest},
		{"allowed and proved", attested, metadata(t, fresh, entry()), passkey.Policy{}, []uuid.UUID{model}, "skip", ""},
		{"allowed and claimed", claimed, metadata(t, fresh, entry()), passkey.Policy{}, []uuid.UUID{model}, "skip", attest},
		{"not allowed", attested, metadata(t, fresh, entry()), passkey.Policy{}, []uuid.UUID{uuid.New()}, "skip", attest},
		{"denied and proved", attested, metadata(t, fresh, entry()), passkey.Policy{DeniedAAGUIDs: []uuid.UUID{model}}, nil, refused, refused},
		{"denied and claimed", claimed, metadata(t, fresh, entry()), passkey.Policy{DeniedAAGUIDs: []uuid.UUID{model}}, nil, refused, attest},
		{"another is denied", attested, metadata(t, fresh, entry()), passkey.Policy{DeniedAAGUIDs: []uuid.UUID{uuid.New()}}, nil, "", ""},
		{"certified enough", attested, metadata(t, fresh, entry(report("FIDO_CERTIFIED_L2"))), level(3), nil, "", ""},
		{"certified, not enough", attested, metadata(t, fresh, entry(report("FIDO_CERTIFIED_L1"))), level(3), nil, "noted", refused},
		{"not certified", attested, metadata(t, fresh, entry(report("NOT_FIDO_CERTIFIED"))), level(1), nil, "noted", refused},
		{"certified, but only claimed", claimed, metadata(t, fresh, entry(report("FIDO_CERTIFIED_L3"))), level(1), nil, "noted", attest},
		{"revoked", attested, metadata(t, fresh, entry(report("REVOKED"))), passkey.Policy{}, nil, compromised, compromised},
		{"revoked, claimed", claimed, metadata(t, fresh, entry(report("REVOKED"))), passkey.Policy{}, nil, compromised, attest},
		{"keys came out", attested, metadata(t, fresh, entry(report("USER_KEY_REMOTE_COMPROMISE"))), passkey.Policy{}, nil, compromised, compromised},
		{"attestation key came out", attested, metadata(t, fresh, entry(report("ATTESTATION_KEY_COMPROMISE"))), passkey.Policy{}, nil, compromised, compromised},
		{"stale, only told", attested, metadata(t, past, entry()), passkey.Policy{}, nil, "", ""},
		{"stale, refused", attested, metadata(t, past, entry()), passkey.Policy{RefuseStale: true}, nil, "skip", "passkey_metadata_stale"},
		{"no metadata, refused", attested, nil, passkey.Policy{RefuseStale: true}, nil, "skip", attest},
		{"fresh, stale would be refused", attested, metadata(t, fresh, entry()), passkey.Policy{RefuseStale: true}, nil, "skip", ""},
		{"synced allowed", synced, metadata(t, fresh), passkey.Policy{Synced: passkey.SyncedAllowed}, nil, "", attest},
		{"synced lowered", synced, metadata(t, fresh), passkey.Policy{Synced: passkey.SyncedLowerACR}, nil, "", attest},
		{"synced refused", synced, metadata(t, fresh), passkey.Policy{Synced: passkey.SyncedRefused}, nil, "passkey_synced", attest},
		{"bound to its phone, synced refused", attested, metadata(t, fresh, entry()), passkey.Policy{Synced: passkey.SyncedRefused}, nil, "", ""},
		{"platform asked", attested, metadata(t, fresh, entry()), passkey.Policy{Attachment: passkey.Platform}, nil, "", ""},
		{"security key asked", attested, metadata(t, fresh, entry()), passkey.Policy{Attachment: passkey.CrossPlatform}, nil, "passkey_attachment", "passkey_attachment"},
		{"the metadata know better", attested, metadata(t, fresh, softauthn.Model{AAGUID: model, Roots: []*x509.Certificate{authority.Certificate}}),
			passkey.Policy{Attachment: passkey.Platform}, nil, "passkey_attachment", "passkey_attachment"},
	} {
		for mode, want := range map[passkey.AttestationPolicy]string{passkey.AttestationMonitor: tc.monitor, passkey.AttestationEnforced: tc.enforce} {
			if want == "skip" {
				continue
			}
			t.Run(tc.name+map[passkey.AttestationPolicy]string{passkey.AttestationMonitor: "/monitor", passkey.AttestationEnforced: "/enforced"}[mode], func(t *testing.T) {
				rp := newRP(t, func(c *passkey.Config) {
					c.Attestation, c.Policy, c.PermittedAAGUIDs = mode, tc.policy, tc.allowed
					c.Metadata = func() *mds.Blob { return tc.blob }
				})
				c, err := register(t, rp, softauthn.New(tc.phone))
				if want != "" && want != "noted" {
					if fault.CodeOf(err) != want {
						t.Fatalf("got %v, want %s", err, want)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				proved := tc.phone.Authority != nil && tc.blob != nil
				if c.Attested != proved || (c.Facts.Anchor == "metadata") != proved || (c.Facts.Noted != "") != (want == "noted") {
					t.Errorf("attested %v, facts %+v", c.Attested, c.Facts)
				}
				if proved && (c.Facts.Metadata != 1 || len(c.Facts.Chain) != 1 || c.Facts.Attachment != "platform") {
					t.Errorf("facts %+v", c.Facts)
				}
			})
		}
	}
}

// U2F has no AAGUID: the model is found by the attestation key.
func TestU2FIsFoundByItsKey(t *testing.T) {
	authority := newAuthority(t)
	phone := softauthn.New(softauthn.Options{Attestation: softauthn.FIDOU2F, Authority: authority})
	id, err := phone.AttestationKeyID()
	if err != nil {
		t.Fatal(err)
	}
	var blob *mds.Blob
	rp := newRP(t, func(c *passkey.Config) {
		c.Attestation, c.Metadata = passkey.AttestationEnforced, func() *mds.Blob { return blob }
	})
	entry := softauthn.Model{KeyIDs: []string{id}, Description: "A key", Roots: []*x509.Certificate{authority.Certificate}}
	blob = metadata(t, fresh, entry)
	c, err := register(t, rp, phone)
	if err != nil || !c.Attested || c.Facts.KeyIdentifier != id || c.Facts.Model != "A key" {
		t.Fatalf("%v, %+v", err, c)
	}
	bound := passkey.Bound{AAGUID: c.AAGUID, Facts: c.Facts}
	if reason, _ := rp.Judge(bound, time.Now()); reason != "" {
		t.Errorf("stopped for nothing: %s", reason)
	}
	other := metadata(t, fresh, softauthn.Model{KeyIDs: []string{"00" + id[2:]}, Roots: entry.Roots})
	blob = other
	_, err = register(t, rp, phone)
	wantFault(t, err, passkey.ErrAttestation)
	leaf, err := phone.AttestationCertificate()
	if err != nil {
		t.Fatal(err)
	}
	entry.Reports = []softauthn.ModelReport{{Status: "ATTESTATION_KEY_COMPROMISE", Certificate: leaf}}
	blob = metadata(t, fresh, entry)
	_, err = register(t, rp, phone)
	wantFault(t, err, passkey.ErrModelCompromised)
	if reason, status := rp.Judge(bound, time.Now()); reason != passkey.StopCompromised || status != "ATTESTATION_KEY_COMPROMISE" {
		t.Errorf("got %q %q", reason, status)
	}
	entry.Reports[0].Certificate = authority.Certificate.Raw // another batch
	blob = metadata(t, fresh, entry)
	if _, err = register(t, rp, phone); err != nil {
		t.Errorf("another batch: %v", err)
	}
}

func TestStricter(t *testing.T) {
	for _, tc := range []struct{ a, b, want passkey.SyncedRule }{
		{"", "inherit", passkey.SyncedAllowed},
		{passkey.SyncedLowerACR, "inherit", passkey.SyncedLowerACR},
		{passkey.SyncedLowerACR, passkey.SyncedAllowed, passkey.SyncedLowerACR},
		{passkey.SyncedAllowed, passkey.SyncedRefused, passkey.SyncedRefused},
		{passkey.SyncedAllowed, "what", passkey.SyncedRefused},
	} {
		if got := tc.a.Stricter(tc.b); got != tc.want || tc.b.Stricter(tc.a) != got {
			t.Errorf("%s, %s: %s", tc.a, tc.b, got)
		}
	}
}

func TestPolicyThatCannotBeHeld(t *testing.T) {
	none := func() *mds.Blob { return nil }
	for name, change := range map[string]func(*passkey.Config){
		"certification without metadata":  func(c *passkey.Config) { c.Attestation, c.Policy.MinimumCertification = passkey.AttestationMonitor, 1 },
		"certification without attesting": func(c *passkey.Config) { c.Metadata, c.Policy.MinimumCertification = none, 1 },
		"stale without enforcing": func(c *passkey.Config) {
			c.Metadata, c.Attestation, c.Policy.RefuseStale = none, passkey.AttestationMonitor, true
		},
		"unknown attachment": func(c *passkey.Config) { c.Policy.Attachment = "pocket" },
		"unknown rule":       func(c *passkey.Config) { c.Policy.Synced = "maybe" },
	} {
		cfg := passkey.Config{RPID: rpID, Origins: []string{origin}}
		if _, err := passkey.New(cfg); err != nil {
			t.Fatalf("control: %v", err)
		}
		change(&cfg)
		if _, err := passkey.New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
