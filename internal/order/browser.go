package order

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"sealgate/internal/audit"
)

// View is what the starting browser may see of its order.
type View struct {
	Order
	Asked Content
	// QRAllowed is false where the client accepts only roads that cannot be relayed.
	QRAllowed bool
}

// newView parses an order's content.
func newView(o *Order) (*View, error) {
	c, err := ParseContent(o.Content)
	if err != nil {
		return nil, err
	}
	return &View{Order: *o, Asked: c, QRAllowed: ACRSatisfies(ACRQR, c.demanded().MinimumACR)}, nil
}

// View reads an order for the browser that started it. Any other browser gets
// ErrWrongBrowser: a stolen link is worth nothing.
func (s *Service) View(ctx context.Context, id ID, browser BrowserKey) (*View, error) {
	o, err := s.mine(ctx, id, browser)
	if err != nil {
		return nil, err
	}
	return newView(o)
}

// mine reads an order and checks that it belongs to the browser.
func (s *Service) mine(ctx context.Context, id ID, browser BrowserKey) (*Order, error) {
	o, err := s.cfg.Store.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	if !o.StartedBy(browser) {
		return nil, ErrWrongBrowser
	}
	return o, nil
}

// StartedBy says whether this browser started the order, or opened it first.
func (o *Order) StartedBy(browser BrowserKey) bool {
	return len(o.BrowserHash) > 0 && subtle.ConstantTimeCompare(o.BrowserHash, browser.Hash()) == 1
}

// Frame is the link that the QR picture shows at a time: the frozen one while
// a frame is held still, else the one of the present step. It reads nothing.
func (s *Service) Frame(v *View, now time.Time) string {
	n := step(v.CreatedAt, now, s.cfg.Frames.Step)
	if v.FrozenStep != nil && v.FrozenAt != nil && now.Sub(*v.FrozenAt) < s.cfg.Frames.Frozen {
		n = *v.FrozenStep
	}
	return s.cfg.PublicOrigin + "/q/" + newFrame(v.QRSecret, v.ID, n).tail()
}

// FrozenUntil says until when the present frame is held still; zero when it is not.
func (s *Service) FrozenUntil(v *View, now time.Time) time.Time {
	if v.FrozenAt == nil || now.Sub(*v.FrozenAt) >= s.cfg.Frames.Frozen {
		return time.Time{}
	}
	return v.FrozenAt.Add(s.cfg.Frames.Frozen)
}

// ExtendLeft is how often the browser may still ask for more time.
func (s *Service) ExtendLeft(v *View) int {
	if v.ExpiresAt.Equal(v.FinalExpiresAt) {
		return 0
	}
	return max(0, s.cfg.MaxExtend-v.Extended)
}

// FrameStep is how long one frame is shown.
func (s *Service) FrameStep() time.Duration { return s.cfg.Frames.Step }

// Open binds an order that was made over the API to the first browser that
// brings its start token. The same browser may open it again.
func (s *Service) Open(ctx context.Context, id ID, startToken string, browser BrowserKey, from Origin) error {
	o, err := s.cfg.Store.Find(ctx, id)
	if err != nil {
		return err
	}
	e := entry(audit.OrderOpened, o, from).ByBrowser()
	raw, ok := decodeToken(startToken)
	hash := sha256.Sum256(raw)
	if !ok || len(o.StartHash) == 0 || subtle.ConstantTimeCompare(hash[:], o.StartHash) != 1 {
		return s.refuse(ctx, e, ErrStartToken)
	}
	if bytes.Equal(o.BrowserHash, browser.Hash()) {
		return nil
	}
	if len(o.BrowserHash) > 0 {
		return s.refuse(ctx, e, ErrWrongBrowser)
	}
	if state := o.StateAt(s.now()); state != Created {
		return s.refuse(ctx, e, state.Fault())
	}
	err = s.cfg.WaitingStore.Open(ctx, id, hash[:], browser.Hash(), from, e)
	if err != nil {
		if err = s.explain(ctx, id, err); errors.Is(err, ErrState) {
			err = ErrWrongBrowser // it is still created: another browser was faster
		}
		return s.refuse(ctx, e, err)
	}
	return nil
}

