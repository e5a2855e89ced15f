package server

import (
	"context"

	"github.com/google/uuid"

	"sealgate/internal/config"
	"sealgate/internal/evidence"
	"sealgate/internal/postgres"
)

// NewEvidence makes the builder of evidence bundles for a configuration: the
// CAs of citizen cards come from its trust store.
func NewEvidence(cfg config.Config, db *postgres.DB) (*evidence.Builder, error) {
	var issuers [][]byte
	for _, dir := range []string{cfg.Card.IntermediatesDir, cfg.Card.AnchorsDir} {
		list, err := readCertificates(dir)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			issuers = append(issuers, c.Raw)
		}
	}
	return evidence.NewBuilder(db.Evidence(), issuers)
}

// evidenceInside gives the bundles that go into signatures, one a document.
func evidenceInside(b *evidence.Builder) func(context.Context, uuid.UUID) (func(int) ([]byte, error), error) {
	return func(ctx context.Context, order uuid.UUID) (func(int) ([]byte, error), error) {
		each, err := b.Each(ctx, order)
		if err != nil {
			return nil, err
		}
		return func(document int) ([]byte, error) {
			bundle, err := each(document)
			if err != nil {
				return nil, err
			}
			return bundle.Encode()
		}, nil
	}
}

// evidenceFile gives the file of an order's evidence, for one document or, where
// that is negative, for all.
func evidenceFile(b *evidence.Builder) func(context.Context, uuid.UUID, int) ([]byte, error) {
	return func(ctx context.Context, order uuid.UUID, document int) ([]byte, error) {
		build := b.Build
		if document >= 0 {
			build = func(ctx context.Context, order uuid.UUID) (*evidence.Bundle, error) {
				return b.BuildOne(ctx, order, document)
			}
		}
		bundle, err := build(ctx, order)
		if err != nil {
			return nil, err
		}
		return bundle.Encode()
	}
}
