package main

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealgate/internal/certpath"
	"sealgate/internal/egress"
	"sealgate/internal/evidence"
	"sealgate/internal/i18n"
	"sealgate/internal/sigverify"
)

// The exit statuses of "sealctl verify".
const (
	exitInvalid = 1
	exitCannot  = 2
	exitUsage   = 3
)

// exitError ends the program with a status of its own. A nil err has been told.
type exitError struct {
	status int
	err    error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

func usage(err error) error {
	if err == nil {
		return nil
	}
	return exitError{exitUsage, err}
}

// verifyFlags are what a verifier brings.
type verifyFlags struct {
	content, at, lang, evidence        string
	anchors, tsaAnchors, cardAnchors   []string
	issuers, certificates, revocations []string
	offline, json                      bool
}

// carried is --evidence without a file: the one inside the signature.
const carried = "signature"

func verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify FILE…",
		Short: "Verify signatures, ours and others'; with --offline nobody is asked",
		Long: `Verify signatures: CMS (PKCS#7, CAdES) in DER, BER or PEM, with the content inside
or, for a detached signature, in --content; without that flag FILE less its
ending .p7s, .p7m or .sig is taken when it is there. PDF with signatures inside;
XML signatures (SI files), the files they name being looked for beside FILE.

The exit status is 0 for valid, 1 for invalid, 2 when it cannot be told, 3 for
wrong usage; of several files the worst counts.`,
		Args: func(cmd *cobra.Command, args []string) error { return usage(cobra.MinimumNArgs(1)(cmd, args)) },
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), cmd.OutOrStdout(), args) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	flags := cmd.Flags()
	flags.StringVar(&f.content, "content", "", "the signed file of a detached signature")
	flags.StringSliceVar(&f.anchors, "anchor", nil, "file with roots that you trust (PEM or DER); for everything, unless the flags below say otherwise")
	flags.StringSliceVar(&f.tsaAnchors, "tsa-anchor", nil, "file with roots that you trust for time-stamps")
	flags.StringSliceVar(&f.cardAnchors, "card-anchor", nil, "file with roots that you trust for citizen certificates, for --evidence")
	flags.StringSliceVar(&f.issuers, "issuer", nil, "file with CA certificates below the roots that did not come with the signature")
	flags.StringSliceVar(&f.certificates, "certificate", nil, "file with certificates that did not come with the signature")
	flags.StringArrayVar(&f.revocations, "revocation", nil, "a revocation list or OCSP answer, DER")
	flags.StringVar(&f.at, "at", "", "verify for this time (RFC 3339) instead of now")
	flags.BoolVar(&f.offline, "offline", false, "ask nobody about revocation")
	flags.BoolVar(&f.json, "json", false, "print the detailed report (api/VERIFY.md)")
	flags.StringVar(&f.lang, "lang", "", "language of the report, zh-Hant or en; that of the environment when not given")
	flags.StringVar(&f.evidence, "evidence", "", "verify the approval's evidence as well: the one inside the signature, or =FILE")
	flags.Lookup("evidence").NoOptDefVal = carried
	return cmd
}

// judged is one file with its report.
type judged struct {
	File   string            `json:"file"`
	Report *sigverify.Report `json:"report"`
}

func (f verifyFlags) run(ctx context.Context, w io.Writer, files []string) error {
	if f.content != "" && len(files) > 1 {
		return usage(errors.New("--content goes with one FILE"))
	}
	request, err := f.request()
	if err != nil {
		return usage(err)
	}
	v, err := f.verifier()
	if err != nil {
		return usage(err)
	}
	texts, err := i18n.Load()
	if err != nil {
		return err
	}
	lang, err := f.language()
	if err != nil {
		return usage(err)
	}
	var all []judged
	status := 0
	for _, name := range files {
		report, err := f.verify(ctx, v, request, name)
		if err != nil {
			return usage(fmt.Errorf("%s: %w", name, err))
		}
		all = append(all, judged{name, report})
		status = worseStatus(status, report.Outlook())
		if f.evidence != "" {
			status = worseStatus(status, evidenceOutlook(report))
		}
		if !f.json {
			printSimple(w, name, report.Simple(texts, lang))
		}
	}
	if f.json {
		if err := printReports(w, all); err != nil {
			return err
		}
	}
	if status != 0 {
		return exitError{status: status}
	}
	return nil
}