// step reads the browser's order for something that the browser wants to do to
// it. Unlike a look, an attempt of another browser leaves an audit entry.
func (s *Service) step(ctx context.Context, id ID, browser BrowserKey, act audit.Act, from Origin) (*Order, audit.Entry, error) {
	o, err := s.cfg.Store.Find(ctx, id)
	if err != nil {
		return nil, audit.Entry{}, err
	}
	e := entry(act, o, from).ByBrowser()
	if !o.StartedBy(browser) {
		return nil, e, s.refuse(ctx, e, ErrWrongBrowser)
	}
	return o, e, nil
}

// open is step for an order that must still wait for a phone.
func (s *Service) open(ctx context.Context, id ID, browser BrowserKey, act audit.Act, from Origin) (*Order, audit.Entry, error) {
	o, e, err := s.step(ctx, id, browser, act, from)
	if err != nil {
		return nil, e, err
	}
	if state := o.StateAt(s.now()); state != Created {
		return nil, e, s.refuse(ctx, e, state.Fault())
	}
	return o, e, nil
}

// Extend gives a person who needs it more time (WCAG 2.2.1).
func (s *Service) Extend(ctx context.Context, id ID, browser BrowserKey, from Origin) error {
	o, e, err := s.open(ctx, id, browser, audit.OrderExtended, from)
	if err != nil {
		return err
	}
	if o.Extended >= s.cfg.MaxExtend {
		return s.refuse(ctx, e, ErrExtendLimit)
	}
	until := s.now().Add(s.cfg.Lifetime)
	if until.After(o.FinalExpiresAt) {
		until = o.FinalExpiresAt
	}
	if err := s.cfg.WaitingStore.Extend(ctx, id, browser.Hash(), until, s.cfg.MaxExtend, e); err != nil {
		return s.refuse(ctx, e, s.explain(ctx, id, err))
	}
	s.Wake(id)
	return nil
}

// Freeze holds the present frame still for a person who needs it (WCAG 2.2.2).
// A frozen frame always needs the two-digit check.
func (s *Service) Freeze(ctx context.Context, id ID, browser BrowserKey, from Origin) error {
	o, e, err := s.open(ctx, id, browser, audit.OrderFrozen, from)
	if err != nil {
		return err
	}
	now := s.now()
	n := step(o.CreatedAt, now, s.cfg.Frames.Step)
	if err := s.cfg.WaitingStore.Freeze(ctx, id, browser.Hash(), n, now, e); err != nil {
		return s.refuse(ctx, e, s.explain(ctx, id, err))
	}
	s.Wake(id)
	return nil
}

// TypedCode makes eight digits that can be typed on the phone instead of
// scanning. The order keeps only their MAC.
func (s *Service) TypedCode(ctx context.Context, id ID, browser BrowserKey, from Origin) (string, error) {
	o, e, err := s.open(ctx, id, browser, audit.OrderCode, from)
	if err != nil {
		return "", err
	}
	code := randomDigits(8)
	until := s.now().Add(s.cfg.CodeLifetime)
	if until.After(o.FinalExpiresAt) {
		until = o.FinalExpiresAt
	}
	if err := s.cfg.WaitingStore.SetCode(ctx, id, browser.Hash(), s.cfg.CodeMAC(code), until, e); err != nil {
		return "", s.refuse(ctx, e, s.explain(ctx, id, err))
	}
	s.Wake(id)
	return code, nil
}

// MaxCheckTries is how often the two digits may be typed: three guesses at a
// hundred values.
const MaxCheckTries = 3

// reasonCheck is the end reason of an order whose digits were wrong too often.
const reasonCheck = "check_failed"

