package order

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"
	"time"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
)

// ClaimRequest is a phone's first step on an order.
type ClaimRequest struct {
	Source  Source
	Frame   string      // scanner, link
	Order   string      // same_device, hybrid
	Browser *BrowserKey // same_device, hybrid: the browser cookie
	Code    string      // code
	// Token is a claim token from an earlier answer: the phone that lost the
	// answer may ask again and gets the same order.
	Token string
	From  Origin
}

// Claim is a claimed order as its phone sees it.
type Claim struct {
	View
	Token string
	// Options is the JSON for navigator.credentials.get, or .create for enrol.
	Options    []byte
	MaskedName string // enrol: whose card it is
	ACR        string // what approving on this road reaches at most
}

// Claim gives an order to the first phone that asks properly.
func (s *Service) Claim(ctx context.Context, r ClaimRequest) (*Claim, error) {
	if r.Source == "" && r.Token != "" {
		return s.resume(ctx, r)
	}
	o, source, age, err := s.locate(ctx, r)
	if o == nil {
		return nil, s.refuse(ctx, stray(r), err)
	}
	e := entry(audit.OrderScanned, o, r.From).By(audit.ActorBrowser, "").With(audit.KeySource, string(r.Source))
	if err != nil {
		return nil, s.refuse(ctx, e, err)
	}
	if claimed := s.reclaim(o, r.Token); claimed {
		return s.claimed(ctx, o, r.Token)
	}
	now := s.now()
	if state := o.StateAt(now); state != Created {
		if state == Scanned {
			e.Act = audit.OrderSecondScan
		}
		return nil, s.refuse(ctx, e, state.Fault())
	}
	view, err := newView(o)
	if err != nil {
		return nil, err
	}
	if !ACRSatisfies(bestACR(source), view.Asked.demanded().MinimumACR) {
		return nil, s.refuse(ctx, e, ErrRoadRefused)
	}
	token := make([]byte, 32)
	_, _ = rand.Read(token)
	hash := sha256.Sum256(token)
	c := Claiming{Order: o.ID, ClaimHash: hash[:], Source: source, Claimed: r.From, At: now, ExpiresAt: now.Add(s.cfg.PhoneStep),
		Audit: e.With(audit.KeySource, string(source)).WithInt(audit.KeyAgeSeconds, int(age/time.Second))}
	if needsCheck(o.Kind, source) {
		c.CheckDigits = randomDigits(2)
	}
	if source == SameDevice || source == Hybrid {
		c.BrowserHash = r.Browser.Hash()
	}
	after, err := s.cfg.Store.Claim(ctx, c)
	if err != nil {
		return nil, s.refuse(ctx, e, s.explain(ctx, o.ID, err))
	}
	s.Wake(o.ID)
	return s.claimed(ctx, after, base64.RawURLEncoding.EncodeToString(token))
}

// stray is the entry of a claim that leads to no order of ours.
func stray(r ClaimRequest) audit.Entry {
	e := audit.New(audit.OrderScanned).ByBrowser()
	if r.From.IP.IsValid() {
		e = e.From(r.From.IP)
	}
	if sources[r.Source] {
		e = e.With(audit.KeySource, string(r.Source))
	}
	return e
}

// sources are the roads that a phone may name.
var sources = map[Source]bool{Scanner: true, Link: true, Code: true, SameDevice: true, Hybrid: true}

// resume gives a claimed order again to the phone that holds its claim, after
// its page was loaded anew.
func (s *Service) resume(ctx context.Context, r ClaimRequest) (*Claim, error) {
	id, err := ParseID(r.Order)
	if err != nil {
		return nil, err
	}
	v, err := s.Held(ctx, id, r.Token)
	if err != nil {
		return nil, err
	}
	if state := v.StateAt(s.now()); state != Scanned {
		return nil, state.Fault()
	}
	return s.claimed(ctx, &v.Order, r.Token)
}

