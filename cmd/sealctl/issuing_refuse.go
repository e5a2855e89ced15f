package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"sealgate/internal/audit"
	"sealgate/internal/config"
	"sealgate/internal/issuing"
	"sealgate/internal/postgres"
)

// maxRefusal bounds the reason of a refusal in characters.
const maxRefusal = 200

func requestsRefuseCommand(file *string) *cobra.Command {
	var reason string
	var apply bool
	cmd := &cobra.Command{
		Use: "refuse REQUEST", Short: "End a waiting request that the CA will not certify", Args: cobra.ExactArgs(1),
		Long: `Ends one request for good; REQUEST is its id in manifest.csv. The phone stays bound
and logs in, but cannot sign: its holder binds it again, or renews where an older
certificate is in force. The reason goes to the audit log; it should name nobody.
Should the CA certify the request all the same, importing the certificate registers
it as revoked, and the CA is told. Without --apply nothing is changed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return fmt.Errorf("%q is no id of a request", args[0])
			}
			reason = strings.TrimSpace(reason)
			if n := len([]rune(reason)); n == 0 || n > maxRefusal {
				return fmt.Errorf("--reason takes 1 to %d characters", maxRefusal)
			}
			return withRequests(cmd, *file, func(ctx context.Context, _ config.Config, db *postgres.DB) error {
				said, err := refuseRequest(ctx, db.Requests(), id, reason, apply)
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), said)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	cmd.Flags().BoolVar(&apply, "apply", false, "write; without it nothing is changed")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

func refuseRequest(ctx context.Context, store postgres.RequestStore, id uuid.UUID, reason string, apply bool) (string, error) {
	r, err := store.Find(ctx, id)
	switch {
	case err != nil:
		return "", err
	case r.State != issuing.RequestWaiting:
		return "", errors.Join(fmt.Errorf("request %s is %s", id, r.State), issuing.ErrRequestDone)
	case !apply:
		return fmt.Sprintf("dry run: request %s of device %s would end without a certificate; --apply ends it", id, r.DeviceID), nil
	}
	e := audit.New(audit.CertificateRefused).ByOperator(operator()).Citizen(r.CitizenID).Device(r.DeviceID).
		With(audit.KeyKeyID, r.KeyID.String()).With(audit.KeyReason, reason).Refuse(issuing.EndedByOperator)
	if err := store.Close(ctx, id, issuing.EndedByOperator, e); err != nil {
		return "", err
	}
	return fmt.Sprintf("request %s has ended without a certificate", id), nil
}
