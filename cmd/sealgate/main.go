// Command sealgate is the server.
//
//	sealgate serve    runs one node against a database
//	sealgate dev      runs everything on one machine: a private PostgreSQL, a
//	                  development certificate authority, test cards, a
//	                  demonstration agency
//	sealgate migrate  brings the database's schema up to date
//	sealgate config   shows every setting, its value and where it comes from
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"sealgate/internal/config"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/migrate"
	"sealgate/internal/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "sealgate:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:           "sealgate",
		Short:         "Log in and sign with a phone: FIDO2 relying party, OpenID Provider, signing service",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.PersistentFlags().StringVarP(&file, "config", "c", "", "configuration file (YAML); SEALGATE_ variables weigh more")
	cmd.AddCommand(serveCommand(&file), devCommand(&file), migrateCommand(&file), configCommand(&file))
	return cmd
}

func serveCommand(file *string) *cobra.Command {
	var bootstrap bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one node against a database",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(*file, os.Environ())
			if err != nil {
				return err
			}
			log := newLog(cfg)
			pool, err := openPool(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer pool.Close()
			if err := ready(cmd.Context(), pool); err != nil {
				return err
			}
			s, err := server.New(cmd.Context(), server.Options{Config: cfg, Pool: pool, Log: log, Bootstrap: bootstrap})
			if err != nil {
				return err
			}
			if bootstrap {
				if err := firstAdministrator(cmd, s); err != nil {
					return err
				}
			}
			log.Info("serving", "listen", cfg.Listen, "origin", cfg.PublicOrigin)
			return s.Run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&bootstrap, "bootstrap", false, "first start: create the master key, the service's keys and its certificate authority where they are missing")
	return cmd
}

// firstAdministrator prints the first administrator's link while there is none.
// It goes to standard output and never into the log.
func firstAdministrator(cmd *cobra.Command, s *server.Server) error {
	link, err := s.FirstAdministrator(cmd.Context())
	if err == nil && link != "" {
		fmt.Fprintf(cmd.OutOrStdout(), "There is no administrator yet. This link makes the first one; it works once, within 24 hours:\n\n  %s\n\n", link)
	}
	return err
}

func migrateCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema up to date",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(*file, os.Environ())
			if err != nil {
				return err
			}
			pool, err := openPool(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer pool.Close()
			steps, err := migrate.Up(cmd.Context(), pool)
			for _, s := range steps {
				fmt.Fprintln(cmd.OutOrStdout(), "applied", s.File)
			}
			if err == nil && len(steps) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to do: the schema is up to date")
			}
			return err
		},
	}
}

func configCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Show every setting, its value and where it comes from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(*file, os.Environ())
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 2, 4, 2, ' ', 0)
			for _, s := range cfg.Describe() {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Key, s.Value, s.Source, s.Meaning)
			}
			return errors.Join(w.Flush(), err)
		},
	}
}

// newLog writes the log to standard error.
func newLog(cfg config.Config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) // checked by config
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewJSONHandler(os.Stderr, options)
	if cfg.Log.Format == "text" {
		handler = slog.NewTextHandler(os.Stderr, options)
	}
	log := slog.New(handler).With("node", cfg.NodeName)
	slog.SetDefault(log) // libraries log through the default
	return log
}

func openPool(ctx context.Context, cfg config.Config) (*pgxpool.Pool, error) {
	return postgres.Open(ctx, cfg.Database.URL, cfg.Database.MaxConnections)
}

// ready refuses a database whose schema is behind: migrating is an act of its own.
func ready(ctx context.Context, pool *pgxpool.Pool) error {
	steps, err := migrate.Status(ctx, pool)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if s.AppliedAt.IsZero() {
			return errors.New("the database's schema is behind: run `sealgate migrate` first")
		}
	}
	return nil
}
