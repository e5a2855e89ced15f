package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"sealgate/internal/audit"
	"sealgate/internal/config"
	"sealgate/internal/mds"
	"sealgate/internal/passkey"
	"sealgate/internal/postgres"
	"sealgate/internal/server"
)

// authenticatorsCommand is "sealctl authenticators": which models of phones and
// security keys are accepted, and what the FIDO metadata say of them.
func authenticatorsCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "authenticators",
		Short: "Which models of phones and security keys are accepted; the FIDO metadata",
		Long: `Which models of phones and security keys are accepted. The configuration is
the server's: the same file and SEALGATE_ variables; "policy" shows each choice,
its value and what it means.

How the choices work together:

  - A model is named by its AAGUID. Only attestation proves it. A model that is
    merely claimed may be refused by it, never accepted by it.
  - passkey.attestation off: nothing is asked. monitor: asked, and noted what
    enforced would refuse. enforced: a phone that does not prove its model is
    refused; most phones' synced passkeys prove nothing, so enforced means
    security keys and managed phones in practice.
  - Models that the metadata call revoked or compromised are always refused, and
    stopped where they are bound, within ten minutes of the news.
  - Synced passkeys are those copied to a person's other devices. A client may
    be stricter than the deployment (clients.synced_passkeys), never milder.

The metadata (a signed list by the FIDO Alliance) come from a file or an address,
or by hand:

  sealctl authenticators mds load blob.jwt

They are kept in the database; all nodes follow within a minute.`,
	}
	cmd.PersistentFlags().StringVarP(&file, "config", "c", "", "the server's configuration file (YAML); SEALGATE_ variables weigh more")
	m := &cobra.Command{Use: "mds", Short: "The FIDO metadata"}
	m.AddCommand(mdsStatusCommand(&file), mdsLoadCommand(&file))
	cmd.AddCommand(policyCommand(&file), modelsCommand(&file), checkModelCommand(&file), m)
	return cmd
}

// models is what the commands work with.
type models struct {
	cfg      config.Config
	db       *postgres.DB
	metadata *mds.Directory // nil without a configured root
	rp       *passkey.RelyingParty
}

// withModels opens the database and reads the metadata it has.
func withModels(cmd *cobra.Command, file string, fn func(ctx context.Context, m models) error) error {
	cfg, err := config.Load(file, os.Environ())
	if err != nil {
		return err
	}
	if cfg.Database.URL == "" {
		return errors.New("database.url is needed")
	}
	ctx := cmd.Context()
	pool, err := postgres.Open(ctx, cfg.Database.URL, operatorConnections)
	if err != nil {
		return err
	}
	defer pool.Close()
	m := models{cfg: cfg, db: postgres.New(pool)}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	if m.metadata, err = server.NewMetadata(cfg, m.db, nil, log); err != nil {
		return err
	}
	if m.metadata != nil {
		if err := m.metadata.Sync(ctx); err != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "sealctl:", err)
		}
	}
	if m.rp, err = server.NewRelyingParty(cfg, m.metadata); err != nil {
		return err
	}
	return fn(ctx, m)
}

func policyCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "policy",
		Short: "Show every choice of the policy, its value and its meaning",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(*file, os.Environ())
			if err != nil {
				return err
			}
			for _, row := range cfg.Describe() {
				if strings.HasPrefix(row.Key, "passkey.") {
					value := row.Value
					if value == "" {
						value = "(none)"
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s = %s   [%s]\n    %s\n", row.Key, value, row.Source, row.Meaning)
				}
			}
			return nil
		},
	}
}

func modelsCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the models of active devices and what the metadata say of them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withModels(cmd, *file, func(ctx context.Context, m models) error {
				bound, err := m.db.Rechecks().Models(ctx)
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "AAGUID\tMODEL\tCERTIFICATION\tSTATUSES\tSTOPS")
				for _, id := range bound {
					model, level, statuses := m.describe(id)
					stop, _ := m.rp.Judge(passkey.Bound{AAGUID: id}, time.Now())
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", id, model, level, statuses, orDash(stop))
				}
				return w.Flush()
			})
		},
	}
}

