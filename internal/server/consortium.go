package server

import (
	"context"
	"crypto/x509"

	"sealgate/internal/front"
	"sealgate/internal/front/csc"
	"sealgate/internal/i18n"
	"sealgate/internal/issuing"
	"sealgate/internal/oidc"
)

// consortium is the door of document software that speaks the Cloud Signature
// Consortium's API.
func (s *Server) consortium(f *foundation, shell *front.Shell, provider *oidc.Provider) (*csc.Door, error) {
	text := func(key string) func(string) string {
		return func(lang string) string { return shell.Catalogue().T(i18n.Lang(lang), key) }
	}
	return csc.New(csc.Config{Orders: s.services.orders, Agencies: f.agencies, Signing: s.services.signing, Provider: provider,
		Store: s.db.CSC(), Chain: func(ctx context.Context, authority string) ([]*x509.Certificate, error) {
			return issuing.ChainOf(ctx, s.services.ca, s.db.Requests(), authority)
		}, Stamp: s.services.ca.RespondTSA, CodeSecret: f.secrets.code,
		PublicOrigin: s.opts.Config.PublicOrigin, Logo: shell.StaticAssets().URL("app/icon-192.png"), Most: s.opts.Config.Signing.BatchMax, Name: text("csc.name"), Description: text("csc.description"),
		Refused: s.db.Audit().Append, Log: s.opts.Log})
}
