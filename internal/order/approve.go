package order

import (
	"bytes"
	"context"
	"errors"
	"time"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/fault"
	"sealgate/internal/passkey"
)

// ApproveRequest is a phone's assertion over an order.
type ApproveRequest struct {
	Order     ID
	Token     string
	Assertion []byte // the JSON of PublicKeyCredential.toJSON()
	LeftOut   []int  // documents the person left out, rising indexes
	From      Origin
}

// Outcome is what the phone is told after approving.
type Outcome struct {
	View
	DeviceName string
}

// Approve checks the assertion over the order's content and, in one
// transaction, moves the order on and keeps the evidence. The challenge is
// consumed by that transaction: a second assertion finds the order approved.
func (s *Service) Approve(ctx context.Context, r ApproveRequest) (*Outcome, error) {
	assertion, err := passkey.ParseAssertion(r.Assertion)
	if err != nil {
		return nil, s.refuseUnread(ctx, r, err)
	}
	out, err := s.approve(ctx, r, assertion)
	if err == errDeviceMoved {
		// Another use of the same phone came between reading and writing. What it
		// left is judged once more; a device that was stopped is seen then.
		out, err = s.approve(ctx, r, assertion)
	}
	if err == errDeviceMoved {
		err = fault.Wrap(fault.Unavailable, "internal", err)
	}
	return out, err
}

// errDeviceMoved says that the device's row changed between reading and writing.
var errDeviceMoved = errors.New("the device was used or stopped meanwhile")

// approve is one try of Approve.
func (s *Service) approve(ctx context.Context, r ApproveRequest, assertion *passkey.Assertion) (*Outcome, error) {
	o, device, err := s.cfg.Store.ForApproval(ctx, r.Order, assertion.CredentialID, s.now())
	if err != nil {
		return nil, err
	}
	e := entry(audit.OrderApproved, o, r.From)
	if device != nil {
		e = e.ByCitizen(device.CitizenID).Device(device.ID)
	}
	a, err := s.judge(ctx, o, device, assertion, r)
	if err != nil {
		return nil, s.refuse(ctx, e, err)
	}
	a.Audit = e.With(audit.KeySource, string(o.ClaimSource)).With(audit.KeyACR, a.ACR)
	if o.Kind == Sign {
		a.Audit = a.Audit.WithInt(audit.KeyLeftOut, len(a.LeftOut))
	}
	for i, e := range a.Allowed {
		e = e.ByCitizen(device.CitizenID).Device(device.ID).Order(o.ID.UUID()).Client(o.ClientID)
		if r.From.IP.IsValid() {
			e = e.From(r.From.IP)
		}
		a.Allowed[i] = e
	}
	if err := s.cfg.Store.Approve(ctx, *a); errors.Is(err, ErrDeviceStopped) {
		return nil, errDeviceMoved
	} else if err != nil {
		return nil, s.refuse(ctx, e, s.explain(ctx, r.Order, err))
	}
	s.Wake(r.Order)
	if o.Kind == Sign {
		s.cfg.Finish(o.ID.UUID())
	}
	o.State, o.ApprovedAt, o.ACR = Approved, &a.At, a.ACR
	view, err := newView(o)
	if err != nil {
		return nil, err
	}
	return &Outcome{View: *view, DeviceName: device.Name}, nil
}

// refuseUnread records an assertion that could not even be read, where the
// order exists.
func (s *Service) refuseUnread(ctx context.Context, r ApproveRequest, err error) error {
	o, findErr := s.cfg.Store.Find(ctx, r.Order)
	if findErr != nil {
		return findErr
	}
	return s.refuse(ctx, entry(audit.OrderApproved, o, r.From), err)
}

// judge holds every rule between an assertion and an approval.
func (s *Service) judge(ctx context.Context, o *Order, d *Device, assertion *passkey.Assertion, r ApproveRequest) (*Approval, error) {
	now := s.now()
	if !o.Holds(r.Token) {
		return nil, ErrWrongClaim
	}
	if state := o.StateAt(now); state != Scanned {
		return nil, state.Fault()
	}
	content, err := ParseContent(o.Content)
	if err != nil {
		return nil, err
	}
	switch {
	case o.Kind == Enrol:
		return nil, ErrKind
	case o.CheckNeeded():
		return nil, ErrCheckNeeded
	case d == nil:
		return nil, ErrDeviceUnknown
	case !d.CitizenActive:
		return nil, ErrCitizenFrozen
	case !d.Active:
		return nil, d.Stopped()
	case !bytes.Equal(assertion.UserHandle, d.UserHandle):
		return nil, ErrDeviceUnknown
	case o.meant(d) != nil:
		return nil, o.meant(d)
	case o.Kind == Login && len(r.LeftOut) > 0:
		return nil, ErrLeftOut
	}
	if o.Kind == Sign {
		if err := checkLeftOut(r.LeftOut, len(content.Documents)); err != nil {
			return nil, err
		}
	}
	if o.Kind == Sign && d.CooldownUntil != nil && now.Before(*d.CooldownUntil) {
		return nil, citizen.CooldownFault(*d.CooldownUntil)
	}
	challenge := o.Challenge(r.LeftOut)
	verified, err := s.cfg.RelyingParty.Verify(assertion, d.Credential, challenge[:])
	if err != nil {
		return nil, s.stopCloned(ctx, o, d, assertion, r.From, err)
	}
	acr, err := s.reached(o, d, content.demanded(), now)
	if err != nil {
		return nil, err
	}
	var allowed []audit.Entry
	if s.cfg.Card != nil {
		if allowed, err = s.cfg.Card(ctx, d.Card.ID, d.Card.CheckedAt, d.Card.NotAfter, o.Kind == Sign); err != nil {
			return nil, err
		}
	}
	auth, err := authorization(o, d, r.LeftOut)
	if err != nil {
		return nil, err
	}
	return &Approval{Order: o.ID, ClaimHash: o.ClaimHash, Device: *d, Assertion: assertion, Verified: verified, Content: o.Content,
		LeftOut: r.LeftOut, RPID: s.cfg.RPID, ACR: acr, At: now, Authorization: auth, Allowed: allowed}, nil
}

