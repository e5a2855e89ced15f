package site

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// work is the last thing that this browser gave to sign.
type work struct {
	What     string // documents, clock-in, transfer
	Order    string
	StartURL string
	Files    []file
	at       time.Time
}

// The REST API's messages, as far as this site uses them.
type (
	apiDocument struct {
		Name            string `json:"name"`
		MediaType       string `json:"media_type"`
		Size            int    `json:"size"`
		DigestAlgorithm string `json:"digest_algorithm"`
		Digest          string `json:"digest"`
	}
	apiSignOrder struct {
		Text      string        `json:"text"`
		Documents []apiDocument `json:"documents"`
		ReturnURI string        `json:"return_uri"`
		Subject   string        `json:"subject,omitempty"`
	}
	apiOrder struct {
		Order     string `json:"order"`
		State     string `json:"state"`
		StartURL  string `json:"start_url"`
		Documents []struct {
			Index        int    `json:"index"`
			Name         string `json:"name"`
			State        string `json:"state"`
			SignatureURL string `json:"signature_url"`
		} `json:"documents"`
	}
	apiProblem struct {
		Code     string `json:"code"`
		Detail   string `json:"detail"`
		NextStep string `json:"next_step"`
	}
)

// maxAnswer bounds what is read from the API, in bytes.
const maxAnswer = 1 << 20

func (s *Site) documents(w http.ResponseWriter, r *http.Request) {
	_, session := s.sessions.get(w, r)
	s.pages.show(w, r, http.StatusOK, "documents", map[string]any{"Who": session.identity(), "Files": sampleFiles(langOf(r))})
}

func (s *Site) sampleDocument(w http.ResponseWriter, r *http.Request) {
	files := sampleFiles(langOf(r))
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 0 || n >= len(files) {
		s.pages.fail(w, r, http.StatusNotFound, "error.not_found", "")
		return
	}
	files[n].serve(w)
}

func (s *Site) clockIn(w http.ResponseWriter, r *http.Request) {
	_, session := s.sessions.get(w, r)
	s.pages.show(w, r, http.StatusOK, "clock-in", map[string]any{"Who": session.identity(), "Now": time.Now()})
}

func (s *Site) transfer(w http.ResponseWriter, r *http.Request) {
	_, session := s.sessions.get(w, r)
	s.pages.show(w, r, http.StatusOK, "transfer", map[string]any{"Who": session.identity()})
}

// startSign makes the files, creates a sign order with their digests, and
// sends the browser to it. The files themselves never leave this site.
func (s *Site) startSign(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.pages.fail(w, r, http.StatusBadRequest, "error.form", "")
		return
	}
	text, files, err := prepare(r.PathValue("what"), r.PostForm, langOf(r), time.Now())
	if err != nil {
		s.pages.fail(w, r, http.StatusUnprocessableEntity, "error.form", err.Error())
		return
	}
	_, session := s.sessions.get(w, r)
	order := apiSignOrder{Text: text, ReturnURI: s.cfg.Origin + "/signed"}
	if who := session.identity(); who != nil {
		order.Subject = who.Subject // only the person who is logged in here may sign
	}
	for _, f := range files {
		digest := sha256.Sum256(f.Content)
		order.Documents = append(order.Documents, apiDocument{Name: f.Name, MediaType: f.MediaType, Size: len(f.Content),
			DigestAlgorithm: "SHA-256", Digest: base64.RawURLEncoding.EncodeToString(digest[:])})
	}
	var made apiOrder
	if err := s.call(r.Context(), http.MethodPost, "/api/v1/sign-orders", order, &made); err != nil {
		s.apiFailed(w, r, err)
		return
	}
	start, err := url.Parse(made.StartURL)
	if err != nil || start.Scheme+"://"+start.Host != s.cfg.Issuer {
		s.apiFailed(w, r, errors.New("start_url leads elsewhere"))
		return
	}
	session.mu.Lock()
	session.work = &work{What: r.PathValue("what"), Order: made.Order, StartURL: made.StartURL, Files: files, at: time.Now()}
	session.mu.Unlock()
	http.Redirect(w, r, made.StartURL, http.StatusSeeOther)
}

