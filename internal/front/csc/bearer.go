package csc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/front"
	"sealgate/internal/oidc"
)

func encodeStandard(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }

// caller is the client and the citizen behind a bearer token.
type caller struct {
	client *agency.Client
	token  *Token
}

// entry begins an audit entry about a call.
func (c caller) entry(act audit.Act) audit.Entry {
	e := audit.New(act)
	if c.client != nil {
		e = e.ByClient(c.client.ID, c.client.ClientID)
	}
	if c.token != nil {
		e = e.Order(c.token.Order).Citizen(c.token.Citizen).Device(c.token.Device)
	}
	return e
}

// input is a request's JSON object. Members that a method does not know are left
// aside: the API grows by such.
type input map[string]json.RawMessage

// forBearer lets a call pass only with a good token of a client that may be used.
func (d *Door) forBearer(next func(*http.Request, caller, input) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := d.bearer(r)
		if err != nil {
			d.fail(w, r, c.entry(audit.ClientRefused), err)
			return
		}
		in, err := readInput(r, true)
		if err != nil {
			d.fail(w, r, c.entry(audit.ClientRefused), err)
			return
		}
		answer, err := next(r, c, in)
		if err != nil {
			d.fail(w, r, c.entry(audit.ClientRefused), err)
			return
		}
		front.WriteJSON(w, http.StatusOK, answer)
	}
}

// bearer finds the token of the header (RFC 6750 §2.1).
func (d *Door) bearer(r *http.Request) (caller, error) {
	header := r.Header.Values("Authorization")
	if len(header) == 0 {
		return caller{}, errTokenMissing
	}
	scheme, token, ok := strings.Cut(header[0], " ")
	if len(header) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || strings.Contains(token, " ") {
		return caller{}, errHeader
	}
	t, err := d.live(r.Context(), token)
	if err != nil {
		return caller{token: t}, err
	}
	client, err := d.cfg.Agencies.ByID(r.Context(), t.Client)
	if err != nil {
		return caller{token: t}, err
	}
	// The token may be older than the client's suspension or loss of the right.
	if client.Usable() != nil || !mayUse(client) {
		return caller{client, t}, errClient
	}
	return caller{client, t}, nil
}

// live finds a token that still opens something. With a refusal it gives the
// token too, where there is one.
func (d *Door) live(ctx context.Context, token string) (*Token, error) {
	id, err := d.parseToken(token)
	if err != nil {
		return nil, errToken
	}
	t, err := d.cfg.Store.Token(ctx, id)
	switch {
	case errors.Is(err, oidc.ErrTokenUnknown):
		return nil, errToken
	case err != nil:
		return nil, err
	case t.Revoked, !now().Before(t.ExpiresAt), !t.Active:
		return t, errTokenExpired
	}
	return t, nil
}

// maxInput bounds a JSON body; the hashes of a whole batch fit.
const maxInput = 512 << 10

// readInput reads the JSON object of a request. Where it need not be there, an
// empty body is an empty object.
func readInput(r *http.Request, needed bool) (input, error) {
	if !needed && r.ContentLength == 0 {
		return input{}, nil
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		_, _ = io.CopyN(io.Discard, r.Body, maxInput)
		return nil, errBody
	}
	body, err := front.ReadBody(r, maxInput)
	if fault.From(err).Kind == fault.TooLarge {
		return nil, errBodyTooLarge
	}
	var in input
	if err != nil || parse(body, &in) != nil {
		return nil, errBody
	}
	return in, nil
}

// parse reads one JSON object.
func parse(body []byte, in *input) error {
	if err := front.ParseJSON(body, in); err != nil {
		return err
	}
	if *in == nil {
		return errBody // the value null
	}
	return nil
}

// has says whether a member is there; null is as good as none (§7.1).
func (in input) has(name string) bool {
	raw, ok := in[name]
	return ok && string(raw) != "null"
}

// text reads an optional string.
func (in input) text(name string) (string, error) {
	var s string
	if in.has(name) && json.Unmarshal(in[name], &s) != nil {
		return "", missing("string", name)
	}
	return s, nil
}

// needed reads a string that must be there.
func (in input) needed(name string) (string, error) {
	s, err := in.text(name)
	if err == nil && s == "" {
		err = missing("string", name)
	}
	return s, err
}

// flag reads an optional boolean, false where it is not there.
func (in input) flag(name string) (bool, error) {
	var b bool
	if in.has(name) && json.Unmarshal(in[name], &b) != nil {
		return false, missing("boolean", name)
	}
	return b, nil
}

// id reads a credentialID of a client.
func (d *Door) id(in input, c *agency.Client) (uuid.UUID, error) {
	text, err := in.needed("credentialID")
	if err != nil {
		return uuid.Nil, err
	}
	id, err := d.parseCredentialID(c, text)
	if err != nil {
		return uuid.Nil, errCredential
	}
	return id, nil
}
