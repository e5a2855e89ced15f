package citizen

import (
	"time"

	"sealgate/internal/fault"
)

// ErrCooldown: a phone that another phone added is new, and may not do this
// yet. It carries the parameter until, RFC 3339; who shows it to people writes it
// as their language does.
var ErrCooldown = fault.New(fault.Forbidden, "device_cooldown")

// CooldownFault is ErrCooldown with the time of its end.
func CooldownFault(until time.Time) error {
	return ErrCooldown.With("until", until.UTC().Format(time.RFC3339))
}
