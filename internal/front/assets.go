package front

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// Assets are the built files of web/dist: their names carry a hash of their
// content, so browsers may keep them for ever.
type Assets struct {
	files map[string]assetFile // by built name: "assets/qr-1a2b3c4d5e.js"
	names map[string]string    // plain name → built name
}

type assetFile struct {
	mediaType string
	plain     []byte
	gzipped   []byte // nil when it would not be smaller
}

// LoadAssets reads all built files into memory. An empty dist is an error that
// says what to do.
func LoadAssets(dist fs.FS) (*Assets, error) {
	data, err := fs.ReadFile(dist, "manifest.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("front: the pages' scripts and styles are not built: run `make web`, then build again")
	}
	if err != nil {
		return nil, err
	}
	a := &Assets{files: map[string]assetFile{}, names: map[string]string{}}
	if err := json.Unmarshal(data, &a.names); err != nil {
		return nil, fmt.Errorf("front: manifest.json: %w", err)
	}
	for _, built := range a.names {
		f := assetFile{mediaType: mediaType(built)}
		if f.plain, err = fs.ReadFile(dist, built); err != nil {
			return nil, fmt.Errorf("front: manifest names a file that is not there: %w", err)
		}
		f.gzipped, err = fs.ReadFile(dist, built+".gz")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		a.files[built] = f
	}
	return a, nil
}

func mediaType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".wasm":
		return "application/wasm"
	case ".webmanifest":
		return "application/manifest+json"
	default:
		if t := mime.TypeByExtension(ext); t != "" {
			return t
		}
		return "application/octet-stream"
	}
}

// URL gives the address of a file by its plain name ("qr.js"), or "" when the
// build has none.
func (a *Assets) URL(name string) string {
	if built, ok := a.names[name]; ok {
		return "/" + built
	}
	return ""
}

// Read gives the content of a file by its plain name.
func (a *Assets) Read(name string) ([]byte, bool) {
	f, ok := a.files[a.names[name]]
	return f.plain, ok
}

// Serve answers with a file by its plain name under a fixed address, to be
// asked for again each time (the service worker, the app manifest).
func (a *Assets) Serve(w http.ResponseWriter, r *http.Request, name string) {
	f, ok := a.files[a.names[name]]
	if !ok {
		Fail(w, r, errNotFound)
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	f.write(w, r)
}

// ServeHTTP answers /assets/*.
func (a *Assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[strings.TrimPrefix(r.URL.Path, "/")]
	if !ok {
		Fail(w, r, errNotFound)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	if strings.Contains(r.URL.Path, ".worker-") {
		// A worker has the policy of its own answer, not of the page; ours compile WebAssembly.
		w.Header().Set("Content-Security-Policy", workerCSP)
	}
	f.write(w, r)
}

func (f assetFile) write(w http.ResponseWriter, r *http.Request) {
	h, body := w.Header(), f.plain
	h.Set("Content-Type", f.mediaType)
	if f.gzipped != nil {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Get("Accept-Encoding")) {
			h.Set("Content-Encoding", "gzip")
			body = f.gzipped
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

const workerCSP = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"

func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q := strings.ReplaceAll(params, " ", "")
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}

// Assets gives the handler of /assets/*.
func (s *Shell) Assets() http.Handler { return s.assets }
