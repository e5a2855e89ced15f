package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/passkey"
)

// Purposes of statements about administrators.
const (
	PurposeInvite = "sealgate/console/invite-administrator"
	PurposeRemove = "sealgate/console/remove-administrator"
)

// Invite is a one-time link by which an administrator makes their passkey.
type Invite struct {
	Hash      []byte // SHA-256 of the link's secret
	Name      string
	Roles     []Role
	By        uuid.UUID // uuid.Nil for the first administrator
	CreatedAt time.Time
	ExpiresAt time.Time
}

// AdministratorStore keeps administrators. Each method is one transaction or one read.
type AdministratorStore interface {
	// FirstInvite inserts the invitation of the first administrator in place of
	// an unused earlier one; false where there is an administrator already.
	FirstInvite(ctx context.Context, i Invite, entry audit.Entry) (bool, error)
	// OperatorInvite inserts an invitation made in a shell.
	OperatorInvite(ctx context.Context, i Invite, entry audit.Entry) error
	// Invite writes the approval and inserts the invitation.
	Invite(ctx context.Context, a *Approval, i Invite, entry audit.Entry) error
	// FindInvite reads an invitation that can still be used; ErrInvite.
	FindInvite(ctx context.Context, hash []byte, at time.Time) (*Invite, error)
	// Join uses the invitation up and inserts the administrator with the passkey
	// and a first session. ErrInvite, ErrTicket, ErrPasskeyKnown.
	Join(ctx context.Context, inviteHash []byte, use Use, session Session, userHandle []byte, entry audit.Entry) error
	// List reads all administrators with their passkeys, removed ones too.
	List(ctx context.Context) ([]Administrator, error)
	// Remove writes the approval, removes an administrator and ends their
	// sessions; what they proposed and nobody confirmed is withdrawn. ErrLastOfficer.
	Remove(ctx context.Context, a *Approval, id uuid.UUID, entry audit.Entry) error
	// Refused writes the entry of what was not allowed.
	Refused(ctx context.Context, entry audit.Entry) error
}

// FirstInvite gives the secret of a link for the first administrator, or ""
// where there is one already. A link that was made before stops working.
func (s *Service) FirstInvite(ctx context.Context) (token string, err error) {
	token, i := s.newInvite("", []Role{SecurityOfficer}, uuid.Nil)
	fresh, err := s.cfg.Administrators.FirstInvite(ctx, i, audit.New(audit.AdministratorInvited))
	if err != nil || !fresh {
		return "", err
	}
	return token, nil
}

// OperatorInvite gives the secret of a link, made by whoever has a shell and the
// service's keys: the way back when no security officer is left.
func (s *Service) OperatorInvite(ctx context.Context, operator string, roles []Role) (token string, err error) {
	if err := checkRoles(roles); err != nil {
		return "", err
	}
	token, i := s.newInvite("", roles, uuid.Nil)
	return token, s.cfg.Administrators.OperatorInvite(ctx, i, audit.New(audit.AdministratorInvited).ByOperator(operator).With(audit.KeyRoles, rolesText(roles)))
}

func (s *Service) newInvite(name string, roles []Role, by uuid.UUID) (token string, i Invite) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	hash := sha256.Sum256(raw)
	now := s.now()
	return base64.RawURLEncoding.EncodeToString(raw), Invite{Hash: hash[:], Name: name, Roles: roles, By: by, CreatedAt: now, ExpiresAt: now.Add(InviteLife)}
}

// InviteStatement is what a security officer approves.
type InviteStatement struct {
	Version int       `json:"v"`
	Purpose string    `json:"purpose"`
	ID      uuid.UUID `json:"id"`
	Name    string    `json:"name"`
	Roles   []Role    `json:"roles"`
	RPID    string    `json:"rp_id"`
	Time    string    `json:"time"`
}

// PrepareInvite asks for an assertion over an invitation.
func (s *Service) PrepareInvite(session *Session, name string, roles []Role) (*Prepared, error) {
	if err := session.May(SecurityOfficer); err != nil {
		return nil, err
	}
	name, err := parseName(name)
	if err == nil {
		err = checkRoles(roles)
	}
	if err != nil {
		return nil, err
	}
	statement, err := Canonical(InviteStatement{Version: 1, Purpose: PurposeInvite, ID: newID(), Name: name, Roles: roles, RPID: s.cfg.RelyingParty.RPID(), Time: s.timestamp()})
	if err != nil {
		return nil, err
	}
	return s.Prepare(session, StepAct, statement)
}

