package oidc

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/order"
)

// An authorization code is base64url(order id ‖ seconds since 1970 ‖
// HMAC-SHA-256 of both): 16 + 8 + 32 bytes. It is not stored. Its life counts
// from when the browser got it, so a person who was slow to come back loses
// nothing, and a code that leaked from a log is soon dead.
const (
	codeSize   = 16 + 8 + sha256.Size
	codeLength = (codeSize*8 + 5) / 6
)

var b64 = base64.RawURLEncoding.Strict()

func (p *Provider) codeMAC(body []byte) []byte {
	m := hmac.New(sha256.New, p.codeKey)
	m.Write(body)
	return m.Sum(nil)
}

func (p *Provider) newCode(id uuid.UUID, now time.Time) string {
	body := make([]byte, 0, codeSize)
	body = append(body, id[:]...)
	body = binary.BigEndian.AppendUint64(body, uint64(now.Unix()))
	return b64.EncodeToString(append(body, p.codeMAC(body)...))
}

// parseCode finds the order behind a code: ErrGrantUnknown for what we never
// gave out, ErrCodeExpired.
func (p *Provider) parseCode(code string, now time.Time) (uuid.UUID, error) {
	if len(code) != codeLength {
		return uuid.Nil, ErrGrantUnknown
	}
	raw, err := b64.DecodeString(code)
	if err != nil || len(raw) != codeSize || !hmac.Equal(raw[24:], p.codeMAC(raw[:24])) {
		return uuid.Nil, ErrGrantUnknown
	}
	issued := time.Unix(int64(binary.BigEndian.Uint64(raw[16:24])), 0)
	if now.After(issued.Add(CodeLife)) {
		return uuid.UUID(raw[:16]), ErrCodeExpired
	}
	return uuid.UUID(raw[:16]), nil
}

// Return gives the address that takes the starting browser back to the client
// of a login order: with a code when the order is approved, with an error when
// it ended otherwise. It changes nothing and may be asked again until a code
// was redeemed. Faults of order.Service.View, ErrNotFinished while the phone is
// still at work, ErrReturned when the client has its answer already.
func (p *Provider) Return(ctx context.Context, id order.ID, browser order.BrowserKey) (string, error) {
	view, err := p.cfg.Orders.View(ctx, id, browser)
	if err != nil {
		return "", err
	}
	if view.Kind != order.Login {
		return "", order.ErrKind
	}
	var request Request
	if err := json.Unmarshal(view.Request, &request); err != nil {
		return "", fmt.Errorf("request of order %s: %w", id, err)
	}
	now := p.now()
	failed := func(code, description string) (string, error) {
		return p.redirectError(request.RedirectURI, request.State, told(code, description)), nil
	}
	switch view.StateAt(now) {
	case order.Approved:
		if now.After(view.ApprovedAt.Add(ReturnWindow)) {
			return failed(errAccessDenied, "the login was approved but the browser came back too late")
		}
		answer := url.Values{"code": {p.newCode(id.UUID(), now)}}
		if request.State != "" {
			answer.Set("state", request.State)
		}
		return p.redirectWith(request.RedirectURI, answer), nil
	case order.Rejected:
		return failed(errAccessDenied, "the person rejected the login")
	case order.Cancelled:
		return failed(errAccessDenied, "the login was cancelled")
	case order.Expired:
		return failed(errAccessDenied, "the login ran out of time")
	case order.Failed:
		return failed(errServer, "the login could not be completed")
	case order.Completed:
		return "", ErrReturned
	}
	return "", ErrNotFinished
}
