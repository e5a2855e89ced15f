package citizen

import (
	"strings"

	"sealgate/internal/fault"
)

// Why a device does not work although nobody stopped it: the citizen
// certificate behind it is no longer good. The next step is to bind again.
var (
	ErrCardRevoked = fault.New(fault.Forbidden, "card_revoked")
	ErrCardExpired = fault.New(fault.Forbidden, "card_expired")
	// ErrCardUnknown: nobody could say in time whether the card is still good.
	ErrCardUnknown = fault.New(fault.Unavailable, "card_status_unknown")
)

// ErrModel: the device was stopped because of its model (package passkey's
// reasons). Nobody can lift that from a phone; the next step is another phone.
var ErrModel = fault.New(fault.Forbidden, "device_model")

// StopFault gives the fault of a device that was suspended for a reason, and
// other where the reason has no fault of its own.
func StopFault(reason string, other error) error {
	switch reason {
	case ReasonCardRevoked:
		return ErrCardRevoked
	case ReasonCardExpired:
		return ErrCardExpired
	}
	if strings.HasPrefix(reason, "authenticator_") {
		return ErrModel
	}
	return other
}
