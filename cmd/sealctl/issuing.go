package main

import (
	"context"
	"crypto/x509"
	"encoding/csv"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/config"
	"sealgate/internal/fault"
	"sealgate/internal/issuing"
	"sealgate/internal/postgres"
	"sealgate/internal/server"
)

// issuingCommand is "sealctl issuing": work with another CA by files.
func issuingCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "issuing",
		Short: "Another CA: export requests, import certificates, tell it what is revoked",
		Long: `Mobile certificates from another CA (issuing.mode pkcs10; with est the service
asks by itself, and these commands help where that CA is away for long).

  sealctl issuing requests export --out DIR          PKCS #10 files and manifest.csv
  sealctl issuing requests refuse ID --reason TEXT   the CA will not certify it
  sealctl issuing certificates import DIR --apply    what the CA made of them
  sealctl issuing revocations export --out FILE      what the CA has to revoke, hold, release
  sealctl issuing revocations reported FILE --apply  once the CA has done so

The same configuration file and SEALGATE_ variables as the server's. A phone is
bound and can log in while its certificate is on the way, and signs once it has
come. Every certificate is held against its request, the profile, and the anchors
in issuing.anchors_dir; one that is refused changes nothing.`,
	}
	cmd.PersistentFlags().StringVarP(&file, "config", "c", "", "the server's configuration file (YAML); SEALGATE_ variables weigh more")
	requests := &cobra.Command{Use: "requests", Short: "Requests for certificates"}
	requests.AddCommand(requestsExportCommand(&file), requestsRefuseCommand(&file))
	certificates := &cobra.Command{Use: "certificates", Short: "Certificates that the CA has issued"}
	certificates.AddCommand(certificatesImportCommand(&file))
	revocations := &cobra.Command{Use: "revocations", Short: "What the CA has to be told"}
	revocations.AddCommand(revocationsExportCommand(&file), revocationsReportedCommand(&file))
	cmd.AddCommand(requests, certificates, revocations)
	return cmd
}

// withRequests runs fn with the store of requests and the configuration.
func withRequests(cmd *cobra.Command, file string, fn func(ctx context.Context, cfg config.Config, db *postgres.DB) error) error {
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
	return fn(cmd.Context(), cfg, postgres.New(pool))
}

// exportBatch is how many rows are read at a time.
const exportBatch = 500

func requestsExportCommand(file *string) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "export", Short: "Write every waiting request as PEM, and a manifest", Args: cobra.NoArgs,
		Long: `Writes REQUEST.csr (PKCS #10, PEM) for every request that has no certificate yet,
and manifest.csv with one line each: file, request, device, key (SHA-256 of its
SubjectPublicKeyInfo), time, last setback. It may be run again: files of the same
request are the same. The requests name people: treat the directory accordingly.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRequests(cmd, *file, func(ctx context.Context, _ config.Config, db *postgres.DB) error {
				n, err := exportRequests(ctx, db.Requests(), dir)
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%d requests written to %s\n", n, dir)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&dir, "out", "", "directory to write to; it is made where it does not exist")
	_ = cmd.MarkFlagRequired("out")
	return cmd
}

func exportRequests(ctx context.Context, store postgres.RequestStore, dir string) (int, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	rows := [][]string{{"file", "request", "device", "key_sha256", "created_at", "last_error"}}
	for after := uuid.Nil; ; {
		list, err := store.Waiting(ctx, after, exportBatch)
		if err != nil {
			return 0, err
		}
		for _, r := range list {
			after = r.ID
			name := r.ID.String() + ".csr"
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: r.DER})
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				return 0, err
			}
			rows = append(rows, []string{name, r.ID.String(), r.DeviceID.String(), hex.EncodeToString(r.KeyHash[:]), stampText(r.CreatedAt), r.LastError})
		}
		if len(list) < exportBatch {
			break
		}
	}
	if err := writeCSV(filepath.Join(dir, "manifest.csv"), rows); err != nil {
		return 0, err
	}
	e := audit.New(audit.RequestsExported).ByOperator(operator()).WithInt(audit.KeyCount, len(rows)-1)
	return len(rows) - 1, store.Record(ctx, e)
}

func stampText(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func writeCSV(path string, rows [][]string) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := csv.NewWriter(out)
	return errors.Join(w.WriteAll(rows), w.Error(), out.Close())
}

func certificatesImportCommand(file *string) *cobra.Command {
	var apply bool
	cmd := &cobra.Command{
		Use: "import FILE|DIR...", Short: "Take in certificates that the CA has issued", Args: cobra.MinimumNArgs(1),
		Long: `Reads certificates (PEM or DER; *.pem, *.crt, *.cer, *.der of a directory) and
