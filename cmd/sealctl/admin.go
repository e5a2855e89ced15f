package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sealgate/internal/config"
	"sealgate/internal/console"
	"sealgate/internal/evidence"
	frontconsole "sealgate/internal/front/console"
	"sealgate/internal/postgres"
	"sealgate/internal/server"
)

func adminCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "admin",
		Short: "Administrators: who they are, and a one-time link for a new one",
		Long: `Administrators sign in to /admin with passkeys and invite each other there. The
commands here are for the first one, for the day when no security officer is
left, and for handing the registrars' keys to whoever verifies evidence. They
read the server's configuration and need its database and master key.`,
	}
	cmd.PersistentFlags().StringVarP(&file, "config", "c", "", "configuration file (YAML); SEALGATE_ variables weigh more")
	cmd.AddCommand(adminInviteCommand(&file), adminListCommand(&file))
	return cmd
}

// withConsole opens the domain of administrators as the server does.
func withConsole(cmd *cobra.Command, file string, fn func(ctx context.Context, c *console.Service, cfg config.Config) error) error {
	cfg, err := config.Load(file, os.Environ())
	if err != nil {
		return err
	}
	if cfg.MasterKeyFile == "" || cfg.Database.URL == "" {
		return errors.New("master_key_file and database.url are needed")
	}
	ctx := cmd.Context()
	pool, err := postgres.Open(ctx, cfg.Database.URL, operatorConnections)
	if err != nil {
		return err
	}
	defer pool.Close()
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	db := postgres.New(pool)
	keys, closeToken, err := server.OpenKeyring(cfg, db.Keyring(), false, log)
	if err != nil {
		return err
	}
	defer closeToken()
	c, err := server.OpenConsole(ctx, cfg, db, keys, log)
	if err != nil {
		return err
	}
	return fn(ctx, c, cfg)
}

func adminInviteCommand(file *string) *cobra.Command {
	var roles []string
	var apply bool
	cmd := &cobra.Command{
		Use:   "invite",
		Short: "Make a one-time link for an administrator",
		Long: `Prints a link that makes one administrator, once, within 24 hours. Without an
administrator it is the first one's. Otherwise it is the way back when no
security officer can sign in, and shouts in the audit log: the console is the
place for invitations.

Roles:
  security_officer  invites and removes administrators, stops phones
  registrar         proves people in person, always with a second registrar
  support           finds one person's phones and stops them
  auditor           looks, changes nothing`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withConsole(cmd, *file, func(ctx context.Context, c *console.Service, cfg config.Config) error {
				out := cmd.OutOrStdout()
				var wanted []console.Role
				for _, r := range roles {
					wanted = append(wanted, console.Role(r))
				}
				if !apply {
					fmt.Fprintf(out, "dry run: would make a link for an administrator with the roles %s; --apply does it\n", strings.Join(roles, ", "))
					return nil
				}
				token, err := c.OperatorInvite(ctx, operator(), wanted)
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "%s\nworks once, within 24 hours\n", frontconsole.JoinLink(cfg.PublicOrigin, token))
				return nil
			})
		},
	}
	cmd.Flags().StringSliceVar(&roles, "role", []string{string(console.SecurityOfficer)}, "roles: security_officer, registrar, support, auditor")
	cmd.Flags().BoolVar(&apply, "apply", false, "make the link; without it nothing is written")
	return cmd
}

// listedAdministrator is an administrator in `sealctl admin list --json`; a file
// of them anchors the evidence of bindings in person.
type listedAdministrator struct {
	ID      string         `json:"id"`
	Name    string         `json:"name"`
	Roles   []console.Role `json:"roles"`
	Since   time.Time      `json:"since"`
	Removed *time.Time     `json:"removed,omitempty"`
	Keys    []listedKey    `json:"keys"`
}

type listedKey struct {
	CredentialID []byte    `json:"credential_id"`
	PublicKey    []byte    `json:"public_key"` // COSE_Key
	Name         string    `json:"name"`
	Since        time.Time `json:"since"`
}

func adminListCommand(file *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List administrators, removed ones too, with their passkeys' keys",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withConsole(cmd, *file, func(ctx context.Context, c *console.Service, _ config.Config) error {
				all, err := c.List(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return writeAdministrators(cmd.OutOrStdout(), all)
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 2, 4, 2, ' ', 0)
				fmt.Fprintln(w, "ID\tNAME\tROLES\tSINCE\tSTATE")
				for _, a := range all {
					state := "active"
					if a.RemovedAt != nil {
						state = "removed " + a.RemovedAt.UTC().Format(time.DateTime)
					}
					fmt.Fprintf(w, "%s\t%s\t%v\t%s\t%s\n", a.ID, a.Name, a.Roles, a.CreatedAt.UTC().Format(time.DateTime), state)
				}
				return w.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON with public keys, for sealctl evidence verify --registrars")
	return cmd
}

func writeAdministrators(out io.Writer, all []console.Administrator) error {
	list := make([]listedAdministrator, len(all))
	for i, a := range all {
		list[i] = listedAdministrator{ID: a.ID.String(), Name: a.Name, Roles: a.Roles, Since: a.CreatedAt.UTC(), Removed: a.RemovedAt}
		for _, k := range a.Passkeys {
			list[i].Keys = append(list[i].Keys, listedKey{CredentialID: k.ID, PublicKey: k.PublicKey, Name: k.Name, Since: k.CreatedAt.UTC()})
		}
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(list)
}

// registrarsFile reads those of a list of administrators who are registrars.
func registrarsFile(name string) ([]evidence.Registrar, error) {
	raw, err := readBounded(name, 4<<20)
	if err != nil {
		return nil, err
	}
	var list []listedAdministrator
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	var out []evidence.Registrar
	for _, a := range list {
		if !slices.Contains(a.Roles, console.Registrar) {
			continue
		}
		for _, k := range a.Keys {
			r := evidence.Registrar{ID: a.ID, CredentialID: k.CredentialID, PublicKey: k.PublicKey, Since: k.Since}
			if a.Removed != nil {
				r.Until = *a.Removed
			}
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("nobody in the list is a registrar")
	}
	return out, nil
}
