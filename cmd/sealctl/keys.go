package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sealgate/internal/config"
	"sealgate/internal/keyring"
	"sealgate/internal/postgres"
	"sealgate/internal/server"
)

// keysCommand is "sealctl keys": where keys are kept, changing the master key,
// and tidying the token. What changes anything is a dry run without --apply.
func keysCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Where keys are kept; change the master key; tidy the security module",
		Long: `Where keys are kept, and their upkeep. The configuration is the server's: the
same file and SEALGATE_ variables. Commands that change something only say what
they would do unless --apply is given.

Changing the master key while all nodes run:

  1. sealctl keys master new /etc/sealgate/master-2.key --apply
     Copy the file to every node, and to the safe.
  2. On every node put it in other_master_key_files and restart: now all can
     open what it will seal.
  3. On every node make it master_key_file, put the old one in
     other_master_key_files, and restart: new keys are sealed under it.
  4. sealctl keys reseal --apply
     Moves the rest in small transactions. It may be stopped and started again.
  5. When sealctl keys status shows no key under the old one, take it out of
     other_master_key_files. Keep it in the safe as long as backups of the
     database that need it.`,
	}
	cmd.PersistentFlags().StringVarP(&file, "config", "c", "", "the server's configuration file (YAML); SEALGATE_ variables weigh more")
	master := &cobra.Command{Use: "master", Short: "Master keys"}
	master.AddCommand(masterNewCommand())
	cmd.AddCommand(keysStatusCommand(&file), resealCommand(&file), sweepCommand(&file), master)
	return cmd
}

// withKeyring runs fn with the keyring of the server's configuration.
func withKeyring(cmd *cobra.Command, file string, fn func(ctx context.Context, keys *keyring.Keyring, cfg config.Config) error) error {
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
	keys, closeToken, err := server.OpenKeyring(cfg, postgres.New(pool).Keyring(), false, log)
	if err != nil {
		return err
	}
	defer closeToken()
	return fn(ctx, keys, cfg)
}

func keysStatusCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Count keys by where they are kept, purpose and state",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withKeyring(cmd, *file, func(ctx context.Context, keys *keyring.Keyring, _ config.Config) error {
				all, err := keys.Custody(ctx)
				if err != nil {
					return err
				}
				return printCustody(cmd.OutOrStdout(), keys.MasterKeys(), all)
			})
		},
	}
}

// printCustody writes a table of keys, and what is to be done about them.
func printCustody(out io.Writer, loaded []string, all []keyring.Custody) error {
	role := map[string]string{}
	for _, id := range loaded {
		role[id] = "opens"
	}
	role[loaded[0]] = "seals"
	w := tabwriter.NewWriter(out, 2, 4, 2, ' ', 0)
	fmt.Fprintln(w, "KEPT IN\tMASTER KEY\t\tPURPOSE\tSTATE\tKEYS")
	var stale, unopenable int64
	for _, c := range all {
		kept, master, what := "database, sealed", c.MasterKeyID, role[c.MasterKeyID]
		switch {
		case c.Provider == keyring.ProviderPKCS11:
			kept, master, what = "security module", "-", ""
		case what == "":
			what = "NOT LOADED"
			unopenable += c.Keys
		case c.MasterKeyID != loaded[0]:
			stale += c.Keys
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", kept, master, what, c.Purpose, c.State, c.Keys)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i, id := range loaded {
		fmt.Fprintf(out, "master key %s is loaded and %s\n", id, map[bool]string{true: "seals", false: "only opens"}[i == 0])
	}
	if stale > 0 {
		fmt.Fprintf(out, "%d keys are under a master key that only opens: sealctl keys reseal\n", stale)
	}
	if unopenable > 0 {
		return fmt.Errorf("%d keys are under a master key that is not loaded: nothing can open them", unopenable)
	}
	return nil
}

func resealCommand(file *string) *cobra.Command {
	r := keyring.Resealing{Operator: operator()}
	cmd := &cobra.Command{
		Use:   "reseal",
		Short: "Move every key to the current master key, while the service runs",
		Long: `Opens every key that is sealed under another master key than the current one,
checks it, and seals it again. Without --apply nothing is written: that run
says whether every key can be opened. A key that cannot is left as it is, and
the command fails at its end. Every node must already be able to open what the
current master key seals; see sealctl keys --help.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withKeyring(cmd, *file, func(ctx context.Context, keys *keyring.Keyring, _ config.Config) error {
				out, shown := cmd.OutOrStdout(), time.Now()
				r.Progress = func(p keyring.ResealProgress) {
					if time.Since(shown) > 2*time.Second {
						shown = time.Now()
						fmt.Fprintf(out, "%d keys looked at, %d resealed\n", p.Seen, p.Resealed)
					}
				}
				p, err := keys.Reseal(ctx, r)
				printResealed(out, keys.MasterKeys()[0], r.Apply, p)
				return err
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&r.Apply, "apply", false, "write; without it nothing is changed")
	f.IntVar(&r.Batch, "batch", 200, "keys a transaction, at most 1000")
	f.DurationVar(&r.Pause, "pause", 0, "time between transactions, to leave the database to others")
	return cmd
}

func printResealed(out io.Writer, master string, apply bool, p keyring.ResealProgress) {
	switch {
	case p.Seen == 0:
		fmt.Fprintf(out, "nothing to do: every key is under master key %s\n", master)
	case apply:
		fmt.Fprintf(out, "%d keys resealed under master key %s\n", p.Resealed, master)
	default:
		fmt.Fprintf(out, "dry run: %d keys would be resealed under master key %s; --apply does it\n", p.Seen-p.Unreadable, master)
	}
	if p.Changed > 0 {
		fmt.Fprintf(out, "%d keys were moved or changed by somebody else meanwhile\n", p.Changed)
	}
	if p.Unreadable > 0 {
		fmt.Fprintf(out, "%d keys cannot be opened and were left as they are\n", p.Unreadable)
	}
}

func sweepCommand(file *string) *cobra.Command {
	var apply bool
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Remove keys from the security module that no row of the database has",
		Long: `Lists keys in the security module whose binding was rolled back or whose row is
destroyed, an hour old or more. With --apply they are destroyed for good, each
after an entry in the audit log. Keys of other deployments have other labels.

Never run it against a restored or copied database with the original's master
key and security module: keys made since the copy would look like left-overs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withKeyring(cmd, *file, func(ctx context.Context, keys *keyring.Keyring, cfg config.Config) error {
				if cfg.HSM.Module == "" {
					return errors.New("hsm.module is not set: there is no security module to tidy")
				}
				s, err := keys.Sweep(ctx, operator(), apply)
				out := cmd.OutOrStdout()
				for _, id := range s.Orphans {
					fmt.Fprintln(out, id)
				}
				fmt.Fprintf(out, "%d of our keys are in the security module, %d of them without a row, %d destroyed\n", s.Held, len(s.Orphans), s.Destroyed)
				if err == nil && !apply && len(s.Orphans) > 0 {
					fmt.Fprintln(out, "dry run: --apply destroys them for good")
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "destroy them; without it they are only listed")
	return cmd
}

func masterNewCommand() *cobra.Command {
	var apply bool
	cmd := &cobra.Command{
		Use:   "new FILE",
		Short: "Make a new master key in a file that does not exist yet",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if !apply {
				if _, err := os.Lstat(path); err == nil {
					return fmt.Errorf("%s exists: a master key is never replaced", path)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "dry run: would write a new master key to %s; --apply does it\n", path)
				return nil
			}
			key, err := keyring.CreateMasterKey(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "master key %s written to %s, for its owner's eyes only\nnow copy it to every node and to a safe; sealctl keys --help says how to go on\n", key.ID(), path)
			return nil
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "write the file")
	return cmd
}

// operator names who runs the command, for the audit log.
func operator() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
