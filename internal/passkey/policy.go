package passkey

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // a key identifier (RFC 5280 §4.2.1.2), not a protection
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/fault"
	"sealgate/internal/mds"
)

// SyncedRule says what becomes of passkeys that are copied between devices
// (backup eligible, WebAuthn Level 3 §6.1.3).
type SyncedRule string

// The rules, from the mildest to the strictest.
const (
	SyncedAllowed  SyncedRule = "allowed"   // as any other, but never hardware-bound (phrh)
	SyncedLowerACR SyncedRule = "lower_acr" // allowed, and no approval by them counts as more than the lowest acr
	SyncedRefused  SyncedRule = "refused"
)

// syncedRank orders the rules.
var syncedRank = []SyncedRule{SyncedAllowed, SyncedLowerACR, SyncedRefused}

// Stricter gives the stricter of two rules. "" and "inherit" say nothing;
// a word nobody knows is the strictest.
func (r SyncedRule) Stricter(other SyncedRule) SyncedRule {
	rank := func(r SyncedRule) int {
		if r == "" || r == "inherit" {
			return 0
		}
		if i := slices.Index(syncedRank, r); i >= 0 {
			return i
		}
		return len(syncedRank) - 1
	}
	return syncedRank[max(rank(r), rank(other))]
}

// Attachment says where the authenticator sits (WebAuthn Level 3 §5.4.5).
type Attachment string

// The attachments.
const (
	AnyAttachment Attachment = ""
	Platform      Attachment = "platform"       // in the phone itself
	CrossPlatform Attachment = "cross-platform" // a security key or another phone
)

// Policy says which authenticators are accepted, beside Config.Attestation and
// Config.PermittedAAGUIDs.
//
// An AAGUID without attestation is whatever the phone says. It may refuse
// (nobody claims a compromised or denied model to get in), it never permits.
type Policy struct {
	// DeniedAAGUIDs are refused, and stopped where they are bound.
	DeniedAAGUIDs []uuid.UUID
	// MinimumCertification a model must have by the metadata. Under
	// AttestationMonitor what falls short is noted, not refused.
	MinimumCertification mds.Level
	Attachment           Attachment
	Synced               SyncedRule // "" is SyncedAllowed
	// RefuseStale refuses new registrations while the metadata are missing or
	// past their day. Needs AttestationEnforced.
	RefuseStale bool
}

func (p Policy) check(cfg *Config) error {
	switch {
	case p.Attachment != AnyAttachment && p.Attachment != Platform && p.Attachment != CrossPlatform:
		return fmt.Errorf("passkey: unknown attachment %q", p.Attachment)
	case p.Synced != "" && !slices.Contains(syncedRank, p.Synced):
		return fmt.Errorf("passkey: unknown rule %q for synced passkeys", p.Synced)
	case p.MinimumCertification > 0 && (cfg.Metadata == nil || cfg.Attestation == AttestationOff):
		return errors.New("passkey: a least certification needs metadata, and attestation monitored or enforced")
	case p.RefuseStale && (cfg.Metadata == nil || cfg.Attestation != AttestationEnforced):
		return errors.New("passkey: refusing on stale metadata needs metadata and enforced attestation")
	}
	return nil
}

// Facts are what was known of an authenticator when it was bound: evidence, and
// what a later look at the metadata starts from.
type Facts struct {
	// Anchor is what the attestation led to: "metadata", "configured", or "".
	Anchor string `json:"anchor,omitempty"`
	// Chain is the SHA-256 of each attestation certificate, leaf first, in hex.
	Chain []string `json:"chain,omitempty"`
	// KeyIdentifier of the attestation certificate's key, in hex; what U2F has for a model.
	KeyIdentifier string `json:"key_identifier,omitempty"`
	// Attachment as the browser told it.
	Attachment string `json:"attachment,omitempty"`
	// Model, Statuses and Certification are the metadata's words, from the BLOB Metadata.
	Metadata      int64    `json:"metadata,omitempty"`
	Model         string   `json:"model,omitempty"`
	Statuses      []string `json:"statuses,omitempty"`
	Certification string   `json:"certification,omitempty"`
	// Noted is the code of what enforced attestation would have refused.
	Noted string `json:"noted,omitempty"`
}

// hashes gives Chain back as the metadata compare it.
func (f Facts) hashes() [][32]byte {
	var all [][32]byte
	for _, text := range f.Chain {
		if raw, err := hex.DecodeString(text); err == nil && len(raw) == 32 {
			all = append(all, [32]byte(raw))
		}
	}
	return all
}

// keyIdentifier is SHA-1 over the bits of the public key.
func keyIdentifier(c *x509.Certificate) (id mds.KeyIdentifier, ok bool) {
	switch c.PublicKey.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
	default:
		return id, false
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info); err != nil {
		return id, false
	}
	return sha1.Sum(info.Key.RightAlign()), true //nolint:gosec // as above
}

// model is what the metadata say of one authenticator: one entry, or those that
// name its U2F key; none when nothing is known.
type model []*mds.Entry

