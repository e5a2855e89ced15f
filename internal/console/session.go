package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/passkey"
)

// SessionStore keeps sessions. Each method is one transaction or one read.
type SessionStore interface {
	// ByCredential reads whose passkey it is; ErrSignIn where it is no active administrator's.
	ByCredential(ctx context.Context, credentialID []byte) (*Administrator, error)
	// SignIn uses the challenge up and inserts the session. ErrTicket, ErrSignIn.
	SignIn(ctx context.Context, use Use, session Session, entry audit.Entry) error
	// Session reads a session that has not ended, of an active administrator; ErrSignedOut.
	Session(ctx context.Context, hash []byte) (*Session, error)
	// Touch writes when a person last used a session.
	Touch(ctx context.Context, hash []byte, at time.Time) error
	// EndSession ends a session.
	EndSession(ctx context.Context, hash []byte, at time.Time, entry audit.Entry) error
}

// Browser is who asks: the browser's own secret and its address.
type Browser struct {
	Key [32]byte
	IP  netip.Addr
}

func (b Browser) hash() []byte {
	h := sha256.Sum256(b.Key[:])
	return h[:]
}

// SignInOptions gives what any administrator's passkey may answer.
func (s *Service) SignInOptions(b Browser) (*Prepared, error) {
	ticket, nonce := s.newTicket(StepSignIn, b.hash(), nil)
	challenge := Challenge(StepSignIn, nonce, nil)
	options, err := s.cfg.RelyingParty.RequestOptions(challenge[:], nil)
	if err != nil {
		return nil, err
	}
	return &Prepared{Ticket: ticket, Options: options}, nil
}

// SignIn opens a session and gives the secret of its cookie.
func (s *Service) SignIn(ctx context.Context, b Browser, ticket string, assertionJSON []byte) (token string, err error) {
	entry := audit.New(audit.AdministratorSignedIn).ByBrowser().From(b.IP)
	token, err = s.signIn(ctx, b, ticket, assertionJSON, &entry)
	if err != nil {
		return "", s.refuse(ctx, entry, err)
	}
	return token, nil
}

func (s *Service) signIn(ctx context.Context, b Browser, ticket string, assertionJSON []byte, entry *audit.Entry) (string, error) {
	nonce, until, err := s.openTicket(StepSignIn, b.hash(), nil, ticket)
	if err != nil {
		return "", err
	}
	assertion, err := passkey.ParseAssertion(assertionJSON)
	if err != nil {
		return "", err
	}
	who, err := s.cfg.Sessions.ByCredential(ctx, assertion.CredentialID)
	if err != nil {
		return "", err
	}
	*entry = entry.By(audit.ActorOperator, who.ID.String())
	challenge := Challenge(StepSignIn, nonce, nil)
	v, err := s.cfg.RelyingParty.Verify(assertion, who.Passkeys[0].Credential, challenge[:])
	if errors.Is(err, passkey.ErrChallenge) {
		return "", ErrTicket.Because(err)
	}
	if err != nil {
		return "", err
	}
	use := Use{Challenge: challenge, Until: until, CredentialID: assertion.CredentialID, SignCount: v.NewSignCount, BackupState: v.BackupState, At: s.now()}
	token, session := s.newSession(b, *who)
	if err := s.cfg.Sessions.SignIn(ctx, use, session, *entry); err != nil {
		return "", err
	}
	return token, nil
}

// newSession makes a session of an administrator who has just used the first of
// the given passkeys.
func (s *Service) newSession(b Browser, who Administrator) (token string, session Session) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	hash := sha256.Sum256(raw)
	now := s.now()
	return base64.RawURLEncoding.EncodeToString(raw), Session{Hash: hash[:], BrowserHash: b.hash(), Administrator: who, Credential: who.Passkeys[0],
		CreatedAt: now, SeenAt: now, EndsAt: now.Add(AbsoluteLimit), IP: b.IP}
}

// Session finds who is signed in. A cookie that comes from another browser was
// stolen: the session ends. awake is false for requests that no person made;
// they do not keep a session alive.
func (s *Service) Session(ctx context.Context, b Browser, token string, awake bool) (*Session, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != 32 {
		return nil, ErrSignedOut
	}
	hash := sha256.Sum256(raw)
	session, err := s.cfg.Sessions.Session(ctx, hash[:])
	if err != nil {
		return nil, err
	}
	now := s.now()
	session.IP = b.IP
	if subtle.ConstantTimeCompare(session.BrowserHash, b.hash()) != 1 {
		entry := session.Entry(audit.AdministratorSessionStolen).Refuse(ErrSignedOut.Code)
		return nil, errors.Join(ErrSignedOut, s.cfg.Sessions.EndSession(ctx, session.Hash, now, entry))
	}
	if now.Sub(session.SeenAt) > IdleLimit || !now.Before(session.EndsAt) {
		return nil, ErrSignedOut
	}
	if awake && now.Sub(session.SeenAt) >= touchEvery {
		if err := s.cfg.Sessions.Touch(ctx, session.Hash, now); err != nil {
			return nil, err
		}
	}
	return session, nil
}

// SignOut ends the session.
func (s *Service) SignOut(ctx context.Context, session *Session) error {
	return s.cfg.Sessions.EndSession(ctx, session.Hash, s.now(), session.Entry(audit.AdministratorSignedOut))
}

// newUserHandle says nothing about the person (WebAuthn Level 3 §14.6.1).
func newUserHandle() []byte {
	h := make([]byte, 32)
	_, _ = rand.Read(h)
	return h
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }
