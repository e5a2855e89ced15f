package server

import (
	"context"

	"sealgate/internal/certpath"
	"sealgate/internal/dossier"
)

// For the test of revocation lists, which needs a clock of its own.
var NewCardStatus = newCardStatus

func (s *cardStatus) Refresh(ctx context.Context) error { return s.refresh(ctx) }

func (s *cardStatus) Validator() *certpath.Validator { return s.validator }

// FlushRefusals writes the sums of refusals now.
func (s *Server) FlushRefusals(ctx context.Context) error { return s.refusals.Flush(ctx) }

// Dossiers is the domain of official documents, as the signers' own pages use it.
func (s *Server) Dossiers() *dossier.Service { return s.services.dossiers }
