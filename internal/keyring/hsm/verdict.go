//go:build cgo

package hsm

import (
	"errors"
	"strings"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/thales-e-security/pool"

	"sealgate/internal/fault"
	"sealgate/internal/keyring"
)

// verdict says what an error means for the connection.
type verdict int

const (
	fine   verdict = iota
	final          // asking again gives the same answer
	busy           // the connection works; there is no room just now
	absent         // the key is not there, or the whole token is not
	stale          // the connection was closed by somebody else
	odd            // a failure without a reason: it may pass
	lost           // the connection does not work any more
)

var (
	errSlow   = errors.New("the token has not answered in time")
	errAbsent = errors.New("no such key in the token")
	// errVanished: a key that was there, which a token that is away looks like.
	errVanished = errors.New("a key is no longer in the token")
)

// judge reads an error. Modules differ in which code a lost token gives
// (CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT, CKR_SESSION_HANDLE_INVALID,
// CKR_GENERAL_ERROR…), so every code counts as a loss that is not known to
// be about the request.
func judge(err error) verdict {
	var code pkcs11.Error
	var f *fault.Error
	switch {
	case err == nil:
		return fine
	case errors.Is(err, errAbsent):
		return absent
	case errors.Is(err, errSlow), errors.Is(err, pool.ErrTimeout):
		return busy
	case errors.As(err, &f):
		return final
	case errors.As(err, &code):
		return judgeCode(code)
	case closedContext(err):
		return stale
	}
	return lost
}

func judgeCode(code pkcs11.Error) verdict {
	switch code {
	case pkcs11.CKR_SESSION_COUNT, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_HOST_MEMORY:
		return busy
	case pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DEVICE_ERROR:
		return odd // also what SoftHSM says when an object goes while another call looks at it
	}
	if refusal(code) {
		return final
	}
	return lost
}

// refusal lists the codes that are about what was asked (PKCS #11 §5.1).
func refusal(code pkcs11.Error) bool {
	switch code {
	case pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_ATTRIBUTE_READ_ONLY, pkcs11.CKR_ATTRIBUTE_SENSITIVE,
		pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_CURVE_NOT_SUPPORTED,
		pkcs11.CKR_DATA_INVALID, pkcs11.CKR_DATA_LEN_RANGE, pkcs11.CKR_DOMAIN_PARAMS_INVALID,
		pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_KEY_SIZE_RANGE,
		pkcs11.CKR_KEY_TYPE_INCONSISTENT, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID,
		pkcs11.CKR_TEMPLATE_INCOMPLETE, pkcs11.CKR_TEMPLATE_INCONSISTENT, pkcs11.CKR_TOKEN_WRITE_PROTECTED,
		pkcs11.CKR_ACTION_PROHIBITED:
		return true
	}
	return false
}

// closedContext knows what crypto11 says of a context that was closed; it has
// no error values for that.
func closedContext(err error) bool {
	text := err.Error()
	return strings.Contains(text, "context is closed") || strings.Contains(text, "closed Context") || errors.Is(err, pool.ErrClosed)
}

// pinRefused says that trying the same PIN again could lock the token.
func pinRefused(err error) bool {
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED,
		pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED:
		return true
	}
	return false
}

// refused turns a code that is about the request into a fault; other errors
// stay what they are.
func refused(err error) error {
	var code pkcs11.Error
	if errors.As(err, &code) && refusal(code) {
		return keyring.ErrTokenRefused.Because(err)
	}
	return err
}

func unavailable(why error, after time.Duration) error {
	e := keyring.ErrTokenUnavailable.Because(why)
	e.RetryAfter = after
	return e
}
