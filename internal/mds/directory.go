package mds

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
)

// Stored is the last good BLOB as the database keeps it.
type Stored struct {
	Number     int64
	NextUpdate time.Time
	Raw        []byte // the JWS as it came
	AcceptedAt time.Time
	Source     string // "file" or "url" or "operator"
}

// Store keeps the last good BLOB. Each method is one transaction or one read.
type Store interface {
	// Save replaces the BLOB by one with a higher number, with the audit entry;
	// ErrWentBack when the one that is there is as new or newer.
	Save(ctx context.Context, b Stored, entry audit.Entry) error
	// Newer reads the BLOB when its number is higher; nil when it is not or
	// there is none.
	Newer(ctx context.Context, than int64) (*Stored, error)
}

// GetFunc fetches a URL; egress.Client.Get is one.
type GetFunc func(ctx context.Context, url, accept string, max int64) ([]byte, error)

// Config is everything a Directory needs. Without roots there is no metadata at
// all; without file and URL it only changes when an operator loads it.
type Config struct {
	Trust Trust
	Store Store
	// File and URL are where a newer BLOB may lie; the file is looked at first.
	File, URL string
	Get       GetFunc
	Log       *slog.Logger
	Now       func() time.Time // nil: time.Now
}

// Directory holds the BLOB in force. It is safe for concurrent use.
type Directory struct {
	cfg     Config
	now     func() time.Time
	current atomic.Pointer[Blob]
	broken  atomic.Int64 // number of a stored BLOB that could not be believed here
}

// NewDirectory checks the configuration; it reads nothing yet.
func NewDirectory(cfg Config) (*Directory, error) {
	switch {
	case cfg.Store == nil, cfg.Log == nil:
		return nil, errors.New("mds: a part is missing from the configuration")
	case len(cfg.Trust.Roots) == 0 && (cfg.File != "" || cfg.URL != ""):
		return nil, errors.New("mds: metadata without a root to believe it by")
	case cfg.URL != "" && cfg.Get == nil:
		return nil, errors.New("mds: a URL without a way to fetch it")
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	return &Directory{cfg: cfg, now: func() time.Time { return now().UTC().Truncate(time.Microsecond) }}, nil
}

// Current is the BLOB in force, nil while there is none. A nil Directory has none.
func (d *Directory) Current() *Blob {
	if d == nil {
		return nil
	}
	return d.current.Load()
}

func (d *Directory) number() int64 {
	if b := d.current.Load(); b != nil {
		return b.Number
	}
	return 0
}

// Sync takes over what another node or an earlier run has accepted. It is
// cheap when nothing is new, and every node calls it now and then.
func (d *Directory) Sync(ctx context.Context) error {
	if len(d.cfg.Trust.Roots) == 0 {
		return nil
	}
	stored, err := d.cfg.Store.Newer(ctx, max(d.number(), d.broken.Load()))
	if err != nil || stored == nil {
		return err
	}
	// The signer's certificate may have ended since: what counts is whether it
	// was good when the BLOB came.
	b, err := Read(stored.Raw, d.cfg.Trust, stored.AcceptedAt)
	if err != nil {
		d.broken.Store(stored.Number) // said once, not at every look
		return fmt.Errorf("mds: the stored BLOB %d is not believed on this node: %w", stored.Number, err)
	}
	d.take(b)
	return nil
}

// take puts a BLOB in force unless a newer one is.
func (d *Directory) take(b *Blob) {
	for {
		old := d.current.Load()
		if old != nil && old.Number >= b.Number || d.current.CompareAndSwap(old, b) {
			return
		}
	}
}

// Accept verifies a BLOB that has come and keeps it for all nodes. The same one
// again is no error and changes nothing; an older one is ErrWentBack.
func (d *Directory) Accept(ctx context.Context, raw []byte, source string, entry audit.Entry) (*Blob, error) {
	now := d.now()
	raw = bytes.TrimSpace(raw)
	if err := d.Sync(ctx); err != nil { // compared with what all nodes have, not only this one
		d.cfg.Log.WarnContext(ctx, "authenticator metadata: the stored BLOB cannot be used", "error", err)
	}
	// What was accepted stays accepted when its signer's certificate ends.
	if b := d.Current(); b != nil && b.digest == sha256.Sum256(raw) {
		return b, nil
	}
	b, err := Read(raw, d.cfg.Trust, now)
	if err != nil {
		return nil, err
	}
	stored, err := d.cfg.Store.Newer(ctx, b.Number-1)
	if err != nil {
		return nil, err
	}
	if stored != nil {
		if stored.Number == b.Number && sha256.Sum256(stored.Raw) == sha256.Sum256(raw) {
			d.take(b)
			return b, nil
		}
		return nil, ErrWentBack.Because(fmt.Errorf("number %d came, %d is there", b.Number, stored.Number))
	}
	entry = entry.WithInt(audit.KeyCount, int(b.Number)).With(audit.KeySource, source)
	err = d.cfg.Store.Save(ctx, Stored{Number: b.Number, NextUpdate: b.NextUpdate, Raw: raw, AcceptedAt: now, Source: source}, entry)
	if err != nil {
		return nil, err
	}
	d.take(b)
	return b, nil
}

// Refresh is the leader's job: look at the file, ask the URL when a newer BLOB
// is due, and say loudly when the one in force is past its day.
func (d *Directory) Refresh(ctx context.Context) error {
	if len(d.cfg.Trust.Roots) == 0 {
		return nil
	}
	all := d.Sync(ctx)
	if d.cfg.File != "" {
		all = errors.Join(all, d.refreshFile(ctx))
	}
	if d.cfg.URL != "" && d.due() {
		raw, err := d.cfg.Get(ctx, d.cfg.URL, "application/jose", MaxBLOB)
		if err == nil {
			err = d.newer(ctx, raw, "url")
		}
		all = errors.Join(all, err)
	}
	switch b := d.Current(); {
	case b == nil:
		d.cfg.Log.WarnContext(ctx, "authenticator metadata: none is there yet; load it with sealctl authenticators mds load")
	case b.Stale(d.now()):
		d.cfg.Log.WarnContext(ctx, "authenticator metadata is STALE: newly known compromises are missing",
			"number", b.Number, "next_update", b.NextUpdate.Format(time.DateOnly))
	}
	return all
}

// due: the public service asks not to be called before nextUpdate
// (FIDO Metadata Service v3.0 §3.2).
func (d *Directory) due() bool {
	b := d.Current()
	return b == nil || !d.now().Before(b.NextUpdate)
}

func (d *Directory) refreshFile(ctx context.Context) error {
	info, err := os.Stat(d.cfg.File)
	if err != nil {
		return fmt.Errorf("mds: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > MaxBLOB {
		return malformed("the file is no regular file of a possible length")
	}
	raw, err := os.ReadFile(d.cfg.File)
	if err != nil {
		return fmt.Errorf("mds: %w", err)
	}
	return d.newer(ctx, raw, "file")
}

// newer accepts what was found; an old file beside a newer stored BLOB is no trouble.
func (d *Directory) newer(ctx context.Context, raw []byte, source string) error {
	_, err := d.Accept(ctx, raw, source, audit.New(audit.MetadataLoaded))
	if errors.Is(err, ErrWentBack) && source == "file" {
		return nil
	}
	if err != nil && fault.From(err).Kind != fault.Internal {
		return fmt.Errorf("mds: what the %s holds is not accepted: %w", source, err)
	}
	return err
}
