package citizen

import (
	"fmt"
	"strings"
	"time"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
)

// UnknownAllowed are the audit entries of the certificates that an operator's
// allowance let pass although nobody knew their status. The act that relied on
// them adds who and where, and writes them in its own transaction.
func UnknownAllowed(uses []certpath.Allowed) []audit.Entry {
	out := make([]audit.Entry, 0, len(uses))
	for _, u := range uses {
		out = append(out, audit.New(audit.RevocationUnknownAllowed).With(audit.KeyPurpose, strings.TrimPrefix(u.Profile, "citizen ")).
			With(audit.KeySerial, fmt.Sprintf("%x", u.Certificate.SerialNumber)).With(audit.KeyReason, u.Allowance.Reason).
			With(audit.KeyUntil, u.Allowance.Until.UTC().Format(time.RFC3339)))
	}
	return out
}
