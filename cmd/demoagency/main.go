// Command demoagency is the website of an imagined agency (示範機關) that uses
// Sealgate as any agency would: logins through an ordinary OpenID Connect client
// library, signatures through the REST API. It shows integrators how little is
// needed, and is what `sealgate dev` opens. It is a demonstration and nothing else.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"sealgate/cmd/demoagency/site"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demoagency:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var cfg site.Config
	var secretFile string
	f := flag.NewFlagSet("demoagency", flag.ContinueOnError)
	f.StringVar(&cfg.Addr, "addr", env("DEMOAGENCY_ADDR", "localhost:8090"), "address to listen on")
	f.StringVar(&cfg.Issuer, "issuer", env("DEMOAGENCY_ISSUER", "http://localhost:8080"), "address of Sealgate")
	f.StringVar(&cfg.ClientID, "client-id", env("DEMOAGENCY_CLIENT_ID", "demo-agency"), "our client identifier")
	f.StringVar(&secretFile, "client-secret-file", env("DEMOAGENCY_CLIENT_SECRET_FILE", "var/demo-agency.secret"),
		"file with our client secret; the environment variable DEMOAGENCY_CLIENT_SECRET comes first")
	if err := f.Parse(args); err != nil {
		return err
	}
	// A secret on the command line would be seen by every user of the machine.
	cfg.ClientSecret = os.Getenv("DEMOAGENCY_CLIENT_SECRET")
	if cfg.ClientSecret == "" {
		raw, err := os.ReadFile(secretFile)
		if err != nil {
			return fmt.Errorf("client secret: %w", err)
		}
		cfg.ClientSecret = strings.TrimSpace(string(raw))
	}
	fmt.Printf("示範機關 Demo Agency: http://%s\n", cfg.Addr)
	return site.Run(ctx, cfg)
}

func env(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}