// worseStatus: an invalid one weighs more than one that cannot be told.
func worseStatus(status int, o sigverify.Outlook) int {
	switch {
	case status == exitInvalid || o == sigverify.Invalid:
		return exitInvalid
	case o == sigverify.Valid:
		return status
	}
	return exitCannot
}

// evidenceOutlook is what was asked for with --evidence: it must be there and hold.
func evidenceOutlook(r *sigverify.Report) sigverify.Outlook {
	out := sigverify.Cannot
	for _, c := range r.Checks {
		switch {
		case c.Name != sigverify.CheckEvidence:
		case c.Outcome == sigverify.Passed:
			out = sigverify.Valid
		case c.Outcome == sigverify.Failed:
			return sigverify.Invalid
		}
	}
	return out
}

func (f verifyFlags) verify(ctx context.Context, v *sigverify.Verifier, r sigverify.Request, name string) (*sigverify.Report, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a file")
	}
	r.File, r.Size = file, info.Size()
	content := f.content
	if content == "" {
		content = besides(name)
	}
	if content != "" {
		c, err := os.Open(content)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		r.Content.Reader = c
	}
	r.Content.Files = filesBeside(ctx, filepath.Dir(name))
	return v.Verify(ctx, r)
}

// filesBeside gives the digests of files that an XML signature names, below the
// directory that it lies in and nowhere else.
func filesBeside(ctx context.Context, dir string) func(string, crypto.Hash) ([]byte, error) {
	return func(uri string, h crypto.Hash) ([]byte, error) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, err
		}
		defer root.Close()
		file, err := root.Open(filepath.FromSlash(uri))
		if err != nil {
			return nil, nil // not at hand
		}
		defer file.Close()
		if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
			return nil, nil
		}
		sums, _, err := sigverify.Digests(ctx, file, []crypto.Hash{h}, sigverify.MaxContentBytes)
		return sums[h], err
	}
}

// besides finds the signed file beside a detached signature: a.pdf for a.pdf.p7s.
func besides(name string) string {
	switch ext := filepath.Ext(name); ext {
	case ".p7s", ".p7m", ".sig":
		if content := strings.TrimSuffix(name, ext); filepath.Ext(content) != "" {
			if info, err := os.Stat(content); err == nil && info.Mode().IsRegular() {
				return content
			}
		}
	}
	return ""
}

func (f verifyFlags) request() (sigverify.Request, error) {
	r := sigverify.Request{Offline: f.offline}
	var err error
	if f.at != "" {
		if r.At, err = time.Parse(time.RFC3339, f.at); err != nil {
			return r, fmt.Errorf("--at: %w", err)
		}
	}
	if r.Certificates, err = certificateFiles(f.certificates); err != nil {
		return r, err
	}
	for _, name := range f.revocations {
		raw, err := readBounded(name, 64<<20)
		if err != nil {
			return r, err
		}
		kind := certpath.SourceCRL
		if _, err := certpath.ParseOCSPResponse(raw); err == nil {
			kind = certpath.SourceOCSP
		} else if _, err := certpath.ParseCRL(raw); err != nil {
			return r, fmt.Errorf("%s: neither a revocation list nor an OCSP answer in DER", name)
		}
		r.Evidence = append(r.Evidence, certpath.StoredEvidence{Source: kind, URL: filepath.Base(name), Raw: raw})
	}
	if f.evidence == "" {
		return r, nil
	}
	r.Approval, err = f.approval(r.Evidence)
	return r, err
}

