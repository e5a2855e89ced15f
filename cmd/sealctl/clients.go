package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sealgate/internal/agency"
	"sealgate/internal/config"
	"sealgate/internal/order"
	"sealgate/internal/postgres"
)

// clientsCommand is "sealctl clients": what the agencies' systems demand.
func clientsCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "clients",
		Short: "The agencies' systems, and what each demands of an approval",
	}
	cmd.PersistentFlags().StringVarP(&file, "config", "c", "", "the server's configuration file (YAML); SEALGATE_ variables weigh more")
	cmd.AddCommand(clientsListCommand(&file), clientsSetCommand(&file), clientsWebhookCommand(&file))
	return cmd
}

// withClients opens the database that the configuration names.
func withClients(cmd *cobra.Command, file string, fn func(ctx context.Context, store postgres.AgencyStore) error) error {
	cfg, err := config.Load(file, os.Environ())
	if err != nil {
		return err
	}
	if cfg.Database.URL == "" {
		return errors.New("database.url is needed")
	}
	pool, err := postgres.Open(cmd.Context(), cfg.Database.URL, operatorConnections)
	if err != nil {
		return err
	}
	defer pool.Close()
	return fn(cmd.Context(), postgres.New(pool).Agency())
}

func clientsListCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the clients with what they demand",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClients(cmd, *file, func(ctx context.Context, store postgres.AgencyStore) error {
				all, err := store.Clients(ctx, 0)
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "CLIENT\tAGENCY\tSTATE\tSYNCED PASSKEYS\tMINIMUM ACR\tREQUIRES SUBJECT")
				for _, c := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%v\n", c.ClientID, c.Agency.Code, c.State, inherited(c.SyncedPasskeys), orDash(c.MinimumACR), c.RequireSubject)
				}
				return w.Flush()
			})
		},
	}
}

func inherited(rule string) string {
	if rule == "" {
		return "inherit"
	}
	return rule
}

// currentOperator is the name under which an act of this program is recorded.
func currentOperator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

func clientsSetCommand(file *string) *cobra.Command {
	var synced, acr string
	var subject, apply bool
	cmd := &cobra.Command{
		Use:   "set CLIENT_ID",
		Short: "Change what a client demands; a dry run unless --apply",
		Long: `Change what a client demands. Without --apply nothing is written: the command
says what would change. With it, the change and its audit entry (client.changed)
are one transaction, and all nodes follow within five seconds. Orders that are
under way keep what was demanded when they were made.

--synced-passkeys: passkeys that are copied to a person's other devices (iCloud,
Google Password Manager). The stricter of this and passkey.synced_passkeys counts:
  inherit    as the deployment says
  allowed    they count as what the road reaches, never as acr phrh
  lower_acr  an approval by one counts as the lowest acr (urn:sealgate:acr:qr);
             refused where the client demands more
  refused    they cannot approve anything for this client; the person is told to
             use a phone whose passkey stays on it

--minimum-acr: the least road of approval that is accepted:
  (empty)              any, also a QR code, which can be relayed to a victim live
  urn:sealgate:acr:qr  the same, said aloud
  phr                  the browsers proved that phone and computer are near each
                       other, or it was the same device
  phrh                 the same, and the key lies in attested hardware

--require-subject: sign orders over the API must name the citizen (member subject).
Without a subject anybody who gets hold of the start link can open the order and
sign it, or be talked into signing it: the agency must then compare approval.sub
with whom it asked (api/README.md).`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var p agency.Policy
			if cmd.Flags().Changed("synced-passkeys") {
				p.SyncedPasskeys = &synced
			}
			if cmd.Flags().Changed("minimum-acr") {
				p.MinimumACR = &acr
			}
			if cmd.Flags().Changed("require-subject") {
				p.RequireSubject = &subject
			}
			if err := p.Check([]string{order.ACRQR, order.ACRPHR, order.ACRPHRH}); err != nil {
				return fmt.Errorf("%w: see --help for the values of --synced-passkeys, --minimum-acr, --require-subject", err)
			}
			return withClients(cmd, *file, func(ctx context.Context, store postgres.AgencyStore) error {
				return setPolicy(cmd, ctx, store, args[0], p, apply)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&synced, "synced-passkeys", "", "inherit, allowed, lower_acr or refused")
	f.StringVar(&acr, "minimum-acr", "", "the least acr accepted; empty for any")
	f.BoolVar(&subject, "require-subject", false, "refuse sign orders that name no citizen")
	f.BoolVar(&apply, "apply", false, "write it; otherwise this is a dry run")
	return cmd
}

func setPolicy(cmd *cobra.Command, ctx context.Context, store postgres.AgencyStore, clientID string, p agency.Policy, apply bool) error {
	before, err := store.ClientByClientID(ctx, clientID)
	if err != nil {
		return fmt.Errorf("%s: %w", clientID, err)
	}
	if before.BuiltIn {
		return fmt.Errorf("%s: the service's own pages follow the deployment's settings", clientID)
	}
	out := cmd.OutOrStdout()
	line := func(name, old, now string) { fmt.Fprintf(out, "%s  %s: %s -> %s\n", clientID, name, old, now) }
	if p.SyncedPasskeys != nil {
		line("synced_passkeys", inherited(before.SyncedPasskeys), *p.SyncedPasskeys)
	}
	if p.MinimumACR != nil {
		line("minimum_acr", orDash(before.MinimumACR), orDash(*p.MinimumACR))
	}
	if p.RequireSubject != nil {
		line("require_subject", fmt.Sprint(before.RequireSubject), fmt.Sprint(*p.RequireSubject))
	}
	if !apply {
		fmt.Fprintln(out, "dry run: nothing was written; add --apply")
		return nil
	}
	if err := agency.SetPolicy(ctx, store, clientID, p, currentOperator()); err != nil {
		return err
	}
	fmt.Fprintln(out, "written")
	return nil
}
