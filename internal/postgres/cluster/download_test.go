package cluster

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// repository serves a stand-in for the embedded-postgres archives.
func repository(t *testing.T, sum func([]byte) string) (url string, requests *int) {
	t.Helper()
	txz, err := os.ReadFile("testdata/programs.txz")
	if err != nil {
		t.Fatal(err)
	}
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	w, err := z.Create("postgres.txz")
	if err == nil {
		_, err = w.Write(txz)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	requests = new(int)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*requests++
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			_, _ = io.WriteString(w, sum(jar.Bytes()))
			return
		}
		_, _ = w.Write(jar.Bytes())
	}))
	t.Cleanup(srv.Close)
	return srv.URL, requests
}

func sha(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func TestDownloadUnpacksAndIsKept(t *testing.T) {
	url, requests := repository(t, sha)
	dir := filepath.Join(t.TempDir(), "programs")
	for range 2 {
		b, err := download(t.Context(), dir, url, "", io.Discard)
		if err != nil || b.Version != "18.0" || b.Dir != filepath.Join(dir, "bin") {
			t.Fatalf("%+v, %v", b, err)
		}
	}
	if *requests != 2 { // archive and sum, once
		t.Errorf("%d requests", *requests)
	}
}

func TestDownloadRefusesADamagedArchive(t *testing.T) {
	url, _ := repository(t, func([]byte) string { return strings.Repeat("0", 64) })
	dir := filepath.Join(t.TempDir(), "programs")
	_, err := download(t.Context(), dir, url, "", io.Discard)
	if !errors.Is(err, ErrNoBinaries) || !strings.Contains(err.Error(), "checksums") {
		t.Errorf("error: %v", err)
	}
}

func TestDownloadOnlyWhenAskedFor(t *testing.T) {
	t.Setenv("PG_BIN", "")
	t.Setenv("PATH", t.TempDir())
	url, requests := repository(t, sha)
	if len(candidates("")) > 1 {
		t.Log("PostgreSQL is installed here: the programs found come first")
	}
	_, err := Start(t.Context(), Config{Dir: passableTemp(t), Binaries: t.TempDir(), DownloadFrom: url})
	if !errors.Is(err, ErrNoBinaries) || *requests != 0 {
		t.Errorf("a named directory is empty: %d requests, %v", *requests, err)
	}
}
