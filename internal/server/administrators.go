package server

import (
	"context"
	"log/slog"

	"sealgate/internal/citizen"
	"sealgate/internal/config"
	"sealgate/internal/console"
	"sealgate/internal/keyring"
	"sealgate/internal/passkey"
	"sealgate/internal/postgres"
)

// newConsole builds the domain of administrators.
func newConsole(cfg config.Config, db *postgres.DB, vault *citizen.Vault, secret []byte, changed func(), log *slog.Logger) (*console.Service, error) {
	rp, err := passkey.New(passkey.Config{RPID: cfg.RPID, RPName: cfg.RPName, Origins: []string{cfg.PublicOrigin}, Attestation: passkey.AttestationMonitor})
	if err != nil {
		return nil, err
	}
	store := db.Console()
	return console.New(console.Config{Administrators: store, Sessions: store, Acts: store, People: store, RelyingParty: rp, Vault: vault,
		Secret: secret, Changed: changed, Log: log})
}

// OpenConsole gives the domain of administrators to the tools of operators.
func OpenConsole(ctx context.Context, cfg config.Config, db *postgres.DB, keys *keyring.Keyring, log *slog.Logger) (*console.Service, error) {
	s, err := readSecrets(ctx, keys)
	if err != nil {
		return nil, err
	}
	vault, err := citizen.NewVault(citizen.VaultConfig{LookupSecret: s.lookup, Seal: keys.Seal, Open: keys.Open})
	if err != nil {
		return nil, err
	}
	return newConsole(cfg, db, vault, s.console, nil, log)
}
