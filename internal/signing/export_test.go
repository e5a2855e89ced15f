package signing

import (
	"context"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/keyring"
)

// Batch makes all signatures of an approved order without storing them. It
// returns the time that took apart from reading the database: checking the
// evidence, preparing what is signed, signing and assembling.
func (s *Service) Batch(ctx context.Context, order uuid.UUID) (time.Duration, error) {
	w, err := s.cfg.Store.Load(ctx, order)
	if err != nil {
		return 0, err
	}
	chain, err := s.cfg.Chain(ctx, w.Evidence.Certificate.Authority)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	auth, err := s.authorize(w.Evidence, start)
	if err != nil {
		return 0, err
	}
	b, err := prepare(auth, withoutRoots(chain), start)
	if err != nil {
		return 0, err
	}
	permit, err := keyring.NewPermit(auth.order, auth.key, auth.digestsHash, b.values)
	if err != nil {
		return 0, err
	}
	took := time.Since(start)
	key, err := s.cfg.Keys.OpenCitizenKey(ctx, permit)
	if err != nil {
		return 0, err
	}
	defer key.Close()
	start = time.Now()
	_, _, err = b.sign(ctx, key, start)
	return took + time.Since(start), err
}
