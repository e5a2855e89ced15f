package agency

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"sealgate/internal/audit"
)

// Policy is what an operator changes about a client's demands; nil leaves a
// member as it is.
type Policy struct {
	SyncedPasskeys *string // inherit, allowed, lower_acr, refused
	MinimumACR     *string // "" for any
	RequireSubject *bool
}

// String names what changes, for the audit log.
func (p Policy) String() string {
	var parts []string
	if p.SyncedPasskeys != nil {
		parts = append(parts, "synced_passkeys="+*p.SyncedPasskeys)
	}
	if p.MinimumACR != nil {
		parts = append(parts, "minimum_acr="+*p.MinimumACR)
	}
	if p.RequireSubject != nil {
		parts = append(parts, "require_subject="+strconv.FormatBool(*p.RequireSubject))
	}
	return strings.Join(parts, " ")
}

// Check refuses values that mean nothing. acrs are the roads that can be demanded.
func (p Policy) Check(acrs []string) error {
	switch {
	case p.String() == "":
		return ErrClientInvalid.With("field", "policy")
	case p.SyncedPasskeys != nil && !slices.Contains([]string{"inherit", "allowed", "lower_acr", "refused"}, *p.SyncedPasskeys):
		return ErrClientInvalid.With("field", "synced_passkeys")
	case p.MinimumACR != nil && *p.MinimumACR != "" && !slices.Contains(acrs, *p.MinimumACR):
		return ErrClientInvalid.With("field", "minimum_acr")
	}
	return nil
}

// SetPolicy changes a client's demands in the name of an operator. Every node
// follows within the life of its cache, five seconds.
func SetPolicy(ctx context.Context, store Store, clientID string, p Policy, operator string) error {
	return store.SetPolicy(ctx, clientID, p, audit.New(audit.ClientChanged).ByOperator(operator).With(audit.KeyReason, p.String()))
}