// Invite makes an invitation and gives the secret of its link.
func (s *Service) Invite(ctx context.Context, session *Session, a Answer) (token string, err error) {
	approval, err := s.Approve(ctx, session, StepAct, PurposeInvite, a, SecurityOfficer)
	if err != nil {
		return "", err
	}
	var st InviteStatement
	if err := decode(a.Statement, &st); err != nil {
		return "", err
	}
	token, i := s.newInvite(st.Name, st.Roles, session.Administrator.ID)
	entry := session.Entry(audit.AdministratorInvited).With(audit.KeyRoles, rolesText(st.Roles))
	if err := s.cfg.Administrators.Invite(ctx, approval, i, entry); err != nil {
		return "", s.refuse(ctx, entry, err)
	}
	return token, nil
}

// FindInvite reads what a link invites to.
func (s *Service) FindInvite(ctx context.Context, token string) (*Invite, error) {
	hash, err := inviteHash(token)
	if err != nil {
		return nil, err
	}
	return s.cfg.Administrators.FindInvite(ctx, hash, s.now())
}

func inviteHash(token string) ([]byte, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != 32 {
		return nil, ErrInvite
	}
	hash := sha256.Sum256(raw)
	return hash[:], nil
}

// JoinOptions gives what the new administrator's browser makes a passkey from.
// name is what the administrator is called; "" takes the invitation's.
func (s *Service) JoinOptions(ctx context.Context, b Browser, token, name string) (*Prepared, error) {
	i, err := s.FindInvite(ctx, token)
	if err != nil {
		return nil, err
	}
	if i.Name != "" {
		name = i.Name
	}
	if name, err = parseName(name); err != nil {
		return nil, err
	}
	statement, err := Canonical(joinStatement{Version: 1, Purpose: purposeJoin, Name: name, UserHandle: newUserHandle()})
	if err != nil {
		return nil, err
	}
	ticket, nonce := s.newTicket(StepJoin, joinBound(b, i.Hash), statement)
	challenge := Challenge(StepJoin, nonce, statement)
	options, err := s.cfg.RelyingParty.CreationOptions(joinUser(statement), challenge[:], nil)
	if err != nil {
		return nil, err
	}
	return &Prepared{Statement: statement, Ticket: ticket, Options: options}, nil
}

const purposeJoin = "sealgate/console/join"

// joinStatement carries from the options to the answer what the passkey is made for.
type joinStatement struct {
	Version    int    `json:"v"`
	Purpose    string `json:"purpose"`
	Name       string `json:"name"`
	UserHandle []byte `json:"user_handle"`
}

func joinUser(statement []byte) passkey.User {
	var st joinStatement
	_ = decode(statement, &st) // made by JoinOptions or covered by the ticket
	return passkey.User{Handle: st.UserHandle, Name: st.Name, DisplayName: st.Name}
}

func joinBound(b Browser, inviteHash []byte) []byte { return append(b.hash(), inviteHash...) }

// Join makes the administrator and opens their first session.
func (s *Service) Join(ctx context.Context, b Browser, token, passkeyName string, a Answer) (session string, err error) {
	entry := audit.New(audit.AdministratorJoined).ByBrowser().From(b.IP)
	session, err = s.join(ctx, b, token, passkeyName, a, &entry)
	if err != nil {
		return "", s.refuse(ctx, entry, err)
	}
	return session, nil
}