// modelOf looks an authenticator up by AAGUID, or as U2F by key identifier.
func modelOf(b *mds.Blob, aaguid uuid.UUID, keyID string) model {
	if b == nil {
		return nil
	}
	if e, ok := b.ByAAGUID(aaguid); ok {
		return model{e}
	}
	if raw, err := hex.DecodeString(keyID); err == nil && len(raw) == len(mds.KeyIdentifier{}) && aaguid == uuid.Nil {
		return b.ByKeyIdentifier(mds.KeyIdentifier(raw))
	}
	return nil
}

// certification is the least of the entries'.
func (m model) certification(now time.Time) mds.Level {
	if len(m) == 0 {
		return 0
	}
	least := m[0].Certification(now)
	for _, e := range m[1:] {
		least = min(least, e.Certification(now))
	}
	return least
}

// compromised gives the report that forbids the model.
func (m model) compromised(now time.Time, chain [][32]byte) (mds.Report, bool) {
	for _, e := range m {
		if r, bad := e.Compromised(now, chain); bad {
			return r, true
		}
	}
	return mds.Report{}, false
}

// anchors says whether the chain leads to one of the model's own roots.
func (m model) anchors(chain []*x509.Certificate, now time.Time) bool {
	roots := x509.NewCertPool()
	for _, e := range m {
		for _, c := range e.Roots() {
			if c.Equal(chain[0]) && !now.Before(c.NotBefore) && !now.After(c.NotAfter) {
				return true // the metadata may name the attestation certificate itself
			}
			if c.IsCA {
				roots.AddCert(c)
			}
		}
	}
	return leadsTo(chain, roots, now)
}

// metadata is the BLOB in force, nil where there is none.
func (rp *RelyingParty) metadata() *mds.Blob {
	if rp.cfg.Metadata == nil {
		return nil
	}
	return rp.cfg.Metadata()
}

// facts gathers what is known of the authenticator that answered.
func (rp *RelyingParty) facts(reg *registration, chain []*x509.Certificate, now time.Time) (Facts, model) {
	f := Facts{Attachment: reg.attachment}
	for _, c := range chain {
		sum := sha256.Sum256(c.Raw)
		f.Chain = append(f.Chain, hex.EncodeToString(sum[:]))
	}
	if len(chain) > 0 && reg.object.Format == "fido-u2f" {
		if id, ok := keyIdentifier(chain[0]); ok {
			f.KeyIdentifier = hex.EncodeToString(id[:])
		}
	}
	b := rp.metadata()
	if b == nil {
		return f, nil
	}
	f.Metadata = b.Number
	m := modelOf(b, reg.auth.aaguid, f.KeyIdentifier)
	for _, e := range m {
		f.Model = e.Description
		f.Statuses = append(f.Statuses, e.Statuses(now)...)
	}
	if len(m) > 0 {
		f.Certification = m.certification(now).String()
	}
	return f, m
}

// judgePolicy holds the rules about the model. What may only be noted is
// written into the facts.
func (rp *RelyingParty) judgePolicy(reg *registration, m model, attested bool, f *Facts, now time.Time) error {
	p, enforced := rp.cfg.Policy, rp.cfg.Attestation == AttestationEnforced
	// What refuses also on a mere claim.
	if r, bad := m.compromised(now, f.hashes()); bad {
		return ErrModelCompromised.Because(fmt.Errorf("the metadata say %s", r.Status))
	}
	if reg.auth.aaguid != uuid.Nil && slices.Contains(p.DeniedAAGUIDs, reg.auth.aaguid) {
		return ErrModelRefused.Because(errors.New("the model is denied"))
	}
	if p.Synced == SyncedRefused && reg.auth.flags&flagBackupEligible != 0 {
		return ErrSynced.Because(errors.New("BE is set"))
	}
	if err := p.judgeAttachment(f.Attachment, m, attested); err != nil {
		return err
	}
	// What needs proof.
	var short *fault.Error
	switch b := rp.metadata(); {
	case p.RefuseStale && (b == nil || b.Stale(now)):
		short = ErrMetadataStale.Because(errors.New("the metadata are missing or past their day"))
	case p.MinimumCertification > 0 && (!attested || m.certification(now) < p.MinimumCertification):
		short = ErrModelRefused.Because(fmt.Errorf("certification %s is below %s", m.certification(now), p.MinimumCertification))
	}
	if short != nil && enforced {
		return short
	}
	if short != nil {
		f.Noted = short.Code
	}
	return nil
}

// judgeAttachment compares what the browser says, and what the metadata say of
// a proven model, with what is asked. Nothing is signed about it without
// attestation: the rule guides honest people.
func (p Policy) judgeAttachment(told string, m model, attested bool) error {
	if p.Attachment == AnyAttachment {
		return nil
	}
	wrong := told != "" && told != string(p.Attachment)
	if attested {
		for _, e := range m {
			wrong = wrong || e.Internal != (p.Attachment == Platform)
		}
	}
	if wrong {
		return ErrAttachment.Because(fmt.Errorf("asked for %s", p.Attachment))
	}
	return nil
}
