package softphone

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"sealgate/internal/softauthn"
)

// Browser plays a browser at a computer: it has cookies, and follows nothing by
// itself. Only the browser that started an order receives its result.
type Browser struct {
	server string
	http   *http.Client
}

// State is what the page of an order follows.
type State struct {
	Order      string `json:"order"`
	Kind       string `json:"kind"`
	State      string `json:"state"`
	ExtendLeft int    `json:"extend_left"`
	Frame      string `json:"frame"`
	Next       string `json:"next"`
	EndReason  string `json:"end_reason"`
	Code       string `json:"code"`
	Check      *struct {
		Required  bool `json:"required"`
		TriesLeft int  `json:"tries_left"`
	} `json:"check"`
	Documents []struct {
		Index int    `json:"index"`
		Name  string `json:"name"`
		State string `json:"state"`
	} `json:"documents"`
}

// Page is an answer that may be a page, a redirect or anything else.
type Page struct {
	Status   int
	Location string // absolute, of a redirect
	Header   http.Header
	Body     []byte
}

// NewBrowser makes a browser without cookies; transport nil is the default one.
func NewBrowser(server string, transport http.RoundTripper) (*Browser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &Browser{server: strings.TrimSuffix(server, "/"), http: &http.Client{
		Jar: jar, Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Phone is a phone whose browser this is: the same-device road.
func (b *Browser) Phone(keys *softauthn.Authenticator) *Phone {
	return New(Config{Server: b.server, Keys: keys, HTTP: b.http})
}

// Client gives the HTTP client with the browser's cookies.
func (b *Browser) Client() *http.Client { return b.http }

// Get opens an address, absolute or a path of the server.
func (b *Browser) Get(ctx context.Context, address string) (*Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.absolute(address), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	res, err := b.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	p := &Page{Status: res.StatusCode, Header: res.Header, Body: body}
	if to, err := res.Location(); err == nil {
		p.Location = to.String()
	}
	return p, nil
}

func (b *Browser) absolute(address string) string {
	if strings.HasPrefix(address, "/") {
		return b.server + address
	}
	return address
}

// Follow opens the address to which an agency (or our own page) sent the
// browser and gives the order that it led to.
func (b *Browser) Follow(ctx context.Context, address string) (order string, err error) {
	page, err := b.Get(ctx, address)
	if err != nil {
		return "", err
	}
	if page.Status == http.StatusSeeOther || page.Status == http.StatusFound {
		u, err := url.Parse(page.Location)
		if err != nil {
			return "", err
		}
		if id, ok := strings.CutPrefix(u.Path, "/o/"); ok && !strings.Contains(id, "/") {
			return id, nil
		}
	}
	return "", fmt.Errorf("softphone: %d, sent to %q instead of to an order", page.Status, page.Location)
}

// Open opens an order that a client made over the REST API: startURL is what
// the client was given for this browser.
func (b *Browser) Open(ctx context.Context, startURL string) (order string, err error) {
	u, err := url.Parse(startURL)
	if err != nil {
		return "", err
	}
	id, ok := strings.CutPrefix(u.Path, "/start/")
	if !ok || u.Fragment == "" {
		return "", errors.New("softphone: that is no start address of an order")
	}
	_, err = b.Step(ctx, id, "open", map[string]string{"start_token": u.Fragment})
	return id, err
}

// Order reads how an order of this browser stands.
func (b *Browser) Order(ctx context.Context, order string) (*State, error) {
	var st State
	err := call(ctx, b.http, http.MethodGet, b.server+"/o/"+url.PathEscape(order)+"/state", nil, nil, &st)
	return &st, err
}

// Frame is what the order's QR picture says now.
func (b *Browser) Frame(ctx context.Context, order string) (string, error) {
	st, err := b.Order(ctx, order)
	if err != nil {
		return "", err
	}
	if st.Frame == "" {
		return "", fmt.Errorf("softphone: the order is %s and shows no QR code", st.State)
	}
	return st.Frame, nil
}

// Step does what a button of the page does: cancel, extend, freeze, check,
// code, open.
func (b *Browser) Step(ctx context.Context, order, step string, body any) (*State, error) {
	if body == nil {
		body = struct{}{}
	}
	var st State
	err := call(ctx, b.http, http.MethodPost, b.server+"/o/"+url.PathEscape(order)+"/"+step, nil, body, &st)
	return &st, err
}

// Check types the two digits that the phone shows.
func (b *Browser) Check(ctx context.Context, order, digits string) error {
	_, err := b.Step(ctx, order, "check", map[string]string{"digits": digits})
	return err
}

// WaitFor reads an order until it is in one of the states.
func (b *Browser) WaitFor(ctx context.Context, order string, states ...string) (*State, error) {
	for {
		st, err := b.Order(ctx, order)
		if err != nil {
			return nil, err
		}
		for _, want := range states {
			if st.State == want {
				return st, nil
			}
		}
		select {
		case <-ctx.Done():
			return st, fmt.Errorf("softphone: the order is still %s: %w", st.State, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Return is where the browser is sent when an order is over.
func (b *Browser) Return(ctx context.Context, order string) (string, error) {
	page, err := b.Get(ctx, "/o/"+url.PathEscape(order)+"/return")
	if err != nil {
		return "", err
	}
	if page.Location == "" {
		return "", &Problem{Status: page.Status, Detail: "the page did not send the browser back"}
	}
	return page.Location, nil
}

// LogIn logs in to the service's own pages with a phone.
func (b *Browser) LogIn(ctx context.Context, p *Phone) error {
	id, err := b.Follow(ctx, "/session/login?return=/sign")
	if err != nil {
		return err
	}
	frame, err := b.Frame(ctx, id)
	if err != nil {
		return err
	}
	c, err := p.Scan(ctx, frame)
	if err != nil {
		return err
	}
	if _, err := p.Approve(ctx, c); err != nil {
		return err
	}
	to, err := b.Return(ctx, id)
	if err == nil && !strings.HasSuffix(to, "/sign") {
		err = fmt.Errorf("softphone: sent to %q instead of to the signing page", to)
	}
	return err
}

// SignFiles makes a sign order of the logged-in person over digests.
func (b *Browser) SignFiles(ctx context.Context, documents []Document) (order string, err error) {
	type file struct {
		Name            string `json:"name"`
		MediaType       string `json:"media_type"`
		Size            int64  `json:"size"`
		DigestAlgorithm string `json:"digest_algorithm"`
		Digest          string `json:"digest"`
	}
	files := make([]file, len(documents))
	for i, d := range documents {
		files[i] = file{d.Name, d.MediaType, d.Size, d.DigestAlgorithm, d.Digest}
	}
	var out struct {
		Order string `json:"order"`
	}
	err = call(ctx, b.http, http.MethodPost, b.server+"/sign/orders", nil, map[string]any{"documents": files}, &out)
	return out.Order, err
}

// Event is one event of an order's stream.
type Event struct{ Name, Data string }

// Events follows an order's event stream and hands each event over until next
// says false, the stream ends or the context does.
func (b *Browser) Events(ctx context.Context, order string, next func(Event) bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.server+"/o/"+url.PathEscape(order)+"/events", nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "text/event-stream")
	open := *b.http
	open.Timeout = 0 // a stream has no end
	res, err := open.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		return problem(res, raw)
	}
	return readEvents(res.Body, next)
}

// readEvents reads an event stream (HTML Living Standard §9.2.6): what our
// server sends of it.
func readEvents(r io.Reader, next func(Event) bool) error {
	lines := bufio.NewReaderSize(r, 1024)
	var e Event
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if e.Data != "" && !next(e) {
				return nil
			}
			e = Event{}
		case name == "event":
			e.Name = value
		case name == "data":
			e.Data += value
		}
	}
}
