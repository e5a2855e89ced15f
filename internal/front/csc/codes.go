package csc

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/i18n"
	"sealgate/internal/oidc"
	"sealgate/internal/order"
)

var b64 = base64.RawURLEncoding.Strict()

func encodeDigest(raw []byte) string { return b64.EncodeToString(raw) }

// documentName is the name of a document that the client gave none.
func documentName(lang string, n int) string {
	if l, ok := i18n.Match(lang); ok && l == i18n.En {
		return "Document " + strconv.Itoa(n)
	}
	return "文件 " + strconv.Itoa(n)
}

func mac(key, body []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(body)
	return m.Sum(nil)
}

// An authorization code is base64url(order id ‖ seconds since 1970 ‖
// HMAC-SHA-256 of both): 16 + 8 + 32 bytes, as those of the OpenID Provider are,
// under a key of its own.
const (
	codeSize   = 16 + 8 + sha256.Size
	codeLength = (codeSize*8 + 5) / 6
)

func (d *Door) newCode(id uuid.UUID, at time.Time) string {
	body := binary.BigEndian.AppendUint64(append(make([]byte, 0, codeSize), id[:]...), uint64(at.Unix()))
	return b64.EncodeToString(append(body, mac(d.codeKey, body)...))
}

// parseCode finds the order behind a code: oidc.ErrGrantUnknown for what we never
// gave out, oidc.ErrCodeExpired.
func (d *Door) parseCode(code string, at time.Time) (uuid.UUID, error) {
	if len(code) != codeLength {
		return uuid.Nil, oidc.ErrGrantUnknown
	}
	raw, err := b64.DecodeString(code)
	if err != nil || len(raw) != codeSize || !hmac.Equal(raw[24:], mac(d.codeKey, raw[:24])) {
		return uuid.Nil, oidc.ErrGrantUnknown
	}
	if at.After(time.Unix(int64(binary.BigEndian.Uint64(raw[16:24])), 0).Add(CodeLife)) {
		return uuid.UUID(raw[:16]), oidc.ErrCodeExpired
	}
	return uuid.UUID(raw[:16]), nil
}

// An access token is "csc_" and base64url(order id ‖ truncated HMAC): a guess
// never reaches the database, and no token of the OpenID Provider is taken for one.
const (
	tokenPrefix = "csc_"
	tokenSize   = 16 + 16
	tokenLength = len(tokenPrefix) + (tokenSize*8+5)/6
)

func (d *Door) tokenString(id uuid.UUID) string {
	return tokenPrefix + b64.EncodeToString(append(id[:], mac(d.tokenKey, id[:])[:16]...))
}

func (d *Door) parseToken(token string) (uuid.UUID, error) {
	text, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok || len(token) != tokenLength {
		return uuid.Nil, oidc.ErrTokenUnknown
	}
	raw, err := b64.DecodeString(text)
	if err != nil || len(raw) != tokenSize || !hmac.Equal(raw[16:], mac(d.tokenKey, raw[:16])[:16]) {
		return uuid.Nil, oidc.ErrTokenUnknown
	}
	return uuid.UUID(raw[:16]), nil
}

// Mine says whether this door made an order, and so knows its way back.
func Mine(o *order.Order) bool {
	var r Request
	return json.Unmarshal(o.Request, &r) == nil && r.Door == DoorName
}

// Return gives the address that takes the starting browser back to the client: with
// a code when there is something to redeem, with an error when the order ended
// otherwise. It changes nothing and may be asked again until a code was redeemed.
// Faults of order.Service.View, oidc.ErrNotFinished, oidc.ErrReturned.
func (d *Door) Return(ctx context.Context, id order.ID, browser order.BrowserKey) (string, error) {
	view, err := d.cfg.Orders.View(ctx, id, browser)
	if err != nil {
		return "", err
	}
	var request Request
	if err := json.Unmarshal(view.Request, &request); err != nil || request.Door != DoorName {
		return "", order.ErrKind
	}
	at := now()
	denied := func(why string) (string, error) {
		return d.redirectError(request.RedirectURI, request.State, "access_denied", why), nil
	}
	ready, since := view.StateAt(at) == order.Approved, view.ApprovedAt
	if request.Scope == ScopeCredential {
		ready, since = view.StateAt(at) == order.Completed, view.CompletedAt
	}
	switch state := view.StateAt(at); {
	case ready && at.After(since.Add(ReturnWindow)):
		return denied("it was approved but the browser came back too late")
	case ready && request.Scope == ScopeCredential:
		// The order stays completed, so the token says whether the answer was fetched.
		g, err := d.cfg.Store.Grant(ctx, id.UUID())
		if err != nil {
			return "", err
		}
		if g.Redeemed {
			return "", oidc.ErrReturned
		}
		return d.redirectCode(&request, id.UUID(), at), nil
	case ready:
		return d.redirectCode(&request, id.UUID(), at), nil
	case state == order.Completed:
		return "", oidc.ErrReturned
	case state == order.Rejected:
		return denied("the person refused")
	case state == order.Cancelled:
		return denied("it was cancelled")
	case state == order.Expired:
		return denied("it ran out of time")
	case state == order.Failed:
		return d.redirectError(request.RedirectURI, request.State, "server_error", "it could not be completed"), nil
	}
	return "", oidc.ErrNotFinished
}

func (d *Door) redirectCode(r *Request, id uuid.UUID, at time.Time) string {
	answer := url.Values{"code": {d.newCode(id, at)}}
	if r.State != "" {
		answer.Set("state", r.State)
	}
	return d.redirectWith(r.RedirectURI, answer)
}

func (d *Door) redirectError(redirectURI, state, code, description string) string {
	answer := url.Values{"error": {code}, "error_description": {description}}
	if state != "" {
		answer.Set("state", state)
	}
	return d.redirectWith(redirectURI, answer)
}

// redirectWith adds an answer to a registered redirect URI, which may have a
// query of its own, with the issuer as RFC 9207 wants.
func (d *Door) redirectWith(redirectURI string, answer url.Values) string {
	answer.Set("iss", d.cfg.PublicOrigin)
	separator := "?"
	if strings.Contains(redirectURI, "?") {
		separator = "&"
	}
	return redirectURI + separator + answer.Encode()
}

// request reads what an order of this door keeps.
func (g *Grant) request() (*Request, error) {
	var r Request
	if err := json.Unmarshal(g.Request, &r); err != nil || r.Door != DoorName {
		return nil, fmt.Errorf("request of order %s is not this door's: %w", g.Order, err)
	}
	return &r, nil
}
