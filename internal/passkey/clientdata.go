package passkey

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"slices"

	"sealgate/internal/fault"
)

// Types of client data (WebAuthn Level 3 §5.8.1).
const (
	typeCreate = "webauthn.create"
	typeGet    = "webauthn.get"
)

// maxClientData bounds clientDataJSON; real ones are under 300 bytes.
const maxClientData = 4 << 10

// clientData is CollectedClientData (WebAuthn Level 3 §5.8.1). The slices point
// into the JSON it was read from.
type clientData struct {
	typ, challenge, origin, topOrigin []byte
	crossOrigin                       bool
}

var clientDataNames = []string{"type", "challenge", "origin", "crossOrigin", "topOrigin", "tokenBinding"}

// parseClientData reads clientDataJSON. A byte order mark is dropped first, as
// "UTF-8 decode" does (§7.1 step 5, §7.2 step 10); signatures and hashes are
// over the original bytes. Other members may be there and are only checked for form.
func parseClientData(raw []byte) (clientData, error) {
	var d clientData
	if len(raw) > maxClientData {
		return d, errors.New("clientDataJSON is too large")
	}
	r := jsonReader{data: bytes.TrimPrefix(raw, []byte("\xEF\xBB\xBF"))}
	err := r.object(1, clientDataNames, func(name []byte) (err error) {
		switch string(name) {
		case "type":
			d.typ, err = r.str()
		case "challenge":
			d.challenge, err = r.str()
		case "origin":
			d.origin, err = r.str()
		case "topOrigin":
			d.topOrigin, err = r.str()
			if err == nil && len(d.topOrigin) == 0 {
				err = errors.New("topOrigin is empty")
			}
		case "crossOrigin":
			d.crossOrigin, err = r.boolean()
		case "tokenBinding":
			// Level 2 only. Its content has no meaning any more; its form is checked.
			if r.peek() != '{' {
				return errors.New("tokenBinding is not an object")
			}
			err = r.skip(2)
		default:
			err = r.skip(2)
		}
		return err
	})
	if err == nil {
		err = r.end()
	}
	if err == nil && (d.typ == nil || d.challenge == nil || d.origin == nil) {
		err = errors.New("clientDataJSON lacks type, challenge or origin")
	}
	return d, err
}

// originRules are what a ceremony's page may be.
type originRules struct {
	origins, topOrigins []string
	allowCross          bool
}

// check compares client data with what was asked (§7.1 steps 7 to 11, §7.2 steps
// 11 to 15). Origins are compared as strings: the browser serialises them, so
// another spelling was not made by a browser.
func (d clientData) check(typ string, challenge []byte, rules originRules) *fault.Error {
	if string(d.typ) != typ {
		return ErrMalformed.Because(errors.New("client data is of another ceremony type"))
	}
	var want [128]byte
	expected := base64.RawURLEncoding.AppendEncode(want[:0], challenge)
	if subtle.ConstantTimeCompare(d.challenge, expected) != 1 {
		return ErrChallenge.Because(errors.New("the challenge is not the one asked"))
	}
	if !slices.Contains(rules.origins, string(d.origin)) {
		return ErrOrigin.Because(errors.New("the origin is not configured"))
	}
	if d.topOrigin != nil && !d.crossOrigin {
		return ErrOrigin.Because(errors.New("topOrigin without crossOrigin"))
	}
	if d.crossOrigin && !rules.allowCross {
		return ErrOrigin.Because(errors.New("made in a frame of another origin"))
	}
	if d.topOrigin != nil && !slices.Contains(rules.topOrigins, string(d.topOrigin)) {
		return ErrOrigin.Because(errors.New("the framing origin is not configured"))
	}
	return nil
}
