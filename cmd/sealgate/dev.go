package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"sealgate/cmd/demoagency/site"
	"sealgate/cmd/sealctl/softcard"
	"sealgate/internal/config"
	"sealgate/internal/postgres/cluster"
	"sealgate/internal/postgres/migrate"
	"sealgate/internal/server"
)

// devOptions are the flags of `sealgate dev`.
type devOptions struct {
	dir      string
	listen   string
	demo     string
	cards    string
	registry string
	fast     bool
}

func devCommand(file *string) *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine, for trying out and developing",
		Long: `Starts a private PostgreSQL, a development certificate authority, a test card
component with test citizens, the demonstration agency and the server itself.
Everything is kept below --dir and found again at the next start. Nothing of it
may be used for real people.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return dev(cmd.Context(), *file, o, cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "var", "directory for the database, keys and test cards")
	f.StringVar(&o.listen, "listen", "localhost:8080", "address of the server; people reach it as http://localhost:PORT")
	f.StringVar(&o.demo, "demo", "localhost:8090", "address of the demonstration agency")
	f.StringVar(&o.cards, "cards", softcard.DefaultComponentAddr, "address of the test card component")
	f.StringVar(&o.registry, "card-authority", softcard.DefaultRepositoryAddr, "address of the test cards' OCSP and CRL")
	f.BoolVar(&o.fast, "fast", false, "no waiting for the disk: for tests, loses data when the machine fails")
	return cmd
}

// dev starts one part after the other and stops them in reverse order.
func dev(ctx context.Context, file string, o devOptions, out io.Writer) error {
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	failed := make(chan error, 8)
	run := func(name string, f func(context.Context) error) {
		parts.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil { // the database's own user must pass through
		return err
	}
	cards, err := softcard.New(softcard.Config{Dir: filepath.Join(dir, "cards"), ComponentAddr: o.cards, RepositoryAddr: o.registry,
		TrustedOrigins: []string{"http://" + o.listen}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("test card component: %w", err)
	}
	run("test card component", cards.Serve)
	url, stopDatabase, err := devDatabase(ctx, dir, o.fast)
	if err != nil {
		return err
	}
	defer stopDatabase()
	secret, err := devSecret(filepath.Join(dir, "demo-agency.secret"))
	if err != nil {
		return err
	}
	s, err := devServer(ctx, file, dir, url, secret, o)
	if err != nil {
		return err
	}
	defer s.close()
	run("server", func(ctx context.Context) error { return s.node.Serve(ctx, s.listener) })
	run("demonstration agency", func(ctx context.Context) error {
		return site.Run(ctx, site.Config{Addr: o.demo, Issuer: s.origin, ClientID: "demo-agency", ClientSecret: secret})
	})
	link, err := s.node.FirstAdministrator(ctx)
	if err != nil {
		return err
	}
	welcome(out, o, s.origin, dir, cards, link, time.Since(began))
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nStopping…")
		err = nil
	case err = <-failed:
	}
	cancel()
	parts.Wait()
	return err
}

// devDatabase gives a migrated database: DATABASE_URL where it is set, else a
// private cluster below dir.
func devDatabase(ctx context.Context, dir string, fast bool) (url string, stop func(), err error) {
	if url = os.Getenv("DATABASE_URL"); url != "" {
		return url, func() {}, nil
	}
	settings := map[string]string{}
	if fast {
		settings["fsync"], settings["synchronous_commit"] = "off", "off"
	}
	start := cluster.Config{Dir: filepath.Join(dir, "postgres"), Settings: settings, NoSync: fast, DownloadFrom: cmp.Or(os.Getenv("SEALGATE_POSTGRES_DOWNLOAD"), cluster.LibraryDefault)}
	c, err := cluster.Start(ctx, start)
	if errors.Is(err, cluster.ErrClosedParent) {
		// A checkout below root's home: the database's own user cannot come here.
		sum := sha256.Sum256([]byte(dir))
		start.Dir = filepath.Join("/var/lib/sealgate-dev", hex.EncodeToString(sum[:6]))
		fmt.Fprintf(os.Stderr, "sealgate: the database's files are kept in %s, because %v\n", start.Dir, err)
		c, err = cluster.Start(ctx, start)
	}
	if err != nil {
		return "", nil, fmt.Errorf("private PostgreSQL: %w", err)
	}
	return c.URL(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = c.Stop(ctx)
	}, nil
}

// devSecret reads the demonstration site's client secret, or makes it.
func devSecret(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(raw)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	secret := base64.RawURLEncoding.EncodeToString(b)
	return secret, os.WriteFile(path, []byte(secret+"\n"), 0o600)
}

// devNode is the server with what must be closed after it.
type devNode struct {
	node     *server.Server
	listener net.Listener
	origin   string
	close    func()
}

func devServer(ctx context.Context, file, dir, url, secret string, o devOptions) (*devNode, error) {
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	origin := "http://localhost:" + port
	cfg, err := config.LoadPreset(file, os.Environ(), map[string]string{
		"dev": "true", "listen": o.listen, "public_origin": origin, "database.url": url, "rp_name": "Sealgate (測試)",
		"master_key_file":        filepath.Join(dir, "master.key"),
		"card.anchors_dir":       filepath.Join(dir, "cards", "anchors"),
		"card.intermediates_dir": filepath.Join(dir, "cards", "intermediates"),
		"egress.allow":           o.registry, "egress.allow_loopback": "true",
		// Benches and tests come from one address, as fast as they can.
		"limits.starts": "0", "limits.claims": "0", "limits.node_starts": "0", "limits.node_claims": "0",
		"citizen.release_national_id": "true", "log.format": "text", "log.level": "warn",
	})
	if err != nil {
		return nil, err
	}
	pool, err := openPool(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if _, err := migrate.Up(ctx, pool); err != nil {
		pool.Close()
		return nil, fmt.Errorf("migrate: %w", err)
	}
	node, err := server.New(ctx, server.Options{Config: cfg, Pool: pool, Log: newLog(cfg), Bootstrap: true, SoftCard: true,
		CardOrigin: "http://" + o.cards, DemoSite: "http://" + o.demo, DemoSecret: secret})
	if err != nil {
		pool.Close()
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), node.AnchorsPEM(), 0o644); err != nil {
		pool.Close()
		return nil, err
	}
	return &devNode{node: node, listener: listener, origin: origin, close: pool.Close}, nil
}

// welcome says where to click.
func welcome(out io.Writer, o devOptions, origin, dir string, cards *softcard.Component, admin string, took time.Duration) {
	console := origin + "/admin"
	if admin != "" {
		console = admin + "\n                                   (the first administrator's link: works once, within 24 hours)"
	}
	fmt.Fprintf(out, `
Sealgate is running (development, test cards only). Started in %.1f s.

  1. Bind a phone to a test card   %s/enrol
  2. Log in at a demo agency       http://%s/
  3. Sign your own files           %s/sign
  4. Administer it                 %s
     The phone's app               %s/app
     Everything else               %s/

  No phone at hand? Below each QR code: “let this browser play the phone”.
  In a shell: bin/sealctl softphone --help
  Root certificates for openssl    %s
  The card component               http://%s/ (test component)

`, took.Seconds(), origin, o.demo, origin, console, origin, origin, filepath.Join(dir, "ca.pem"), o.cards)
	cards.Print(out)
	fmt.Fprintln(out, "\nCtrl-C stops everything; the next start finds it again.")
}