func (f verifyFlags) approval(answers []certpath.StoredEvidence) (*sigverify.Approval, error) {
	a := &sigverify.Approval{}
	var err error
	if a.ServiceAnchors, err = certificateFiles(f.anchors); err != nil {
		return nil, err
	}
	if a.CardAnchors, err = certificateFiles(or(f.cardAnchors, f.anchors)); err != nil {
		return nil, err
	}
	for _, e := range answers {
		a.Revocation = append(a.Revocation, e.Raw)
	}
	if f.evidence != carried {
		a.Bundle, err = readBounded(f.evidence, evidence.MaxBytes)
	}
	return a, err
}

func or(first, second []string) []string {
	if len(first) > 0 {
		return first
	}
	return second
}

func (f verifyFlags) verifier() (*sigverify.Verifier, error) {
	if len(f.anchors) == 0 {
		return nil, errors.New("no --anchor: without a root that you trust nothing can be judged")
	}
	issuers, err := certificateFiles(f.issuers)
	if err != nil {
		return nil, err
	}
	validator := func(names []string) (*certpath.Validator, error) {
		anchors, err := certificateFiles(names)
		if err != nil {
			return nil, err
		}
		v := &certpath.Validator{}
		if v.Store, err = certpath.NewTrustStore(anchors, issuers); err != nil || f.offline {
			return v, err
		}
		client, err := egress.New(egress.Config{AllowHosts: []string{"*"}})
		if err != nil {
			return nil, err
		}
		v.Checker, err = certpath.NewChecker(certpath.CheckerConfig{Fetch: certpath.Fetcher{Get: client.Get, Post: client.Post}})
		return v, err
	}
	cfg := sigverify.Config{Containers: []sigverify.Container{sigverify.PDF(), sigverify.XML()}}
	if cfg.Signers, err = validator(f.anchors); err != nil {
		return nil, err
	}
	if cfg.Authorities, err = validator(or(f.tsaAnchors, f.anchors)); err != nil {
		return nil, err
	}
	return sigverify.New(cfg)
}

// language follows --lang, else the environment (POSIX order); the plain
// environments C and POSIX may not show anything but ASCII.
func (f verifyFlags) language() (i18n.Lang, error) {
	if f.lang != "" {
		if l, ok := i18n.Match(strings.ReplaceAll(f.lang, "_", "-")); ok {
			return l, nil
		}
		return "", fmt.Errorf("--lang: %q is not spoken here", f.lang)
	}
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		value, _, _ := strings.Cut(os.Getenv(name), ".")
		switch {
		case value == "":
			continue
		case value == "C" || value == "POSIX":
			return i18n.En, nil
		}
		if l, ok := i18n.Match(strings.ReplaceAll(value, "_", "-")); ok {
			return l, nil
		}
		return i18n.En, nil
	}
	return i18n.Langs()[0], nil
}

// printSimple writes the report for people.
func printSimple(w io.Writer, name string, s sigverify.Simple) {
	fmt.Fprintf(w, "%s: %s\n  %s\n  %s\n", printable(name), printable(s.Title), printable(s.Sentence), printable(s.Next))
	printFacts(w, "  ", s.Facts)
	if len(s.Signatures) < 2 {
		return
	}
	for i, sig := range s.Signatures {
		fmt.Fprintf(w, "  %d. %s\n     %s\n", i+1, printable(sig.Title), printable(sig.Sentence))
		printFacts(w, "     ", sig.Facts)
	}
}

func printFacts(w io.Writer, indent string, facts []sigverify.Fact) {
	for _, f := range facts {
		fmt.Fprintf(w, "%s- %s: %s\n", indent, printable(f.Label), printable(f.Value))
	}
}

// printable keeps what a certificate says from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '\uFFFD'
		}
		return r
	}, s)
}

// printReports writes one report as it is, several as a list with their files.
func printReports(w io.Writer, all []judged) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if len(all) == 1 {
		return e.Encode(all[0].Report)
	}
	return e.Encode(all)
}
