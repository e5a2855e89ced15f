// Package pdfsign puts signatures into PDFs (PAdES, EN 319 142-1) without the
// documents leaving the machine: the update that signs is made here, only its
// digest is sent, and the signature that comes back is put into its place.
//
//	sealctl pdf sign     everything, against a service with client credentials
//	sealctl pdf prepare  the first half, for integrations that make orders themselves
//	sealctl pdf embed    the second half
package pdfsign

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	qrcode "github.com/skip2/go-qrcode"
	"github.com/spf13/cobra"

	"sealgate/internal/pades"
)

// Command is `sealctl pdf`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pdf",
		Short: "Sign PDFs; the documents stay here, only digests are sent",
		Long: `Sign PDFs with the signature inside (PAdES B-B, B-T). The document stays on this
machine: what signs it is an addition to the file, made here, and only its digest
is sent. Signatures that are in the file already are kept, and stay valid.

  sealctl pdf sign letter.pdf --server https://… --client ID --secret-file FILE
  sealctl pdf prepare letter.pdf          letter.pdf.prepared.json, prints the digest
  sealctl pdf embed letter.pdf --signature letter.p7s

Verify with "sealctl verify letter-signed.pdf", pdfsig or any PDF reader.`,
	}
	cmd.AddCommand(prepareCommand(), embedCommand(), signCommand())
	return cmd
}

func (t *texts) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.Name, "name", "", "the signer's name as readers show it; they take the certificate's when empty")
	f.StringVar(&t.Reason, "reason", "", "why it is signed, shown by readers")
	f.StringVar(&t.Location, "location", "", "where it is signed, shown by readers")
	f.StringVar(&t.Contact, "contact", "", "how to reach the signer, shown by readers")
	f.IntVar(&t.Reserve, "reserve", 0, "room for the signature, in bytes; 16 KiB when not given")
}

func prepareCommand() *cobra.Command {
	var t texts
	var out string
	cmd := &cobra.Command{
		Use: "prepare FILE", Short: "Make the addition that signs a PDF, and its digest", Args: cobra.ExactArgs(1),
		Long: `Make the addition that signs a PDF. It is written as JSON beside the file and holds
nothing of the document. What is printed goes into a sign order as it is, with a
name and "form": "pades" (api/README.md).`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := prepareFile(cmd.Context(), args[0], t.options())
			if err != nil {
				return err
			}
			raw, err := json.Marshal(p)
			if err != nil {
				return err
			}
			if out == "" {
				out = preparedName(args[0])
			}
			if err := os.WriteFile(out, raw, 0o600); err != nil {
				return err
			}
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(map[string]any{"media_type": "application/pdf", "size": p.OriginalSize, "form": "pades",
				"digest_algorithm": p.Hash.String(), "digest": base64.StdEncoding.EncodeToString(p.Digest)})
		},
	}
	t.flags(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "where the addition is kept; FILE.prepared.json when not given")
	return cmd
}

func preparedName(file string) string { return file + ".prepared.json" }

func embedCommand() *cobra.Command {
	var prepared, signature, out string
	var force bool
	cmd := &cobra.Command{
		Use: "embed FILE", Short: "Put a signature into the PDF it was prepared for", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if prepared == "" {
				prepared = preparedName(args[0])
			}
			p, err := readPrepared(prepared)
			if err != nil {
				return err
			}
			der, err := os.ReadFile(signature)
			if err != nil {
				return err
			}
			if err := check(p, der, false); err != nil {
				return err
			}
			if out == "" {
				out = signedName(args[0])
			}
			if err := embedFile(cmd.Context(), args[0], p, der, out, force); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), out)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&prepared, "prepared", "", "what prepare wrote; FILE.prepared.json when not given")
	f.StringVar(&signature, "signature", "", "the signature that the service made (.p7s, DER)")
	f.StringVarP(&out, "out", "o", "", "the signed document; FILE-signed.pdf when not given")
	f.BoolVar(&force, "force", false, "replace a file of that name")
	_ = cmd.MarkFlagRequired("signature")
	return cmd
}

// signFlags are what an order says besides its documents.
type signFlags struct {
	server, client, secretFile      string
	text, subject, level, returnURI string
	out                             string
	force, qr                       bool
	wait                            time.Duration
	texts
}

// secretVariable holds the client's secret where no file does: an argument
// would be seen by everybody on the machine.
const secretVariable = "SEALGATE_CLIENT_SECRET"

