package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// all is what `bench all` measures.
var all = []string{"signatures", "memory", "login", "sign", "batch", "wait"}

// Command is `sealctl bench`.
func Command() *cobra.Command {
	var cfg Config
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bench signatures|memory|login|sign|wait|batch|all",
		Short: "Measure a whole login, a signature, a waiting browser, a batch",
		Long: `Starts a private PostgreSQL (default durability) and the server as a child
process, binds test citizens through the public pages, and measures whole orders:

  login  authorize → frame → claim → approve → return → token
  sign   REST create → open → frame → claim → approve → wait → collect .p7s
  wait   browsers that wait at once: server memory each
  batch  many digests in one order, against the bare key operations; with and
         without time-stamps, from the approval to the last signature
  signatures  made and verified, P-256 and RSA-2048, keys in memory and in a
         PKCS #11 token (SoftHSM), beside the bare key operations; no server
  memory a document of --size, hashed, and inside a signature; no server

Every cost is also given in bare P-256 verifications timed in the same run.`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: append([]string{"all"}, all...),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.What = args
			if args[0] == "all" {
				cfg.What = all
			}
			cfg.Log = cmd.ErrOrStderr()
			report, err := Run(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), report)
			}
			report.print(cmd.OutOrStdout())
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print the figures as JSON")
	f.IntVar(&cfg.Concurrency, "concurrency", 64, "orders under way at a time")
	f.DurationVar(&cfg.Duration, "duration", 10*time.Second, "how long each load is measured")
	f.IntVar(&cfg.Citizens, "citizens", 128, "citizens with a bound phone, at least as many as --concurrency")
	f.IntVar(&cfg.Browsers, "browsers", 4000, "browsers that wait at once")
	f.IntVar(&cfg.Documents, "documents", 200, "digests in one batch")
	f.Int64Var(&cfg.Size, "size", 4<<30, "octets of the document for memory")
	f.StringVar(&cfg.Dir, "dir", "", "directory for the database and keys; a temporary one when not given")
	f.StringVar(&cfg.Profile, "cpuprofile", "", "write the server's CPU profile of the whole run to this file")
	cmd.AddCommand(serveCommand(), streamCommand())
	return cmd
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}
