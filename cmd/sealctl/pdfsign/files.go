package pdfsign

import (
	"context"
	"crypto"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sealgate/internal/cades"
	"sealgate/internal/cms"
	"sealgate/internal/pades"
)

// texts are what the signature says about itself to readers.
type texts struct {
	Name, Reason, Location, Contact string
	Reserve                         int
}

func (t texts) options() pades.Options {
	return pades.Options{SigningTime: time.Now(), Name: t.Name, Reason: t.Reason, Location: t.Location, Contact: t.Contact, Reserve: t.Reserve}
}

// prepareFile makes the update of a file.
func prepareFile(ctx context.Context, name string, o pades.Options) (*pades.Prepared, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p, err := pades.Prepare(ctx, f, info.Size(), o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// readPrepared reads what prepare wrote.
func readPrepared(name string) (*pades.Prepared, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var p pades.Prepared
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &p, nil
}

// check says whether a CMS signature is one over what was prepared, and has a
// time-stamp where one was asked for. Whether the certificates may be relied on
// is asked by "sealctl verify".
func check(p *pades.Prepared, der []byte, stamped bool) error {
	sd, err := cms.Parse(der)
	if err != nil {
		return err
	}
	results, err := sd.Verify(cms.VerifyInput{RequireSigningCertificate: true, Digest: func(h crypto.Hash) []byte {
		if h == p.Hash {
			return p.Digest
		}
		return nil
	}})
	if err == nil {
		err = cms.Good(results)
	}
	if err != nil {
		return fmt.Errorf("the signature is not one over this document: %w", err)
	}
	if !stamped {
		return nil
	}
	stamps, err := cades.Timestamps(sd, 0)
	if err != nil {
		return err
	}
	for _, t := range stamps {
		if t.Kind == cades.KindSignature {
			_, err := cades.Verify(sd, 0, t, nil)
			return err
		}
	}
	return errors.New("the signature came without the time-stamp that was asked for")
}

// embedFile writes the signed document: the original's bytes, then the update
// with the signature. Nothing is there under the name before all of it was
// read back and covers the document as it was prepared.
func embedFile(ctx context.Context, original string, p *pades.Prepared, der []byte, out string, replace bool) (err error) {
	update, err := p.Embed(der)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(out); err == nil && !replace {
		return fmt.Errorf("%s is there already; --force replaces it", out)
	}
	in, err := os.Open(original)
	if err != nil {
		return err
	}
	defer in.Close()
	temp, err := os.CreateTemp(filepath.Dir(out), ".signed-*.pdf")
	if err != nil {
		return err
	}
	defer func() {
		_ = temp.Close()
		if err != nil {
			_ = os.Remove(temp.Name())
		}
	}()
	n, err := io.Copy(temp, in)
	if err != nil {
		return err
	}
	if n != p.OriginalSize {
		return errChanged(original)
	}
	if _, err := temp.Write(update); err != nil {
		return err
	}
	if err := readBack(ctx, temp, n+int64(len(update)), p, original); err != nil {
		return err
	}
	if err := temp.Chmod(0o644); err != nil {
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	return os.Rename(temp.Name(), out)
}

func errChanged(name string) error {
	return fmt.Errorf("%s has changed since it was prepared: prepare and sign it again", name)
}

// readBack reads the new signature as a verifier does.
func readBack(ctx context.Context, f io.ReaderAt, size int64, p *pades.Prepared, name string) error {
	all, err := pades.Signatures(ctx, f, size)
	if err != nil {
		return err
	}
	for i := range all {
		s := &all[i]
		if s.Field != p.Field {
			continue
		}
		if s.Err != nil {
			return s.Err
		}
		digest, err := s.Digest(ctx, f, p.Hash)
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(digest, p.Digest) != 1 || !s.CoversWholeFile {
			return errChanged(name)
		}
		return nil
	}
	return errors.New("the new signature is not found in the document")
}

// signedName is where the signed document goes: letter.pdf, letter-signed.pdf.
func signedName(name string) string {
	ext := filepath.Ext(name)
	if !strings.EqualFold(ext, ".pdf") {
		return name + "-signed.pdf"
	}
	return strings.TrimSuffix(name, ext) + "-signed" + ext
}