func signCommand() *cobra.Command {
	var f signFlags
	cmd := &cobra.Command{
		Use: "sign FILE…", Short: "Have PDFs signed by a person with their phone, in one order", Args: cobra.MinimumNArgs(1),
		Long: `Have PDFs signed, all in one order: prepares each, sends the digests, prints an
address to be opened in the signer's browser (with --qr also as a picture, for the
phone's camera), waits, and writes FILE-signed.pdf beside each. Documents that
the person leaves out are told and have no file.

The client's secret is read from --secret-file or ` + secretVariable + `.`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.server, "server", "http://localhost:8080", "public address of the service")
	fs.StringVar(&f.client, "client", "", "client id, with the scope sign")
	fs.StringVar(&f.secretFile, "secret-file", "", "file with the client's secret")
	fs.StringVar(&f.text, "text", "", "what the person is told")
	fs.StringVar(&f.subject, "subject", "", "who is to sign, by the sub that this client knows")
	fs.StringVar(&f.level, "level", "", "B-B or B-T; the service's own choice when not given")
	fs.StringVar(&f.returnURI, "return-uri", "", "where the browser goes afterwards, registered for the client")
	fs.StringVarP(&f.out, "out", "o", "", "the signed document, for one FILE; FILE-signed.pdf when not given")
	fs.BoolVar(&f.force, "force", false, "replace files of that name")
	fs.BoolVar(&f.qr, "qr", false, "show the address as a QR code too")
	fs.DurationVar(&f.wait, "wait", 30*time.Minute, "how long to wait at most")
	f.flags(cmd)
	_ = cmd.MarkFlagRequired("client")
	return cmd
}

func (f *signFlags) service() (*service, error) {
	secret := os.Getenv(secretVariable)
	if f.secretFile != "" {
		raw, err := os.ReadFile(f.secretFile)
		if err != nil {
			return nil, err
		}
		secret = strings.TrimSpace(string(raw))
	}
	if secret == "" {
		return nil, errors.New("no secret: --secret-file, or " + secretVariable)
	}
	return &service{origin: strings.TrimSuffix(f.server, "/"), client: f.client, secret: secret, http: &http.Client{Timeout: time.Minute}}, nil
}

// stamped says whether the signatures must have a time-stamp.
func (f *signFlags) stamped() (bool, error) {
	switch f.level {
	case "", "B-B":
		return false, nil
	case "B-T":
		return true, nil
	}
	return false, errors.New("--level: a PDF is signed as B-B or B-T")
}

func (f *signFlags) run(cmd *cobra.Command, files []string) error {
	stamped, err := f.stamped()
	if err != nil {
		return err
	}
	if f.out != "" && len(files) > 1 {
		return errors.New("--out goes with one FILE")
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.wait)
	defer cancel()
	s, err := f.service()
	if err != nil {
		return err
	}
	prepared := make([]*pades.Prepared, len(files))
	for i, name := range files {
		if prepared[i], err = prepareFile(ctx, name, f.options()); err != nil {
			return err
		}
	}
	o, err := s.create(ctx, *f, files, prepared)
	if err != nil {
		return err
	}
	out, tell := cmd.OutOrStdout(), cmd.ErrOrStderr()
	fmt.Fprintf(out, "open in the signer's browser: %s\n", o.StartURL)
	if f.qr {
		code, err := qrcode.New(o.StartURL, qrcode.Low)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, code.ToSmallString(false))
	}
	done, err := s.await(ctx, o.Order, func(state string) { fmt.Fprintln(tell, "order", state) })
	if err != nil {
		return err
	}
	return f.collect(cmd, ctx, s, o.Order, done, files, prepared, stamped)
}

// collect writes each signed document. What is wrong with one keeps no other
// from being written.
func (f *signFlags) collect(cmd *cobra.Command, ctx context.Context, s *service, id string, o *order, files []string, prepared []*pades.Prepared, stamped bool) error {
	var wrong error
	for i, name := range files {
		if i >= len(o.Documents) {
			return errors.New("the service forgot a document")
		}
		if d := o.Documents[i]; d.State != "signed" {
			wrong = errors.Join(wrong, errors.New(strings.TrimSpace(name+": "+d.State+" "+d.Failure)))
			continue
		}
		der, err := s.signature(ctx, id, i)
		if err == nil {
			err = check(prepared[i], der, stamped)
		}
		to := f.out
		if to == "" {
			to = signedName(name)
		}
		if err == nil {
			err = embedFile(ctx, name, prepared[i], der, to, f.force)
		}
		if err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("%s: %w", name, err))
			continue
		}
		fmt.Fprintln(cmd.OutOrStdout(), to)
	}
	return wrong
}
