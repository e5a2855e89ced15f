package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"sealgate/internal/audit"
	"sealgate/internal/config"
	"sealgate/internal/postgres"
	"sealgate/internal/server"
	"sealgate/internal/webhook"
)

// clientsWebhookCommand is "sealctl clients webhook": where a client is told.
func clientsWebhookCommand(file *string) *cobra.Command {
	var address string
	var none, apply bool
	cmd := &cobra.Command{
		Use:   "webhook CLIENT_ID",
		Short: "Set where a client is told of its orders and documents; a dry run unless --apply",
		Long: `Set where a client is told of the ends of its sign orders and of each step of
its official documents. Each setting makes a new secret, which is shown once: the
receiver checks webhook-signature with it (api/README.md).

The host must also be on the operator's list egress.allow; private addresses and
redirects are refused there. --none stops telling, and drops what is not told yet.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if none == (address != "") {
				return errors.New("give either --url or --none")
			}
			cfg, err := config.Load(*file, os.Environ())
			if err != nil {
				return err
			}
			if cfg.MasterKeyFile == "" || cfg.Database.URL == "" {
				return errors.New("master_key_file and database.url are needed")
			}
			if address != "" {
				if err := webhook.CheckURL(address, cfg.Dev); err != nil {
					return err
				}
			}
			return setWebhook(cmd, cfg, args[0], address, apply)
		},
	}
	f := cmd.Flags()
	f.StringVar(&address, "url", "", "https address that messages are posted to")
	f.BoolVar(&none, "none", false, "tell this client nothing any more")
	f.BoolVar(&apply, "apply", false, "write it; otherwise this is a dry run")
	return cmd
}

func setWebhook(cmd *cobra.Command, cfg config.Config, clientID, address string, apply bool) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	pool, err := postgres.Open(ctx, cfg.Database.URL, operatorConnections)
	if err != nil {
		return err
	}
	defer pool.Close()
	db := postgres.New(pool)
	client, err := db.Agency().ClientByClientID(ctx, clientID)
	if err != nil {
		return fmt.Errorf("%s: %w", clientID, err)
	}
	before, err := db.Agency().Webhook(ctx, client.ID)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s  webhook: %s -> %s\n", clientID, orDash(before), orDash(address))
	if !apply {
		fmt.Fprintln(out, "dry run: nothing was written; add --apply")
		return nil
	}
	var secret, sealed []byte
	if address != "" {
		secret = webhook.NewSecret()
		if sealed, err = sealWebhook(ctx, cmd, cfg, db, client.ID[:], secret); err != nil {
			return err
		}
	}
	entry := audit.New(audit.ClientChanged).ByOperator(currentOperator()).With(audit.KeyReason, "webhook")
	if err := db.Agency().SetWebhook(ctx, client.ID, address, sealed, entry); err != nil {
		return err
	}
	fmt.Fprintln(out, "written")
	if secret != nil {
		fmt.Fprintln(out, "secret, shown this once: "+webhook.FormatSecret(secret))
	}
	return nil
}

// sealWebhook seals a client's secret as the server opens it.
func sealWebhook(ctx context.Context, cmd *cobra.Command, cfg config.Config, db *postgres.DB, client, secret []byte) ([]byte, error) {
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	keys, closeToken, err := server.OpenKeyring(cfg, db.Keyring(), false, log)
	if err != nil {
		return nil, err
	}
	defer closeToken()
	return keys.Seal(ctx, webhook.Purpose, client, secret)
}
