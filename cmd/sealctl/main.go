// Command sealctl is for operators and integrators: test tools today, the
// service's administration as it grows.
//
//	sealctl softcard    a test component with test citizen cards
//	sealctl softphone   a phone without a browser
//	sealctl enrol       binds a soft phone with a test card
//	sealctl bench       measures a whole login, a signature, a waiting browser
//	sealctl keys        where keys are kept; changing the master key
//	sealctl issuing     another CA: requests, certificates, revocations
//	sealctl evidence    exports and verifies the evidence of an approval
//	sealctl verify      verifies signatures, ours and others'
//	sealctl pdf         has PDFs signed, the documents stay here
//	sealctl admin       administrators: who they are, and a link for a new one
//	sealctl authenticators  which models are accepted; FIDO metadata
//	sealctl clients     what each agency system demands
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"sealgate/cmd/sealctl/bench"
	"sealgate/cmd/sealctl/pdfsign"
	"sealgate/cmd/sealctl/softcard"
	"sealgate/cmd/sealctl/softphone"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		os.Exit(report(os.Stderr, err))
	}
}

// report tells an error, unless it was told, and gives the exit status. An
// interrupted command that has no statuses of its own was meant to end.
func report(w io.Writer, err error) int {
	exit := exitError{status: 1, err: err}
	if !errors.As(err, &exit) && errors.Is(err, context.Canceled) {
		return 0
	}
	if exit.err != nil {
		fmt.Fprintln(w, "sealctl:", err)
	}
	return exit.status
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "sealctl",
		Short:         "Tools for operators and integrators of Sealgate",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(softcardCommand(), softphone.Command(), softphone.EnrolCommand(), bench.Command(), keysCommand(), evidenceCommand(), verifyCommand(), pdfsign.Command(), authenticatorsCommand(), adminCommand(), clientsCommand(), issuingCommand())
	return cmd
}

func softcardCommand() *cobra.Command {
	var cfg softcard.Config
	cmd := &cobra.Command{
		Use:   "softcard",
		Short: "A TEST component with test citizen cards, behind the card component's protocol",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			cards, err := softcard.New(cfg)
			if err != nil {
				return err
			}
			cards.Print(cmd.OutOrStdout())
			return cards.Serve(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Dir, "dir", "var/cards", "directory that keeps the test authority and its cards")
	f.StringVar(&cfg.ComponentAddr, "listen", softcard.DefaultComponentAddr, "address of the component")
	f.StringVar(&cfg.RepositoryAddr, "card-authority", softcard.DefaultRepositoryAddr, "address of the cards' OCSP and CRL")
	f.StringSliceVar(&cfg.TrustedOrigins, "trust", nil, "sites that may ask for signatures; localhost when not given")
	f.BoolVar(&cfg.OldVersion, "old-version", false, "say that the component is older than pages accept")
	return cmd
}

// operatorConnections is how many database connections an operator's command
// takes at most.
const operatorConnections = 4
