package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealgate/internal/cms"
	"sealgate/internal/keyring"
)

// Stream is one document of any size that goes by, in a process of its own.
type Stream struct {
	What    string  `json:"what"` // hash; attached: written into a signature, read and verified
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	// PeakKB is the most memory the process ever held, SmallKB the same for a
	// document of a mebibyte: what is between them is the document's.
	PeakKB  int64 `json:"peak_kb"`
	SmallKB int64 `json:"peak_kb_of_1_mib"`
}

// measureMemory runs each stream twice, small and large.
func measureMemory(ctx context.Context, size int64) ([]Stream, error) {
	var out []Stream
	for _, what := range []string{"hash", "attached"} {
		small, err := streamChild(ctx, what, 1<<20)
		if err != nil {
			return nil, err
		}
		large, err := streamChild(ctx, what, size)
		if err != nil {
			return nil, err
		}
		large.SmallKB = small.PeakKB
		out = append(out, *large)
	}
	return out, nil
}

func streamChild(ctx context.Context, what string, size int64) (*Stream, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "bench", "stream", "--what", what, "--size", strconv.FormatInt(size, 10))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	raw, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", what, err, stderr.Bytes())
	}
	var s Stream
	return &s, json.Unmarshal(raw, &s)
}

// streamCommand is the child.
func streamCommand() *cobra.Command {
	var what string
	var size int64
	cmd := &cobra.Command{
		Use: "stream", Short: "One large document; started by the bench itself", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			start := time.Now()
			var err error
			switch what {
			case "hash":
				_, _, err = cms.DigestReader(cmd.Context(), document(size), crypto.SHA256, size)
			case "attached":
				err = attached(cmd.Context(), size)
			default:
				err = errors.New("--what: hash or attached")
			}
			if err != nil {
				return err
			}
			took := time.Since(start)
			peak, err := peakMemory()
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(Stream{What: what, Bytes: size, Seconds: took.Seconds(), PeakKB: peak})
		},
	}
	cmd.Flags().StringVar(&what, "what", "", "hash or attached")
	cmd.Flags().Int64Var(&size, "size", 0, "octets of the document")
	return cmd
}

// document is generated as it is read: the same octets each time.
func document(size int64) io.Reader { return io.LimitReader(&pattern{}, size) }

// pattern repeats a line.
type pattern struct{ at int }

func (p *pattern) Read(b []byte) (int, error) {
	const line = "a line of a very long document\n"
	n := 0
	for n < len(b) {
		c := copy(b[n:], line[p.at:])
		n += c
		p.at = (p.at + c) % len(line)
	}
	return n, nil
}

// attached signs the document with it inside, and verifies what was written as
// it is written.
func attached(ctx context.Context, size int64) error {
	l, err := newLab(keyring.P256)
	if err != nil {
		return err
	}
	digest, _, err := cms.DigestReader(ctx, document(size), crypto.SHA256, size)
	if err != nil {
		return err
	}
	tbs, err := cms.SignedAttributes(digest, l.signer, cms.Options{SigningTime: time.Now()})
	if err != nil {
		return err
	}
	info, err := tbs.Sign(rand.Reader)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	go func() {
		_ = w.CloseWithError(cms.WriteAttached(w, cms.Attached{Content: document(size), Size: size,
			Certificates: append([]*x509.Certificate{l.signer.Certificate}, l.signer.Chain...), Signers: []*cms.SignerInfo{info}}))
	}()
	sd, err := cms.ParseStream(bufio.NewReaderSize(r, 1<<18), nil, size)
	if err != nil {
		return err
	}
	results, err := sd.Verify(cms.VerifyInput{RequireSigningCertificate: true})
	if err == nil {
		err = cms.Good(results)
	}
	if err == nil && sd.ContentSize != size {
		err = fmt.Errorf("%d octets came back of %d", sd.ContentSize, size)
	}
	return err
}

// peakMemory is the most that this process ever held resident, in KB.
func peakMemory() (int64, error) {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	return field(raw, "VmHWM:")
}

// field reads a line of /proc/PID/status in KB.
func field(status []byte, name string) (int64, error) {
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			if words := strings.Fields(value); len(words) == 2 && words[1] == "kB" {
				return strconv.ParseInt(words[0], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("bench: no %s in /proc/self/status", name)
}
