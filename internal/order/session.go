package order

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/passkey"
)

// Faults of phone sessions.
var (
	ErrChallenge     = fault.New(fault.Gone, "session_challenge_expired")
	ErrChallengeUsed = fault.New(fault.Conflict, "session_challenge_used")
)

// sessionChallengeLife is how long a phone may take to answer, here without an order.
const sessionChallengeLife = 3 * time.Minute

// PhoneSession is a person who has shown that this is their phone, to look at
// their own history and devices. It approves nothing.
type PhoneSession struct {
	CitizenID uuid.UUID
	DeviceID  uuid.UUID
}

// SessionStart is what opening a phone session writes.
type SessionStart struct {
	Challenge []byte
	ExpiresAt time.Time
	Device    Device
	Verified  *passkey.Verified
	At        time.Time
	Audit     audit.Entry
}

// Record is one line of a citizen's history.
type Record struct {
	Order Order
	Asked Content
}

// PhoneStore keeps phone sessions' challenges and reads a person's own history.
type PhoneStore interface {
	// ByCredential reads the device that owns a credential; nil where there is none.
	ByCredential(ctx context.Context, credentialID []byte, now time.Time) (*Device, error)
	// Used says whether a challenge was used up.
	Used(ctx context.Context, challenge []byte) (bool, error)
	// StartSession uses up the challenge and moves the signature counter, in one
	// transaction; ErrChallengeUsed when the challenge was used before.
	StartSession(ctx context.Context, s SessionStart) error
	// History lists a citizen's approved orders, newest first, older than before.
	History(ctx context.Context, citizen uuid.UUID, before ID, limit int) ([]*Order, error)
	// Refused writes the audit entry of a step that was not allowed.
	Refused(ctx context.Context, entry audit.Entry) error
}

// Phone serves a person who looks at their own things on the phone.
type Phone struct {
	store   PhoneStore
	rp      *passkey.RelyingParty
	secret  []byte
	suspend SuspendFunc
	now     func() time.Time
}

// NewPhone makes the service; secret is 32 bytes that all nodes share.
func NewPhone(store PhoneStore, rp *passkey.RelyingParty, secret []byte, suspend SuspendFunc) (*Phone, error) {
	if store == nil || rp == nil || len(secret) < 32 || suspend == nil {
		return nil, errors.New("order: a part of the phone service is missing")
	}
	return &Phone{store: store, rp: rp, secret: secret, suspend: suspend,
		now: func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }}, nil
}

// challengeToken is 16 random bytes and the expiry in Unix microseconds, from which
// follows when it was issued.
const challengeToken = 16 + 8

// challenge derives the WebAuthn challenge from a token, so that nothing need
// be stored until it is used.
func (p *Phone) challenge(token []byte) []byte {
	m := hmac.New(sha256.New, p.secret)
	m.Write([]byte("sealgate/session-challenge/v1\x00"))
	m.Write(token)
	return m.Sum(nil)
}

// Options gives request options and the token that comes back with the assertion.
func (p *Phone) Options() (optionsJSON []byte, token string, err error) {
	var raw [challengeToken]byte
	_, _ = rand.Read(raw[:16])
	binary.BigEndian.PutUint64(raw[16:], uint64(p.now().Add(sessionChallengeLife).UnixMicro()))
	optionsJSON, err = p.rp.RequestOptions(p.challenge(raw[:]), nil)
	return optionsJSON, base64.RawURLEncoding.EncodeToString(raw[:]), err
}

// Start checks the assertion over the token's challenge and uses it up.
func (p *Phone) Start(ctx context.Context, token string, assertionJSON []byte, from Origin) (*PhoneSession, error) {
	e := audit.New(audit.SessionStarted).ByBrowser()
	if from.IP.IsValid() {
		e = e.From(from.IP)
	}
	session, err := p.start(ctx, token, assertionJSON, &e)
	if err != nil {
		if f := fault.From(err); f.Kind != fault.Internal && f.Kind != fault.Unavailable {
			err = errors.Join(err, p.store.Refused(ctx, e.Refuse(f.Code)))
		}
		return nil, err
	}
	return session, nil
}

// start is Start without the record of a refusal; it adds to the entry what it learns.
func (p *Phone) start(ctx context.Context, token string, assertionJSON []byte, e *audit.Entry) (*PhoneSession, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != challengeToken {
		return nil, ErrChallenge
	}
	expires := time.UnixMicro(int64(binary.BigEndian.Uint64(raw[16:]))).UTC()
	now := p.now()
	if !now.Before(expires) || expires.Sub(now) > sessionChallengeLife+clockSkew {
		return nil, ErrChallenge
	}
	assertion, err := passkey.ParseAssertion(assertionJSON)
	if err != nil {
		return nil, err
	}
	d, err := p.store.ByCredential(ctx, assertion.CredentialID, now)
	if err != nil {
		return nil, err
	}
	verified, err := p.judge(ctx, d, assertion, raw, expires.Add(-sessionChallengeLife), e)
	if err != nil {
		return nil, err
	}
	err = p.store.StartSession(ctx, SessionStart{Challenge: p.challenge(raw), ExpiresAt: expires, Device: *d,
		Verified: verified, At: now, Audit: *e})
	if err != nil {
		return nil, err
	}
	return &PhoneSession{CitizenID: d.CitizenID, DeviceID: d.ID}, nil
}

// judge holds the rules between an assertion and a session.
func (p *Phone) judge(ctx context.Context, d *Device, a *passkey.Assertion, token []byte, issued time.Time, e *audit.Entry) (*passkey.Verified, error) {
	if d == nil || !bytes.Equal(a.UserHandle, d.UserHandle) {
		return nil, ErrDeviceUnknown
	}
	*e = e.ByCitizen(d.CitizenID).Device(d.ID)
	if !d.CitizenActive {
		return nil, ErrCitizenFrozen
	}
	if !d.Active {
		return nil, d.Stopped()
	}
	verified, err := p.rp.Verify(a, d.Credential, p.challenge(token))
	if errors.Is(err, passkey.ErrCounter) {
		// The same answer may have come twice: then its challenge is used, the
		// counter stands where it left it, and nothing was copied.
		if used, usedErr := p.store.Used(ctx, p.challenge(token)); usedErr != nil || used {
			return nil, errors.Join(usedErr, ErrChallengeUsed)
		}
		if a.Overtaken(d.Credential.SignCount, issued, d.LastUsedAt) {
			return nil, passkey.ErrOvertaken.Because(err)
		}
		stop := audit.New(audit.DeviceSuspended).Citizen(d.CitizenID).Device(d.ID).With(audit.KeyReason, "counter")
		if suspendErr := p.suspend(ctx, d.ID, "counter", stop); suspendErr != nil {
			return nil, suspendErr
		}
		return nil, ErrDeviceCounter.Because(err)
	}
	return verified, err
}

// historyPage is how many records one answer holds.
const historyPage = 20

// History lists what a person approved, newest first. before continues a list;
// the zero ID starts one.
func (p *Phone) History(ctx context.Context, citizen uuid.UUID, before ID) ([]Record, error) {
	if before == (ID{}) {
		for i := range before {
			before[i] = 0xff
		}
	}
	orders, err := p.store.History(ctx, citizen, before, historyPage)
	if err != nil {
		return nil, err
	}
	out := make([]Record, 0, len(orders))
	for _, o := range orders {
		c, err := ParseContent(o.Content)
		if err != nil {
			return nil, err
		}
		out = append(out, Record{Order: *o, Asked: c})
	}
	return out, nil
}