// Check takes the two digits that the phone shows. After three wrong tries the
// order has failed.
func (s *Service) Check(ctx context.Context, id ID, browser BrowserKey, digits string, from Origin) error {
	o, e, err := s.step(ctx, id, browser, audit.OrderChecked, from)
	if err != nil {
		return err
	}
	switch state := o.StateAt(s.now()); {
	case state == Created:
		return s.refuse(ctx, e, ErrCheckNone)
	case state != Scanned:
		return s.refuse(ctx, e, state.Fault())
	case o.CheckDigits == "":
		return s.refuse(ctx, e, ErrCheckNone)
	case o.CheckPassedAt != nil:
		return nil
	}
	passed, tries, err := s.cfg.WaitingStore.Check(ctx, Checking{Order: id, BrowserHash: browser.Hash(), Digits: digits, Most: MaxCheckTries, At: s.now(),
		Right: e, Wrong: e.Refuse(ErrCheckWrong.Code), Last: entry(audit.OrderFailed, o, from).ByBrowser().Fail(reasonCheck)})
	if err != nil {
		return s.refuse(ctx, e, s.explain(ctx, id, err))
	}
	s.Wake(id)
	switch {
	case passed:
		return nil
	case tries >= MaxCheckTries:
		return ErrFailed
	}
	return ErrCheckWrong.With("tries", fmt.Sprint(MaxCheckTries-tries))
}

// Cancel ends an order from the browser that started it.
func (s *Service) Cancel(ctx context.Context, id ID, browser BrowserKey, from Origin) error {
	o, e, err := s.step(ctx, id, browser, audit.OrderCancelled, from)
	if err != nil {
		return err
	}
	return s.end(ctx, o, Ending{Order: id, To: Cancelled, Reason: "browser", BrowserHash: browser.Hash(), Audit: e})
}

// CancelByClient ends an order of the client that made it.
func (s *Service) CancelByClient(ctx context.Context, id ID, c Client, from Origin) error {
	o, err := s.Owned(ctx, id, c)
	if err != nil {
		return err
	}
	e := entry(audit.OrderCancelled, o, from).By(audit.ActorClient, c.ClientID)
	return s.end(ctx, o, Ending{Order: id, To: Cancelled, Reason: "client", ClientID: &c.ID, Audit: e})
}

// Owned reads an order for the client that made it; anybody else's does not exist.
func (s *Service) Owned(ctx context.Context, id ID, c Client) (*Order, error) {
	o, err := s.cfg.Store.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	if o.ClientID != c.ID {
		return nil, ErrNotFound
	}
	return o, nil
}

// end carries out an ending that somebody asked for. Asking twice is no fault.
func (s *Service) end(ctx context.Context, o *Order, e Ending) error {
	e.At = s.now()
	state := o.StateAt(e.At)
	if state == e.To {
		return nil
	}
	if state != Created && state != Scanned {
		return s.refuse(ctx, e.Audit, state.Fault())
	}
	if err := s.cfg.Store.End(ctx, e); err != nil {
		return s.refuse(ctx, e.Audit, s.explain(ctx, o.ID, err))
	}
	s.Wake(o.ID)
	return nil
}

// randomDigits gives n decimal digits, each value equally likely.
func randomDigits(n int) string {
	limit := uint64(1)
	for range n {
		limit *= 10
	}
	top := ^uint64(0) - ^uint64(0)%limit
	for {
		var b [8]byte
		_, _ = rand.Read(b[:])
		if v := binary.BigEndian.Uint64(b[:]); v < top {
			return fmt.Sprintf("%0*d", n, v%limit)
		}
	}
}

// CollectLogin takes an approved login order of the service's own pages to
// completed, once, for the browser that started it.
func (s *Service) CollectLogin(ctx context.Context, id ID, browser BrowserKey, from Origin) (*View, error) {
	o, e, err := s.step(ctx, id, browser, audit.OrderCompleted, from)
	if err != nil {
		return nil, err
	}
	if o.CitizenID != nil {
		e = e.ByCitizen(*o.CitizenID)
	}
	if state := o.StateAt(s.now()); o.Kind != Login || state != Approved {
		return nil, s.refuse(ctx, e, state.Fault())
	}
	if err := s.cfg.WaitingStore.Collect(ctx, id, browser.Hash(), s.now(), e); err != nil {
		return nil, s.refuse(ctx, e, s.explain(ctx, id, err))
	}
	s.Wake(id)
	return newView(o)
}