// describe gives the metadata's words for a model.
func (m models) describe(id uuid.UUID) (name, level, statuses string) {
	b := m.metadata.Current()
	if b == nil {
		return "(no metadata)", "-", "-"
	}
	e, ok := b.ByAAGUID(id)
	if !ok {
		return "(not in the metadata)", "-", "-"
	}
	now := time.Now()
	return e.Description, e.Certification(now).String(), orDash(strings.Join(e.Statuses(now), ","))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func checkModelCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "check AAGUID",
		Short: "Say what would become of a phone of this model, proved or only claimed",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return fmt.Errorf("%q is not an AAGUID such as ee882879-721c-4913-9775-3dfcce97072a", args[0])
			}
			return withModels(cmd, *file, func(_ context.Context, m models) error {
				name, level, statuses := m.describe(id)
				out := cmd.OutOrStdout()
				fmt.Fprintf(out, "model          %s\ncertification  %s\nstatuses       %s\n", name, level, statuses)
				stop, status := m.rp.Judge(passkey.Bound{AAGUID: id}, time.Now())
				if stop != "" {
					fmt.Fprintf(out, "bound devices  stopped: %s %s\n", stop, status)
				} else {
					fmt.Fprintln(out, "bound devices  keep working")
				}
				for _, proved := range []bool{true, false} {
					word := map[bool]string{true: "new, proved ", false: "new, claimed"}[proved]
					verdict := "accepted"
					if err := m.rp.WouldRefuse(id, proved, time.Now()); err != nil {
						verdict = "refused: " + err.Error()
					}
					fmt.Fprintf(out, "%s   %s\n", word, verdict)
				}
				return nil
			})
		},
	}
}

var errNoRoots = errors.New("passkey.mds.roots_dir is not set: there is no root to believe metadata by")

func mdsStatusCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say which BLOB is in force, from when to when",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withModels(cmd, *file, func(ctx context.Context, m models) error {
				if m.metadata == nil {
					return errNoRoots
				}
				b := m.metadata.Current()
				if b == nil {
					return errors.New("no metadata have been loaded")
				}
				stored, err := m.db.Metadata().Newer(ctx, 0)
				if err != nil {
					return err
				}
				printBlob(cmd.OutOrStdout(), b)
				if stored != nil {
					fmt.Fprintf(cmd.OutOrStdout(), "accepted     %s from %s\n", stored.AcceptedAt.UTC().Format(time.RFC3339), stored.Source)
				}
				return nil
			})
		},
	}
}

func printBlob(w io.Writer, b *mds.Blob) {
	state := "fresh"
	if b.Stale(time.Now()) {
		state = "STALE: newly known compromises are missing"
	}
	fmt.Fprintf(w, "number       %d\nmodels       %d\nnext update  %s (%s)\n", b.Number, b.Models(), b.NextUpdate.Format(time.DateOnly), state)
}

func mdsLoadCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "load FILE",
		Short: "Verify a BLOB and put it in force on all nodes; an older one is refused",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := os.Stat(args[0])
			if err != nil {
				return err
			}
			if info.Size() > mds.MaxBLOB {
				return mds.ErrMalformed
			}
			raw, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			return withModels(cmd, *file, func(ctx context.Context, m models) error {
				if m.metadata == nil {
					return errNoRoots
				}
				name := ""
				if u, err := user.Current(); err == nil {
					name = u.Username
				}
				b, err := m.metadata.Accept(ctx, raw, "operator", audit.New(audit.MetadataLoaded).ByOperator(name))
				if err != nil {
					return err
				}
				printBlob(cmd.OutOrStdout(), b)
				return nil
			})
		},
	}
}
