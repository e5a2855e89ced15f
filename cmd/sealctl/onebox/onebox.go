// Package onebox runs a whole service on free ports of this machine, with test
// cards and the demonstration client, for tests and for the bench. It is what
// `sealgate dev` is for people.
//
// Its cards and keys are throw-away test material.
package onebox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/cmd/sealctl/softcard"
	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/agency"
	"sealgate/internal/config"
	"sealgate/internal/server"
)

// Config says what to start. Dir and Pool are required.
type Config struct {
	// Dir keeps the master key and the test cards.
	Dir string
	// Pool is a migrated database; DatabaseURL is only named in the configuration.
	Pool        *pgxpool.Pool
	DatabaseURL string
	// Listen is the server's address; "" for a free port on localhost.
	Listen string
	// Site is where the demonstration client says it lives; "" for an address
	// at which nothing answers.
	Site string
	// Secret is the demonstration client's; "" for a new one.
	Secret string
	// Settings are further configuration keys.
	Settings map[string]string
	// Cards starts the card component. Without it Settings must name a trust
	// store (card.anchors_dir).
	Cards bool
	Log   *slog.Logger // nil for none
}

// Box is a running service.
type Box struct {
	Origin    string // of the server
	Component string // of the card component
	Site      string // of the demonstration client
	ClientID  string
	Secret    string
	Server    *server.Server
	Cards     []softcard.CardInfo
	Softcard  *softcard.Component
	stop      func()
	err       chan error
}

// Start starts everything and waits for nothing: the ports are open when it
// returns. Close stops it.
func Start(ctx context.Context, cfg Config) (_ *Box, err error) {
	if cfg.Listen == "" {
		cfg.Listen = "localhost:0"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Site == "" {
		cfg.Site = "http://localhost:9"
	}
	if cfg.Secret == "" {
		cfg.Secret = agency.NewSecret()
	}
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	b := &Box{Origin: "http://localhost:" + port, Site: cfg.Site, ClientID: agency.DemoClientID, Secret: cfg.Secret, err: make(chan error, 2)}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	b.stop = func() { cancel(); parts.Wait() }
	defer func() {
		if err != nil {
			b.stop()
			_ = listener.Close()
		}
	}()
	preset := map[string]string{}
	if cfg.Cards {
		if err := b.startCards(work, cfg, &parts, preset); err != nil {
			return nil, err
		}
	}
	if b.Server, err = newServer(ctx, cfg, b, preset); err != nil {
		return nil, err
	}
	parts.Go(func() {
		if err := b.Server.Serve(work, listener); err != nil && work.Err() == nil {
			b.err <- err
		}
	})
	return b, nil
}

func (b *Box) startCards(ctx context.Context, cfg Config, parts *sync.WaitGroup, preset map[string]string) error {
	dir := filepath.Join(cfg.Dir, "cards")
	cards, err := softcard.New(softcard.Config{Dir: dir, ComponentAddr: "localhost:0", RepositoryAddr: "localhost:0",
		TrustedOrigins: []string{b.Origin}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("test card component: %w", err)
	}
	b.Softcard, b.Component, b.Cards = cards, cards.URL(), cards.Cards()
	preset["card.anchors_dir"], preset["card.intermediates_dir"] = filepath.Join(dir, "anchors"), filepath.Join(dir, "intermediates")
	preset["egress.allow"] = strings.TrimPrefix(cards.RepositoryURL(), "http://")
	parts.Go(func() {
		if err := cards.Serve(ctx); err != nil && ctx.Err() == nil {
			b.err <- err
		}
	})
	return nil
}

func newServer(ctx context.Context, cfg Config, b *Box, preset map[string]string) (*server.Server, error) {
	for key, value := range map[string]string{
		"dev": "true", "listen": "localhost:0", "public_origin": b.Origin, "rp_name": "Sealgate (測試)",
		"database.url": "postgres:///sealgate", "master_key_file": filepath.Join(cfg.Dir, "master.key"),
		"egress.allow_loopback": "true", "citizen.release_national_id": "true",
		// Everything comes from one address here, as fast as it can.
		"limits.starts": "0", "limits.claims": "0", "limits.node_starts": "0", "limits.node_claims": "0",
	} {
		preset[key] = value
	}
	if cfg.DatabaseURL != "" {
		preset["database.url"] = cfg.DatabaseURL
	}
	for key, value := range cfg.Settings {
		preset[key] = value
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	settings, err := config.LoadPreset("", nil, preset)
	if err != nil {
		return nil, err
	}
	return server.New(ctx, server.Options{Config: settings, Pool: cfg.Pool, Log: cfg.Log, Bootstrap: true, SoftCard: cfg.Cards,
		CardOrigin: b.Component, DemoSite: b.Site, DemoSecret: b.Secret})
}

// Close stops everything that Start started.
func (b *Box) Close() error {
	b.stop()
	select {
	case err := <-b.err:
		return err
	default:
		return nil
	}
}

// Enrol binds a new soft phone to a test card through the public pages, as a
// person would.
func (b *Box) Enrol(ctx context.Context, card softcard.CardInfo) (*softphone.Phone, error) {
	if b.Component == "" {
		return nil, errors.New("onebox: started without cards")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	desk, err := softphone.NewBrowser(b.Origin, nil)
	if err != nil {
		return nil, err
	}
	phone := softphone.New(softphone.Config{Server: b.Origin})
	_, err = softphone.Enrolment{Browser: desk, Phone: phone, NationalID: card.NationalID,
		Card: softphone.Card{Component: b.Component, Number: card.Number, PIN: card.PIN}}.Run(ctx)
	return phone, err
}