func (s *session) current() *work {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.work
}

// signed is where the browser comes back to: it waits for the result by long
// poll and offers the files and their signatures.
func (s *Site) signed(w http.ResponseWriter, r *http.Request) {
	_, session := s.sessions.get(w, r)
	work := session.current()
	if work == nil {
		s.pages.fail(w, r, http.StatusNotFound, "error.nothing", "")
		return
	}
	var o apiOrder
	if err := s.call(r.Context(), http.MethodGet, "/api/v1/sign-orders/"+url.PathEscape(work.Order)+"?wait=25", nil, &o); err != nil {
		s.apiFailed(w, r, err)
		return
	}
	status := make(map[int]string)
	ready := false
	for _, d := range o.Documents {
		status[d.Index] = d.State
		ready = ready || d.State == "signed"
	}
	s.pages.show(w, r, http.StatusOK, "signed", map[string]any{"Who": session.identity(), "Work": work, "State": o.State,
		"Documents": status, "Ready": ready, "Issuer": s.cfg.Issuer, "Waiting": o.State == "created" || o.State == "scanned" || o.State == "approved"})
}

func (s *Site) signedFile(w http.ResponseWriter, r *http.Request) (*work, int, bool) {
	_, session := s.sessions.get(w, r)
	work := session.current()
	n, err := strconv.Atoi(r.PathValue("n"))
	if work == nil || err != nil || n < 0 || n >= len(work.Files) {
		s.pages.fail(w, r, http.StatusNotFound, "error.nothing", "")
		return nil, 0, false
	}
	return work, n, true
}

func (s *Site) signedDocument(w http.ResponseWriter, r *http.Request) {
	if work, n, ok := s.signedFile(w, r); ok {
		work.Files[n].serve(w)
	}
}

func (s *Site) signature(w http.ResponseWriter, r *http.Request) {
	work, n, ok := s.signedFile(w, r)
	if !ok {
		return
	}
	path := fmt.Sprintf("/api/v1/sign-orders/%s/documents/%d/signature", url.PathEscape(work.Order), n)
	var p7s []byte
	if err := s.call(r.Context(), http.MethodGet, path, nil, &p7s); err != nil {
		s.apiFailed(w, r, err)
		return
	}
	file{Name: work.Files[n].Name + ".p7s", MediaType: "application/pkcs7-signature", Content: p7s}.serve(w)
}

// problem is an answer of the API that is not a success.
type problem struct {
	status int
	apiProblem
}

func (p *problem) Error() string { return fmt.Sprintf("%d %s: %s", p.status, p.Code, p.Detail) }

// call asks the REST API. out is a pointer to a JSON message, or to []byte for
// the bare bytes.
func (s *Site) call(ctx context.Context, method, path string, in, out any) error {
	p, err := s.provider(ctx)
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.cfg.Issuer+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := p.api.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		failed := &problem{status: res.StatusCode}
		_ = json.Unmarshal(raw, &failed.apiProblem) // what cannot be read stays empty
		return failed
	}
	if bare, ok := out.(*[]byte); ok {
		*bare = raw
		return nil
	}
	return json.Unmarshal(raw, out)
}

func (s *Site) apiFailed(w http.ResponseWriter, r *http.Request, err error) {
	s.cfg.Log.WarnContext(r.Context(), "API call", "error", err)
	var p *problem
	if !errors.As(err, &p) {
		s.pages.fail(w, r, http.StatusBadGateway, "error.unreachable", "")
		return
	}
	s.pages.fail(w, r, http.StatusBadGateway, "error.api", strings.TrimSpace(p.Code+" "+p.Detail+" "+p.NextStep))
}
