package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"sealgate/internal/certpath"
	"sealgate/internal/config"
	"sealgate/internal/evidence"
	"sealgate/internal/order"
	"sealgate/internal/postgres"
	"sealgate/internal/server"
)

// errNotPassed makes the command end with status 1 after its report.
var errNotPassed = errors.New("the evidence did not pass")

// linkNames are the links in the words of people.
var linkNames = map[string]string{
	evidence.LinkForm: "檔案完整", evidence.LinkCardChain: "自然人憑證信任鏈", evidence.LinkRevocation: "自然人憑證未廢止",
	evidence.LinkStatement: "卡片簽署綁定聲明", evidence.LinkRegistration: "行動裝置註冊", evidence.LinkDeviceProof: "原手機簽署新增聲明", evidence.LinkApproval: "行動裝置授權",
	evidence.LinkRegistrars: "兩位註冊人員簽署聲明（卡片未簽）",
	evidence.LinkContent:    "授權內容", evidence.LinkDocuments: "文件", evidence.LinkMobile: "行動憑證", evidence.LinkSignatures: "簽章",
}

// linkName gives a link's words; those of an earlier phone say so.
func linkName(name string) string {
	if rest, earlier := strings.CutPrefix(name, evidence.AddedBy); earlier {
		return "原手機 " + linkName(rest)
	}
	return linkNames[name]
}

var verdictNames = map[evidence.Status]string{
	evidence.Passed: "通過", evidence.Failed: "不通過", evidence.Indeterminate: "無法判定",
}

// evidenceCommand is "sealctl evidence": the chain from card to document.
func evidenceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "evidence", Short: "Export and verify the evidence of an approval (api/EVIDENCE.md)"}
	cmd.AddCommand(evidenceVerifyCommand(), evidenceExportCommand())
	return cmd
}

// evidenceFlags are what a verifier brings.
type evidenceFlags struct {
	anchors, services, documents, revocation []string
	registrars                               string
	at                                       string
	json                                     bool
}

func evidenceVerifyCommand() *cobra.Command {
	var f evidenceFlags
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Long:  "FILE is an evidence bundle, or a signature (.p7s) with the evidence inside.",
		Short: "Verify evidence offline; the exit status is 0 only when every link passed",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := f.options(cmd.Context())
			if err != nil {
				return err
			}
			raw, err := readBounded(args[0], evidence.MaxBytes)
			if err != nil {
				return err
			}
			if inside, err := evidence.FromSignature(raw); err == nil { // a .p7s with the evidence inside
				raw = inside
			} else if bytes.HasPrefix(raw, []byte{0x30}) {
				return err
			}
			report, err := evidence.Verify(cmd.Context(), raw, options)
			if err != nil {
				return err
			}
			if err := f.print(cmd.OutOrStdout(), report); err != nil {
				return err
			}
			if report.Verdict != evidence.Passed {
				return errNotPassed
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.anchors, "anchor", nil, "file with roots of citizen certificates that you trust (PEM or DER)")
	flags.StringSliceVar(&f.services, "service-anchor", nil, "file with roots of mobile certificates that you trust; needed for sign orders")
	flags.StringArrayVar(&f.documents, "document", nil, "a document that the content must name")
	flags.StringArrayVar(&f.revocation, "revocation", nil, "a revocation list that the bundle names by its hash alone")
	flags.StringVar(&f.registrars, "registrars", "", "registrars whose word you take for phones bound in person (from `sealctl admin list --json`)")
	flags.StringVar(&f.at, "at", "", "judge certificates for this time (RFC 3339) instead of when they were used")
	flags.BoolVar(&f.json, "json", false, "print the report as JSON")
	_ = cmd.MarkFlagRequired("anchor") // the flag exists
	return cmd
}

