package passkey

import (
	"encoding/base64"
	"errors"
	"fmt"
)

// credentialJSON is what RegistrationResponseJSON and AuthenticationResponseJSON
// share (WebAuthn Level 3 §5.1.8), already decoded. Members that are not used
// here are checked for form and dropped.
type credentialJSON struct {
	id                []byte
	clientDataJSON    []byte
	authenticatorData []byte
	signature         []byte
	userHandle        []byte
	attestationObject []byte
	transports        []string
	attachment        string // as the browser says; "" when it does not
}

var (
	credentialNames = []string{"id", "rawId", "type", "response", "authenticatorAttachment", "clientExtensionResults"}
	responseNames   = []string{
		"clientDataJSON", "authenticatorData", "signature", "userHandle", "attestationObject",
		"transports", "publicKey", "publicKeyAlgorithm",
	}
)

// strictBase64 refuses padding and non-zero trailing bits.
var strictBase64 = base64.RawURLEncoding.Strict()

// parseCredential reads the JSON that PublicKeyCredential.toJSON() gives.
func parseCredential(data []byte) (c credentialJSON, err error) {
	if len(data) > MaxResponse {
		return c, ErrTooLarge.Because(errors.New("response is too large"))
	}
	r := jsonReader{data: data}
	// One buffer for all decoded members: base64 text is longer than its bytes.
	buf := make([]byte, 0, len(data)*3/4)
	var rawID, typ []byte
	err = r.object(1, credentialNames, func(name []byte) (err error) {
		switch string(name) {
		case "id":
			c.id, buf, err = r.base64(buf)
		case "rawId":
			rawID, buf, err = r.base64(buf)
		case "type":
			typ, err = r.str()
		case "response":
			buf, err = c.parseResponse(&r, buf)
		case "authenticatorAttachment":
			if r.peek() == 'n' {
				return r.literal("null")
			}
			var told []byte
			if told, err = r.str(); string(told) == "platform" || string(told) == "cross-platform" {
				c.attachment = string(told) // other words may come one day and say nothing to us
			}
		case "clientExtensionResults":
			// Unsolicited outputs are ignored (§7.1 step 18, §7.2 step 20).
			if r.peek() != '{' {
				return errJSON
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
	switch {
	case err != nil:
	case string(typ) != "public-key":
		err = errors.New("type is not public-key")
	case len(c.id) == 0 || len(c.id) > MaxCredentialID:
		err = errors.New("credential id has an impossible length")
	case string(c.id) != string(rawID):
		err = errors.New("id is not rawId")
	case c.clientDataJSON == nil:
		err = errors.New("clientDataJSON is missing")
	case len(c.userHandle) > MaxUserHandle:
		err = errors.New("user handle is too long")
	}
	if err != nil {
		return c, ErrMalformed.Because(err)
	}
	return c, nil
}

func (c *credentialJSON) parseResponse(r *jsonReader, buf []byte) ([]byte, error) {
	err := r.object(2, responseNames, func(name []byte) (err error) {
		switch string(name) {
		case "clientDataJSON":
			c.clientDataJSON, buf, err = r.base64(buf)
		case "authenticatorData":
			c.authenticatorData, buf, err = r.base64(buf)
		case "signature":
			c.signature, buf, err = r.base64(buf)
		case "userHandle":
			if r.peek() == 'n' {
				return r.literal("null")
			}
			c.userHandle, buf, err = r.base64(buf)
		case "attestationObject":
			c.attestationObject, buf, err = r.base64(buf)
		case "transports":
			err = r.array(3, func() error {
				s, err := r.str()
				if err == nil && (len(s) > 32 || len(c.transports) == 8) {
					err = errors.New("too many or too long transports")
				}
				c.transports = append(c.transports, string(s))
				return err
			})
		default:
			err = r.skip(3)
		}
		return err
	})
	return buf, err
}

// base64 reads a string of unpadded base64url and appends its bytes to buf. The
// standard decoder skips line ends, so they are refused first.
func (r *jsonReader) base64(buf []byte) (value, rest []byte, err error) {
	s, err := r.str()
	if err != nil {
		return nil, buf, err
	}
	for _, c := range s {
		if c == '\r' || c == '\n' {
			return nil, buf, errors.New("base64url has line ends")
		}
	}
	start := len(buf)
	buf, err = strictBase64.AppendDecode(buf, s)
	if err != nil {
		return nil, buf, fmt.Errorf("base64url: %w", err)
	}
	return buf[start:len(buf):len(buf)], buf, nil
}