// meant says whether a device is one that the order is for. One that has no
// certificate yet is refused for that.
func (o *Order) meant(d *Device) error {
	switch {
	case o.SubjectCitizenID != nil && *o.SubjectCitizenID != d.CitizenID:
		return ErrWrongCitizen
	case o.SubjectCertificateID != nil && d.Certificate != nil && *o.SubjectCertificateID != d.Certificate.ID:
		return ErrWrongDevice
	}
	return nil
}

// reached is the acr of an approval by this device; a fault where the client
// does not accept it. A passkey that is copied between devices is never
// hardware-bound, and counts for less, or not at all, where the deployment or
// the client says so: the stricter of the two.
func (s *Service) reached(o *Order, d *Device, least demand, now time.Time) (string, error) {
	synced := d.Credential.BackupEligible
	acr := reachedACR(o.ClaimSource, d.Credential.Attested && !synced)
	if d.CooldownUntil != nil && now.Before(*d.CooldownUntil) {
		acr = ACRQR // added from another phone only just now
	}
	rule := s.cfg.SyncedPasskeys.Stricter(least.SyncedPasskeys)
	if synced && rule == passkey.SyncedRefused {
		return "", ErrSyncedPasskey
	}
	if ACRSatisfies(acr, least.MinimumACR) && synced && rule == passkey.SyncedLowerACR {
		if !ACRSatisfies(ACRQR, least.MinimumACR) {
			return "", ErrSyncedPasskey // another road would not help, another passkey does
		}
		return ACRQR, nil
	}
	if !ACRSatisfies(acr, least.MinimumACR) {
		return "", ErrRoadRefused
	}
	return acr, nil
}

// stopCloned suspends a device whose signature counter went back: there may be
// two copies of its key (WebAuthn Level 3 §6.1.1). An answer that its own phone
// overtook is refused and no more. Other faults pass through.
func (s *Service) stopCloned(ctx context.Context, o *Order, d *Device, a *passkey.Assertion, from Origin, err error) error {
	if !errors.Is(err, passkey.ErrCounter) {
		return err
	}
	// The same answer may have come twice, and the other one just moved the
	// counter: then the order says so, and nothing was copied.
	now, findErr := s.cfg.Store.Find(ctx, o.ID)
	if findErr != nil {
		return findErr
	}
	if state := now.StateAt(s.now()); state != Scanned {
		return state.Fault()
	}
	// Nobody learns the challenge before the order was claimed.
	if o.ScannedAt != nil && a.Overtaken(d.Credential.SignCount, *o.ScannedAt, d.LastUsedAt) {
		return passkey.ErrOvertaken.Because(err)
	}
	e := entry(audit.DeviceSuspended, o, from).Citizen(d.CitizenID).Device(d.ID).With(audit.KeyReason, "counter")
	if suspendErr := s.cfg.Suspend(ctx, d.ID, "counter", e); suspendErr != nil {
		return fault.Wrap(fault.Unavailable, "internal", errors.Join(err, suspendErr))
	}
	return ErrDeviceCounter.Because(err)
}

// RejectRequest is a person's no.
type RejectRequest struct {
	Order  ID
	Token  string
	Reason string // not_me, changed_mind, fraud
	From   Origin
}

// rejectReasons are the words a phone may give.
var rejectReasons = map[string]bool{"not_me": true, "changed_mind": true, "fraud": true}

// Reject ends an order from the phone that holds its claim. Nothing is released.
func (s *Service) Reject(ctx context.Context, r RejectRequest) error {
	o, err := s.cfg.Store.Find(ctx, r.Order)
	if err != nil {
		return err
	}
	reason := r.Reason
	if !rejectReasons[reason] {
		reason = "changed_mind"
	}
	e := entry(audit.OrderRejected, o, r.From).By(audit.ActorCitizen, "").With(audit.KeyReason, reason)
	if !o.Holds(r.Token) {
		return s.refuse(ctx, e, ErrWrongClaim)
	}
	if reason == "fraud" && o.State == Rejected && o.EndReason != reason {
		// The person refused first and reports a fraud now: that is worth an entry of its own.
		return s.cfg.Store.Refused(ctx, e)
	}
	return s.end(ctx, o, Ending{Order: o.ID, To: Rejected, Reason: reason, ClaimHash: o.ClaimHash, Audit: e})
}
