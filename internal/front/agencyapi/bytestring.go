package agencyapi

import "encoding/base64"

// byteString is bytes that JSON carries as base64url without padding.
type byteString []byte

// MarshalText makes JSON carry the text form.
func (b byteString) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}