finds the request of each by its key. CA certificates among them help to build the
path. Without --apply nothing is written: that run says what would be accepted.
The same certificate again is no error. The command fails when any is refused.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withRequests(cmd, *file, func(ctx context.Context, cfg config.Config, db *postgres.DB) error {
				if cfg.Issuing.Mode == "own" {
					return errors.New("issuing.mode is own: no other CA issues mobile certificates")
				}
				profile, err := server.NewProfile(cfg)
				if err != nil {
					return err
				}
				outside, err := server.NewOutside(cfg, db, profile, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
				if err != nil {
					return err
				}
				return importCertificates(ctx, outside, args, apply, cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "write; without it nothing is changed")
	return cmd
}

// found is a certificate of a file.
type found struct {
	path string
	cert *x509.Certificate
}

func importCertificates(ctx context.Context, outside *issuing.Outside, args []string, apply bool, out io.Writer) error {
	files, err := filesOfCertificates(args)
	if err != nil {
		return err
	}
	var leaves []found
	var extra []*x509.Certificate
	refused := 0
	for _, path := range files {
		certs, err := readFile(path)
		if err != nil {
			refused++
			fmt.Fprintf(out, "%s: refused: %s\n", path, fault.CodeOf(err))
			continue
		}
		for _, c := range certs {
			if c.IsCA {
				extra = append(extra, c)
			} else {
				leaves = append(leaves, found{path, c})
			}
		}
	}
	accepted := 0
	for _, l := range leaves {
		r, err := outside.Accept(ctx, l.cert.Raw, extra, audit.New("").ByOperator(operator()), !apply)
		switch {
		case err != nil && fault.From(err).Kind == fault.Internal:
			return err
		case err != nil:
			refused++
			fmt.Fprintf(out, "%s: refused: %v\n", l.path, err)
		case r.State == issuing.RequestIssued:
			accepted++
			fmt.Fprintf(out, "%s: accepted before, request %s\n", l.path, r.ID)
		case r.State == issuing.RequestRefused:
			accepted++
			fmt.Fprintf(out, "%s: its request %s had ended (%s); it counts as revoked from the start, and is listed for the CA\n", l.path, r.ID, r.LastError)
		case apply:
			accepted++
			fmt.Fprintf(out, "%s: accepted, request %s\n", l.path, r.ID)
		default:
			accepted++
			fmt.Fprintf(out, "%s: would be accepted, request %s\n", l.path, r.ID)
		}
	}
	fmt.Fprintf(out, "%d accepted, %d refused\n", accepted, refused)
	if !apply {
		fmt.Fprintln(out, "dry run: --apply takes them in")
	}
	if refused > 0 {
		return fmt.Errorf("%d certificates were refused", refused)
	}
	return nil
}

// maxFile bounds a file of certificates in bytes.
const maxFile = 1 << 20

func readFile(path string) ([]*x509.Certificate, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, certpath.ErrMalformed
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return certpath.ParseCertificates(raw)
}

func filesOfCertificates(args []string) ([]string, error) {
	var files []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, arg)
			continue
		}
		entries, err := os.ReadDir(arg)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if slices.Contains([]string{".pem", ".crt", ".cer", ".der"}, strings.ToLower(filepath.Ext(e.Name()))) {
				files = append(files, filepath.Join(arg, e.Name()))
			}
		}
	}
	return files, nil
}