// locate finds the order that a claim means and judges the road it came by.
// The order is returned with the error where there is one to blame in the
// audit log.
func (s *Service) locate(ctx context.Context, r ClaimRequest) (*Order, Source, time.Duration, error) {
	switch r.Source {
	case Scanner, Link:
		f, err := ParseFrame(s.cfg.PublicOrigin, r.Frame)
		if err != nil {
			return nil, "", 0, err
		}
		o, err := s.cfg.Store.Find(ctx, f.Order)
		if err != nil {
			if fault.CodeOf(err) == ErrNotFound.Code {
				err = ErrFrameUnknown
			}
			return nil, "", 0, err
		}
		c, err := ParseContent(o.Content)
		if err != nil {
			return nil, "", 0, err
		}
		most := time.Duration(c.demanded().MaxFrameAge) * time.Second
		source, age, err := s.cfg.Frames.judge(o, f, r.Source, most, s.now())
		return o, source, age, err
	case Code:
		digits := strings.ReplaceAll(r.Code, " ", "")
		if len(digits) != 8 || strings.Trim(digits, "0123456789") != "" {
			return nil, "", 0, ErrCodeUnknown
		}
		o, err := s.cfg.Store.FindByCode(ctx, s.cfg.CodeMAC(digits), s.now())
		if err != nil {
			return nil, "", 0, err
		}
		return o, Code, 0, nil
	case SameDevice, Hybrid:
		id, err := ParseID(r.Order)
		if err != nil {
			return nil, "", 0, err
		}
		o, err := s.cfg.Store.Find(ctx, id)
		if err != nil {
			return nil, "", 0, err
		}
		if r.Browser == nil || !o.StartedBy(*r.Browser) {
			return o, r.Source, 0, ErrWrongBrowser
		}
		return o, r.Source, 0, nil
	}
	return nil, "", 0, ErrSource
}

// needsCheck says on which roads the computer must be given the two digits:
// those where a person may look at a picture that is not on the screen before
// them. Binding a phone over a QR code always needs it.
func needsCheck(kind Kind, source Source) bool {
	switch source {
	case SameDevice, Hybrid:
		return false
	case Scanner:
		return kind == Enrol
	}
	return true
}

// bestACR is the most that a road can reach; PHRH also needs attested hardware.
func bestACR(source Source) string {
	if source == SameDevice || source == Hybrid {
		return ACRPHRH
	}
	return ACRQR
}

// reachedACR is what an approval on a road by a credential reaches.
func reachedACR(source Source, attested bool) string {
	if source != SameDevice && source != Hybrid {
		return ACRQR
	}
	if attested {
		return ACRPHRH
	}
	return ACRPHR
}

// Holds says whether a token is the order's claim token.
func (o *Order) Holds(token string) bool {
	raw, ok := decodeToken(token)
	if !ok || len(o.ClaimHash) == 0 {
		return false
	}
	h := sha256.Sum256(raw)
	return subtle.ConstantTimeCompare(h[:], o.ClaimHash) == 1
}

// decodeToken reads 32 bytes in their one spelling. The standard decoder skips
// line ends, so the length is looked at first.
func decodeToken(token string) (raw []byte, ok bool) {
	if len(token) != base64.RawURLEncoding.EncodedLen(32) {
		return nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	return raw, err == nil && len(raw) == 32
}

// reclaim says whether this phone already holds the claim.
func (s *Service) reclaim(o *Order, token string) bool {
	return token != "" && o.StateAt(s.now()) == Scanned && o.Holds(token)
}

// claimed builds the phone's view.
func (s *Service) claimed(ctx context.Context, o *Order, token string) (*Claim, error) {
	view, err := newView(o)
	if err != nil {
		return nil, err
	}
	c := &Claim{View: *view, Token: token, ACR: reachedACR(o.ClaimSource, false)}
	if c.Options, c.MaskedName, err = s.firstOptions(ctx, o); err != nil {
		return nil, err
	}
	return c, nil
}

// firstOptions are the options with nothing left out: to make a passkey for an
// enrol order, else to use one.
func (s *Service) firstOptions(ctx context.Context, o *Order) (optionsJSON []byte, maskedName string, err error) {
	if o.Kind == Enrol {
		return s.cfg.EnrolOptions(ctx, o.ID.UUID(), o.Challenge(nil))
	}
	optionsJSON, err = s.options(o, nil)
	return optionsJSON, "", err
}

// options are the request options over an order; credentials are discoverable,
// so none are listed and the phone needs no session.
func (s *Service) options(o *Order, leftOut []int) ([]byte, error) {
	challenge := o.Challenge(leftOut)
	return s.cfg.RelyingParty.RequestOptions(challenge[:], nil)
}

// Held reads an order for the phone that holds its claim.
func (s *Service) Held(ctx context.Context, id ID, token string) (*View, error) {
	o, err := s.cfg.Store.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	if !o.Holds(token) {
		return nil, ErrWrongClaim
	}
	return newView(o)
}

// Options gives new options: after an answer got lost, or when the person
// leaves documents out.
func (s *Service) Options(ctx context.Context, id ID, token string, leftOut []int) ([]byte, error) {
	v, err := s.Held(ctx, id, token)
	if err != nil {
		return nil, err
	}
	if state := v.StateAt(s.now()); state != Scanned {
		return nil, state.Fault()
	}
	if v.Kind != Sign {
		if len(leftOut) > 0 {
			return nil, ErrLeftOut
		}
		options, _, err := s.firstOptions(ctx, &v.Order)
		return options, err
	}
	if err := checkLeftOut(leftOut, len(v.Asked.Documents)); err != nil {
		return nil, err
	}
	return s.options(&v.Order, leftOut)
}
