package citizen

import (
	"time"

	"sealgate/internal/fault"
	"sealgate/internal/i18n"
)

// ErrCooldown: a phone that another phone added is new, and may not do this
// yet. It carries the parameters until, as people in Taiwan write a time, and
// until_time, RFC 3339.
var ErrCooldown = fault.New(fault.Forbidden, "device_cooldown")

// CooldownFault is ErrCooldown with the time of its end.
func CooldownFault(until time.Time) error {
	return ErrCooldown.With("until", until.In(i18n.Taipei()).Format("2006-01-02 15:04")).With("until_time", until.UTC().Format(time.RFC3339))
}
