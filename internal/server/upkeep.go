package server

import (
	"context"
	"time"

	"sealgate/internal/jobs"
	"sealgate/internal/keyring"
)

// sweeper is who removed a key from the token, in the audit log.
const sweeper = "upkeep"

// abandonedAfter is how long what was begun and never finished is kept.
const abandonedAfter = 24 * time.Hour

// upkeepTasks keep keys, certificates and tables from growing old.
func (s *Server) upkeepTasks(keys *keyring.Keyring) []jobs.Task {
	return []jobs.Task{
		{Name: "notices of ending certificates", Every: time.Hour, Run: s.services.renewals.Warn},
		{Name: "keys that sign nothing any more", Every: 10 * time.Minute, Run: s.destroyKeys},
		{Name: "left-over keys in the token", Every: 6 * time.Hour, Run: func(ctx context.Context) error {
			swept, err := keys.Sweep(ctx, sweeper, true)
			if swept.Destroyed > 0 {
				s.opts.Log.InfoContext(ctx, "left-over keys were removed from the token", "keys", swept.Destroyed)
			}
			return err
		}},
		{Name: "abandoned bindings", Every: time.Hour, Run: s.purgeAbandoned},
	}
}

func (s *Server) destroyKeys(ctx context.Context) error {
	return untilNone(ctx, func() (int, error) { return s.db.Keyring().DestroyKeys(ctx, time.Now()) })
}

func (s *Server) purgeAbandoned(ctx context.Context) error {
	before := time.Now().Add(-abandonedAfter)
	return untilNone(ctx, func() (int, error) { return s.db.Abandoned(ctx, before) })
}

// untilNone repeats a batch until it finds nothing more.
func untilNone(ctx context.Context, batch func() (int, error)) error {
	for ctx.Err() == nil {
		if n, err := batch(); err != nil || n == 0 {
			return err
		}
	}
	return ctx.Err()
}
