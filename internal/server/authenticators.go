package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/config"
	"sealgate/internal/jobs"
	"sealgate/internal/mds"
	"sealgate/internal/passkey"
	"sealgate/internal/postgres"
)

// NewMetadata makes the directory of FIDO metadata that the configuration
// describes; nil where there is no root to believe them by. get is how it
// fetches, nil where it only reads what the database has.
func NewMetadata(cfg config.Config, db *postgres.DB, get mds.GetFunc, log *slog.Logger) (*mds.Directory, error) {
	m := cfg.Passkey.MDS
	roots, err := readCertificates(m.RootsDir)
	if err != nil || len(roots) == 0 {
		return nil, err
	}
	c := mds.Config{Trust: mds.Trust{Roots: roots, Signer: m.Signer}, Store: db.Metadata(), Log: log}
	if get != nil {
		c.File, c.URL, c.Get = m.File, m.URL, get
	}
	return mds.NewDirectory(c)
}

// NewRelyingParty makes the relying party and its policy from the configuration.
func NewRelyingParty(cfg config.Config, metadata *mds.Directory) (*passkey.RelyingParty, error) {
	p := cfg.Passkey
	mode, err := attestation(p.Attestation)
	if err != nil {
		return nil, err
	}
	roots, err := readCertificates(p.AttestationRootsDir)
	if err != nil {
		return nil, err
	}
	level, err := mds.ParseLevel(p.MinimumCertification)
	if err != nil {
		return nil, err
	}
	c := passkey.Config{RPID: cfg.RPID, RPName: cfg.RPName, Origins: []string{cfg.PublicOrigin}, Attestation: mode, AttestationRoots: roots,
		Timeout: cfg.Order.PhoneStepLifetime,
		Policy:  passkey.Policy{MinimumCertification: level, Synced: passkey.SyncedRule(p.SyncedPasskeys), RefuseStale: p.MDS.WhenStale == "refuse"}}
	if p.Attachment != "any" {
		c.Policy.Attachment = passkey.Attachment(p.Attachment)
	}
	if c.PermittedAAGUIDs, err = parseAAGUIDs(p.AllowedAAGUIDs); err != nil {
		return nil, err
	}
	if c.Policy.DeniedAAGUIDs, err = parseAAGUIDs(p.DeniedAAGUIDs); err != nil {
		return nil, err
	}
	if metadata != nil {
		c.Metadata = metadata.Current
	}
	return passkey.New(c)
}

func parseAAGUIDs(list []string) ([]uuid.UUID, error) {
	var all []uuid.UUID
	for _, text := range list {
		id, err := uuid.Parse(text)
		if err != nil {
			return nil, err
		}
		all = append(all, id)
	}
	return all, nil
}

// Periods of what has to do with models of phones.
const (
	metadataLook = time.Minute      // how soon a BLOB that one node accepted is in force on all
	recheckEvery = 10 * time.Minute // how soon bound phones of a newly forbidden model stop, at the latest
)

// authenticatorTasks are the leader's: newer metadata, and a look at what is bound.
func (s *Server) authenticatorTasks() []jobs.Task {
	tasks := []jobs.Task{{Name: "bound models looked at again", Every: recheckEvery, Run: s.recheck}}
	if s.metadata == nil {
		return tasks
	}
	return append(tasks, jobs.Task{Name: "authenticator metadata", Every: s.opts.Config.Passkey.MDS.Refresh, Run: func(ctx context.Context) error {
		before := s.metadata.Current()
		err := s.metadata.Refresh(ctx)
		if after := s.metadata.Current(); after != before {
			s.opts.Log.InfoContext(ctx, "authenticator metadata in force", "number", after.Number, "models", after.Models())
			if recheckErr := s.recheck(ctx); err == nil {
				err = recheckErr
			}
		}
		return err
	}})
}

// recheck stops the devices whose model may no longer be used.
func (s *Server) recheck(ctx context.Context) error {
	if s.metadata != nil {
		if err := s.metadata.Sync(ctx); err != nil {
			s.opts.Log.ErrorContext(ctx, "authenticator metadata cannot be read", "error", err)
		}
	}
	n, err := s.rp.Recheck(ctx, s.db.Rechecks(), time.Now())
	if n > 0 {
		s.opts.Log.WarnContext(ctx, "devices were stopped because of their model", "devices", n)
	}
	return err
}

// followMetadata takes over what another node has accepted, until the context ends.
func (s *Server) followMetadata(ctx context.Context) {
	if s.metadata == nil {
		return
	}
	t := time.NewTicker(metadataLook)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := s.metadata.Sync(ctx); err != nil && ctx.Err() == nil {
				s.opts.Log.ErrorContext(ctx, "authenticator metadata cannot be read", "error", err)
			}
		}
	}
}
