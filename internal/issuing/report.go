package issuing

import (
	"context"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
)

// Report is one thing that an outside CA has to be told: a certificate of its
// that is revoked, held, or (State Good) no longer held. Signing stops here at
// once; what others see is what the CA publishes.
type Report struct {
	Certificate uuid.UUID
	Authority   string
	Issuer      []byte // certificate of the issuing CA, DER
	Serial      []byte
	State       State
	At          time.Time
	Reason      int
}

// ReportStore keeps what outside CAs have been told.
type ReportStore interface {
	// Unreported lists what is to be told, after an id; with a time, also what was
	// told of changes since then.
	Unreported(ctx context.Context, since time.Time, after uuid.UUID, limit int) ([]Report, error)
	// Reported notes that the CA was told; false where the state is another by
	// now, or was told before.
	Reported(ctx context.Context, r Report, e audit.Entry) (bool, error)
	// Outstanding counts requests without a certificate, and what is to be told.
	Outstanding(ctx context.Context) (requests, reports int64, err error)
	// Record writes an entry alone.
	Record(ctx context.Context, e audit.Entry) error
}
