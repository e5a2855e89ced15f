package passkey

import (
	"encoding/binary"
	"errors"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"

	"sealgate/internal/fault"
)

// Flags of authenticator data (WebAuthn Level 3 §6.1).
const (
	flagUserPresent    = 0x01
	flagUserVerified   = 0x04
	flagBackupEligible = 0x08
	flagBackupState    = 0x10
	flagAttested       = 0x40
	flagExtensions     = 0x80
)

// maxAuthData bounds authenticator data: a credential id of 1023 bytes, an RSA
// key, and extension outputs.
const maxAuthData = 4 << 10

// authData is authenticator data. The slices point into the bytes it was read from.
type authData struct {
	rpIDHash  []byte
	flags     byte
	signCount uint32
	// Only with flagAttested:
	aaguid       uuid.UUID
	credentialID []byte
	publicKey    []byte // COSE_Key as sent
	key          publicKey
}

// extensionDecoding checks the form of extension outputs; the values are ignored.
var extensionDecoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 8, MaxMapPairs: 64, MaxArrayElements: 64,
	}.DecMode()
	if err != nil {
		panic(err) // the options above are constant
	}
	return mode
}()

// parseAuthData reads authenticator data to its last byte. attested says whether
// attested credential data must be there (registration) or must not (assertion).
// A credential key that cannot be used gives ErrKeyUnsupported.
func parseAuthData(raw []byte, attested bool) (authData, error) {
	var d authData
	if len(raw) < 37 || len(raw) > maxAuthData {
		return d, ErrMalformed.Because(errors.New("authenticator data has an impossible length"))
	}
	d.rpIDHash, d.flags, d.signCount = raw[:32], raw[32], binary.BigEndian.Uint32(raw[33:37])
	rest := raw[37:]
	if (d.flags&flagAttested != 0) != attested {
		return d, ErrMalformed.Because(errors.New("attested credential data is missing or out of place"))
	}
	if d.flags&flagBackupState != 0 && d.flags&flagBackupEligible == 0 {
		return d, ErrMalformed.Because(errors.New("backed up, but not eligible for backup"))
	}
	if attested {
		var err error
		if rest, err = d.parseAttested(rest); err != nil {
			return d, err
		}
	}
	if d.flags&flagExtensions != 0 {
		var outputs map[string]any
		var err error
		if rest, err = extensionDecoding.UnmarshalFirst(rest, &outputs); err != nil {
			return d, ErrMalformed.Because(errors.New("extension outputs are not a CBOR map"))
		}
	}
	if len(rest) != 0 {
		return d, ErrMalformed.Because(errors.New("authenticator data has bytes left over"))
	}
	return d, nil
}

func (d *authData) parseAttested(b []byte) (rest []byte, err error) {
	if len(b) < 18 {
		return nil, ErrMalformed.Because(errors.New("attested credential data is cut off"))
	}
	copy(d.aaguid[:], b[:16])
	n := int(binary.BigEndian.Uint16(b[16:18]))
	if n == 0 || n > MaxCredentialID || len(b) < 18+n {
		return nil, ErrMalformed.Because(errors.New("credential id has an impossible length"))
	}
	d.credentialID = b[18 : 18+n]
	b = b[18+n:]
	key, size, err := parseKey(b)
	if err != nil {
		return nil, ErrKeyUnsupported.Because(err)
	}
	d.key, d.publicKey = key, b[:size]
	return b[size:], nil
}

// check holds the rules that have no switch: right relying party, user present,
// user verified (§7.1 steps 13 to 16, §7.2 steps 16 to 18).
func (d authData) check(rpIDHash [32]byte) *fault.Error {
	if string(d.rpIDHash) != string(rpIDHash[:]) {
		return ErrRPID.Because(errors.New("signed for another RP ID"))
	}
	if d.flags&flagUserPresent == 0 {
		return ErrUserPresence.Because(errors.New("UP is not set"))
	}
	if d.flags&flagUserVerified == 0 {
		return ErrUserVerification.Because(errors.New("UV is not set"))
	}
	return nil
}