func (f evidenceFlags) options(ctx context.Context) (evidence.Options, error) {
	var o evidence.Options
	var err error
	if o.Anchors, err = certificateFiles(f.anchors); err != nil {
		return o, err
	}
	if o.ServiceAnchors, err = certificateFiles(f.services); err != nil {
		return o, err
	}
	if f.registrars != "" {
		if o.Registrars, err = registrarsFile(f.registrars); err != nil {
			return o, fmt.Errorf("--registrars: %w", err)
		}
	}
	if f.at != "" {
		if o.At, err = time.Parse(time.RFC3339, f.at); err != nil {
			return o, fmt.Errorf("--at: %w", err)
		}
	}
	for _, name := range f.documents {
		d, err := digestFile(ctx, name)
		if err != nil {
			return o, err
		}
		o.Documents = append(o.Documents, d)
	}
	for _, name := range f.revocation {
		raw, err := readBounded(name, 64<<20)
		if err != nil {
			return o, err
		}
		o.Revocation = append(o.Revocation, raw)
	}
	return o, nil
}

func certificateFiles(names []string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, name := range names {
		raw, err := readBounded(name, 1<<20)
		if err != nil {
			return nil, err
		}
		some, err := certpath.ParseCertificates(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// digestFile reads a document once for all digests, in bounded memory.
func digestFile(ctx context.Context, name string) (evidence.Document, error) {
	d := evidence.Document{Name: filepath.Base(name), Digests: map[string][]byte{}}
	file, err := os.Open(name)
	if err != nil {
		return d, err
	}
	defer file.Close()
	sums := map[string]interface {
		io.Writer
		Sum([]byte) []byte
	}{"SHA-256": crypto.SHA256.New(), "SHA-384": crypto.SHA384.New(), "SHA-512": crypto.SHA512.New()}
	var all []io.Writer
	for _, h := range sums {
		all = append(all, h)
	}
	if _, err := io.Copy(io.MultiWriter(all...), file); err != nil {
		return d, err
	}
	for algorithm, h := range sums {
		d.Digests[algorithm] = h.Sum(nil)
	}
	return d, ctx.Err()
}

func readBounded(name string, most int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("%s: more than %d bytes", name, most)
	}
	return raw, err
}

func (f evidenceFlags) print(w io.Writer, r *evidence.Report) error {
	if f.json {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	for _, l := range r.Links {
		fmt.Fprintf(w, "%-13s %-23s %s: %s\n", l.Status, l.Name, linkName(l.Name), l.Reason)
	}
	_, err := fmt.Fprintf(w, "%s (%s)\n", r.Verdict, verdictNames[r.Verdict])
	return err
}

func evidenceExportCommand() *cobra.Command {
	var config, out string
	cmd := &cobra.Command{
		Use:   "export ORDER",
		Short: "Write the evidence of an approved order (for operators: reads the service's database)",
		Long: `Write the evidence of an approved order. The configuration is the server's: the
same file and SEALGATE_ variables; database.url and the card trust store are read.
The file holds the citizen's certificates and so their name: give it to those
alone who may have it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := exportEvidence(cmd.Context(), config, args[0])
			if err != nil {
				return err
			}
			if out != "" {
				return os.WriteFile(out, raw, 0o600)
			}
			_, err = cmd.OutOrStdout().Write(raw)
			return err
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "the server's configuration file (YAML); SEALGATE_ variables weigh more")
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to write; standard output when not given")
	return cmd
}

func exportEvidence(ctx context.Context, file, oid string) ([]byte, error) {
	id, err := order.ParseID(oid)
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(file, os.Environ())
	if err != nil {
		return nil, err
	}
	pool, err := postgres.Open(ctx, cfg.Database.URL, operatorConnections)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	builder, err := server.NewEvidence(cfg, postgres.New(pool))
	if err != nil {
		return nil, err
	}
	bundle, err := builder.Build(ctx, uuid.UUID(id))
	if err != nil {
		return nil, err
	}
	return bundle.Encode()
}