// actions are the words for what the CA has to do.
var actions = map[issuing.State]string{issuing.Revoked: "revoke", issuing.Held: "hold", issuing.Good: "release"}

var reportColumns = []string{"authority", "issuer", "serial", "action", "reason", "time"}

func revocationsExportCommand(file *string) *cobra.Command {
	var path, since string
	cmd := &cobra.Command{
		Use: "export", Short: "List what the CA has not been told yet", Args: cobra.NoArgs,
		Long: `Writes a CSV file: authority (our name of the CA), issuer, serial (hex), action
(revoke, hold, release), reason (number of RFC 5280 §5.3.1), time. With --since
also what was told before, of changes from that time on.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var from time.Time
			if since != "" {
				var err error
				if from, err = time.Parse(time.RFC3339, since); err != nil {
					return fmt.Errorf("--since: %w", err)
				}
			}
			return withRequests(cmd, *file, func(ctx context.Context, _ config.Config, db *postgres.DB) error {
				rows := [][]string{reportColumns}
				for after := uuid.Nil; ; {
					list, err := db.Requests().Unreported(ctx, from, after, exportBatch)
					if err != nil {
						return err
					}
					for _, r := range list {
						after = r.Certificate
						issuer, err := x509.ParseCertificate(r.Issuer)
						if err != nil {
							return err
						}
						rows = append(rows, []string{r.Authority, issuer.Subject.String(), hex.EncodeToString(r.Serial), actions[r.State], strconv.Itoa(r.Reason), stampText(r.At)})
					}
					if len(list) < exportBatch {
						break
					}
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%d lines written to %s\n", len(rows)-1, path)
				return writeCSV(path, rows)
			})
		},
	}
	cmd.Flags().StringVar(&path, "out", "", "file to write")
	cmd.Flags().StringVar(&since, "since", "", "time (RFC 3339): also what was reported before and changed from then on")
	_ = cmd.MarkFlagRequired("out")
	return cmd
}

func revocationsReportedCommand(file *string) *cobra.Command {
	var apply bool
	cmd := &cobra.Command{
		Use: "reported FILE", Short: "Note that the CA has done what an exported file says", Args: cobra.ExactArgs(1),
		Long: `Reads a file of "revocations export". A certificate whose state has changed again
since then stays on the list.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := readReports(args[0])
			if err != nil {
				return err
			}
			if !apply {
				fmt.Fprintf(cmd.OutOrStdout(), "dry run: %d lines would be noted as reported; --apply does it\n", len(list))
				return nil
			}
			return withRequests(cmd, *file, func(ctx context.Context, _ config.Config, db *postgres.DB) error {
				noted := 0
				for _, r := range list {
					e := audit.New(audit.RevocationsReported).ByOperator(operator()).With(audit.KeySerial, hex.EncodeToString(r.Serial)).
						With(audit.KeyAuthority, r.Authority).WithInt(audit.KeyReason, r.Reason)
					ok, err := db.Requests().Reported(ctx, r, e)
					if err != nil {
						return err
					}
					if ok {
						noted++
					}
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%d noted as reported, %d had changed since or were noted before\n", noted, len(list)-noted)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "write; without it nothing is changed")
	return cmd
}

func readReports(path string) ([]issuing.Report, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	rows, err := csv.NewReader(io.LimitReader(in, 64<<20)).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || !slices.Equal(rows[0], reportColumns) {
		return nil, fmt.Errorf("%s is no file of \"revocations export\"", path)
	}
	var out []issuing.Report
	for i, row := range rows[1:] {
		r := issuing.Report{Authority: row[0]}
		var errSerial, errReason error
		r.Serial, errSerial = hex.DecodeString(row[2])
		r.Reason, errReason = strconv.Atoi(row[4])
		for state, word := range actions {
			if word == row[3] {
				r.State = state
			}
		}
		if errSerial != nil || errReason != nil || r.State == "" {
			return nil, fmt.Errorf("%s: line %d cannot be read", path, i+2)
		}
		out = append(out, r)
	}
	return out, nil
}
