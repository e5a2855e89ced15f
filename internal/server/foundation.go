package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sealgate/internal/agency"
	"sealgate/internal/certpath"
	"sealgate/internal/citizen"
	"sealgate/internal/egress"
	"sealgate/internal/keyring"
	"sealgate/internal/mds"
	"sealgate/internal/passkey"
	"sealgate/internal/postgres"
)

// foundation is what all services stand on.
type foundation struct {
	keys      *keyring.Keyring
	secrets   secrets
	vault     *citizen.Vault
	agencies  *agency.Service
	rp        *passkey.RelyingParty
	metadata  *mds.Directory // nil without a root to believe them by
	egress    *egress.Client
	cards     *cardStatus
	validator *certpath.Validator
}

// secrets are the keyring's symmetric secrets that doors and services are given
// once, at the start.
type secrets struct {
	lookup, pairwise, client, cookie, code, typed, phone, console []byte
}

func newFoundation(ctx context.Context, opts Options, db *postgres.DB) (*foundation, error) {
	cfg := opts.Config
	f := &foundation{}
	var err error
	if f.keys, _, err = OpenKeyring(cfg, db.Keyring(), opts.Bootstrap, opts.Log); err != nil {
		return nil, err
	}
	if f.secrets, err = readSecrets(ctx, f.keys); err != nil {
		return nil, err
	}
	if f.vault, err = citizen.NewVault(citizen.VaultConfig{LookupSecret: f.secrets.lookup, Seal: f.keys.Seal, Open: f.keys.Open}); err != nil {
		return nil, err
	}
	f.agencies, err = agency.New(agency.Config{Store: db.Agency(), SecretKey: f.secrets.client, PairwiseSecret: f.secrets.pairwise, AllowLoopback: cfg.Dev})
	if err != nil {
		return nil, err
	}
	f.egress, err = egress.New(egress.Config{AllowHosts: cfg.Egress.Allow, AllowLoopback: cfg.Egress.AllowLoopback, AllowPrivate: cfg.Egress.AllowPrivate})
	if err != nil {
		return nil, err
	}
	if f.metadata, err = NewMetadata(cfg, db, f.egress.Get, opts.Log); err != nil {
		return nil, err
	}
	if f.metadata != nil {
		if err := f.metadata.Sync(ctx); err != nil { // said aloud; a policy that needs them refuses by itself
			opts.Log.ErrorContext(ctx, "authenticator metadata cannot be read", "error", err)
		}
	}
	if f.rp, err = NewRelyingParty(cfg, f.metadata); err != nil {
		return nil, err
	}
	fetch := certpath.Fetcher{Get: f.egress.Get, Post: f.egress.Post}
	if f.cards, err = newCardStatus(cfg.Card, fetch, db.Lists(), opts.Log, nil); err != nil {
		return nil, err
	}
	f.validator = f.cards.validator
	return f, f.cards.announce(ctx, cfg.NodeName, db.Audit().Append)
}

// readSecrets gets each secret; the first node of a new database makes them.
func readSecrets(ctx context.Context, keys *keyring.Keyring) (secrets, error) {
	var s secrets
	for name, to := range map[string]*[]byte{
		"id-lookup": &s.lookup, "pairwise": &s.pairwise, "client-secret": &s.client, "cookie": &s.cookie,
		"code": &s.code, "typed-code": &s.typed, "phone-session": &s.phone,
		"console": &s.console,
	} {
		secret, err := keys.Secret(ctx, name)
		if err != nil {
			return s, fmt.Errorf("secret %s: %w", name, err)
		}
		*to = secret
	}
	return s, nil
}

func attestation(word string) (passkey.AttestationPolicy, error) {
	switch word {
	case "off":
		return passkey.AttestationOff, nil
	case "monitor":
		return passkey.AttestationMonitor, nil
	case "enforced":
		return passkey.AttestationEnforced, nil
	}
	return 0, fmt.Errorf("unknown attestation policy %q", word)
}

// readCertificates reads every certificate of a directory; "" is none.
func readCertificates(dir string) ([]*x509.Certificate, error) {
	if dir == "" {
		return nil, nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for _, file := range files {
		switch strings.ToLower(filepath.Ext(file.Name())) {
		case ".cer", ".crt", ".pem", ".der":
		default:
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			return nil, err
		}
		some, err := parseCertificates(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// parseCertificates reads DER, or PEM with any number of certificates.
func parseCertificates(raw []byte) ([]*x509.Certificate, error) {
	if block, _ := pem.Decode(raw); block == nil {
		return x509.ParseCertificates(raw)
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("a file of certificates has a PEM block of another type")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}