func (s *Service) join(ctx context.Context, b Browser, token, passkeyName string, a Answer, entry *audit.Entry) (string, error) {
	i, err := s.FindInvite(ctx, token)
	if err != nil {
		return "", err
	}
	if passkeyName, err = parseName(passkeyName); err != nil {
		return "", err
	}
	nonce, until, err := s.openTicket(StepJoin, joinBound(b, i.Hash), a.Statement, a.Ticket)
	if err != nil {
		return "", err
	}
	challenge := Challenge(StepJoin, nonce, a.Statement)
	user := joinUser(a.Statement)
	c, _, err := s.cfg.RelyingParty.Register(a.Assertion, user, challenge[:])
	if err != nil {
		return "", err
	}
	now := s.now()
	who := Administrator{ID: newID(), Name: user.Name, Roles: i.Roles, Active: true, CreatedAt: now, InvitedBy: i.By,
		Passkeys: []Passkey{{Credential: *c, Name: passkeyName, CreatedAt: now}}}
	*entry = entry.By(audit.ActorOperator, who.ID.String()).With(audit.KeyRoles, rolesText(i.Roles)).With(audit.KeyAAGUID, c.AAGUID.String())
	secret, session := s.newSession(b, who)
	use := Use{Challenge: challenge, Until: until, CredentialID: c.ID, SignCount: c.SignCount, BackupState: c.BackupState, At: now}
	if err := s.cfg.Administrators.Join(ctx, i.Hash, use, session, user.Handle, *entry); err != nil {
		return "", err
	}
	return secret, nil
}

// List reads all administrators.
func (s *Service) List(ctx context.Context) ([]Administrator, error) {
	return s.cfg.Administrators.List(ctx)
}

// RemoveStatement is what a security officer approves.
type RemoveStatement struct {
	Version       int       `json:"v"`
	Purpose       string    `json:"purpose"`
	ID            uuid.UUID `json:"id"`
	Administrator uuid.UUID `json:"administrator"`
	Name          string    `json:"name"`
	Reason        string    `json:"reason"`
	RPID          string    `json:"rp_id"`
	Time          string    `json:"time"`
}

// PrepareRemove asks for an assertion over the removal of an administrator.
func (s *Service) PrepareRemove(ctx context.Context, session *Session, id uuid.UUID, reason string) (*Prepared, error) {
	if err := session.May(SecurityOfficer); err != nil {
		return nil, err
	}
	reason, err := parseReason(reason)
	if err != nil {
		return nil, err
	}
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(a Administrator) bool { return a.ID == id && a.Active })
	if i < 0 {
		return nil, ErrPerson
	}
	statement, err := Canonical(RemoveStatement{Version: 1, Purpose: PurposeRemove, ID: newID(), Administrator: id, Name: all[i].Name, Reason: reason,
		RPID: s.cfg.RelyingParty.RPID(), Time: s.timestamp()})
	if err != nil {
		return nil, err
	}
	return s.Prepare(session, StepAct, statement)
}

// Remove ends an administrator's rights and sessions at once.
func (s *Service) Remove(ctx context.Context, session *Session, a Answer) error {
	approval, err := s.Approve(ctx, session, StepAct, PurposeRemove, a, SecurityOfficer)
	if err != nil {
		return err
	}
	var st RemoveStatement
	if err := decode(a.Statement, &st); err != nil {
		return err
	}
	entry := session.Entry(audit.AdministratorRemoved).With(audit.KeyAdministrator, st.Administrator.String())
	if err := s.cfg.Administrators.Remove(ctx, approval, st.Administrator, entry); err != nil {
		return s.refuse(ctx, entry, err)
	}
	return nil
}

func checkRoles(roles []Role) error {
	if len(roles) == 0 || len(roles) > len(Roles()) {
		return ErrRoles
	}
	for i, r := range roles {
		if !slices.Contains(Roles(), r) || slices.Contains(roles[:i], r) {
			return ErrRoles
		}
	}
	return nil
}

func rolesText(roles []Role) string {
	words := make([]string, len(roles))
	for i, r := range roles {
		words[i] = string(r)
	}
	return strings.Join(words, " ")
}

// parseName takes a name of 1 to 60 characters that can be shown.
func parseName(name string) (string, error) { return parseText(name, maxName, ErrName) }

// parseReason takes a reason of 1 to 300 characters that can be shown.
func parseReason(text string) (string, error) { return parseText(text, maxReason, ErrReason) }

func parseText(text string, most int, bad error) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" || !utf8.ValidString(text) || utf8.RuneCountInString(text) > most || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", bad
	}
	return text, nil
}

func (s *Service) timestamp() string { return s.now().Format("2006-01-02T15:04:05.000Z") }
