package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/cmd/sealctl/onebox"
	"sealgate/cmd/sealctl/softcard"
	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/agency"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
	"sealgate/internal/softauthn"
)

// childVariable makes this test program a server instead, so that a test can
// kill a whole node.
const childVariable = "SEALGATE_TEST_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		return
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(&libraries, nil)))
	code := m.Run()
	stopCards()
	if err := pgtest.Shutdown(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// libraries is what libraries log that know nothing of our log.
var libraries lockedBuffer

// deadline is for one test; nothing here should come near it.
const deadline = 5 * time.Minute

// site is where the demonstration client says it lives; nothing answers there.
const site = "http://localhost:9"

// nodeConfig is what makes a node; all nodes of a world share it.
type nodeConfig struct {
	Dir, URL, Listen, Secret string
	Settings                 map[string]string
}

func (c nodeConfig) start(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) (*onebox.Box, error) {
	return onebox.Start(ctx, onebox.Config{Dir: c.Dir, Pool: pool, DatabaseURL: c.URL, Listen: c.Listen, Site: site,
		Secret: c.Secret, Settings: c.Settings, Log: log})
}

// child runs one node until its standard input ends: that is when its parent
// does. It says its address when it serves.
func child(text string) error {
	var c nodeConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	ctx := context.Background()
	pool, err := postgres.Open(ctx, c.URL, 8)
	if err != nil {
		return err
	}
	box, err := c.start(ctx, pool, slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	fmt.Println(strings.TrimPrefix(box.Origin, "http://"))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return box.Close()
}

// The test cards are the same for all tests: making them takes seconds.
var cards struct {
	once      sync.Once
	component *softcard.Component
	err       error
	stop      func()
}

func testCards(t testing.TB) *softcard.Component {
	t.Helper()
	cards.once.Do(func() {
		var dir string
		if dir, cards.err = os.MkdirTemp("", "sealgate-cards-"); cards.err != nil {
			return
		}
		cards.component, cards.err = softcard.New(softcard.Config{Dir: dir, ComponentAddr: "localhost:0", RepositoryAddr: "localhost:0",
			Log: slog.New(slog.DiscardHandler)})
		if cards.err != nil {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = cards.component.Serve(ctx) }()
		cards.stop = func() { cancel(); <-done; _ = os.RemoveAll(dir) }
		cardsDir = dir
	})
	if cards.err != nil {
		t.Fatal(cards.err)
	}
	return cards.component
}

var cardsDir string

func stopCards() {
	if cards.stop != nil {
		cards.stop()
	}
}

// lockedBuffer is a log that many goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is a service with its own database, and the people around it.
type world struct {
	t      testing.TB
	ctx    context.Context
	config nodeConfig
	pool   *pgxpool.Pool // for looking into the database
	origin string        // what people see
	node   string        // host:port of the first node
	log    *lockedBuffer
	cards  []softcard.CardInfo
	reader string
	box    *onebox.Box // the node in this process
}

// newWorld starts a service with one node in this process.
func newWorld(t testing.TB, settings map[string]string) *world {
	t.Helper()
	w := prepare(t, settings)
	listener := w.config
	listener.Listen = w.node
	pool, err := postgres.Open(w.ctx, w.config.URL, 16)
	if err != nil {
		t.Fatal(err)
	}
	box, err := listener.start(w.ctx, pool, slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	w.box = box
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
		pool.Close()
	})
	return w
}

// prepare makes all of a world but its nodes.
func prepare(t testing.TB, settings map[string]string) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	component := testCards(t)
	url := pgtest.URL(t)
	pool, err := postgres.Open(ctx, url, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	w := &world{t: t, ctx: ctx, pool: pool, node: freeAddress(t), log: &lockedBuffer{}, cards: component.Cards(), reader: component.URL()}
	_, port, _ := net.SplitHostPort(w.node)
	w.origin = "http://localhost:" + port
	w.config = nodeConfig{Dir: t.TempDir(), URL: url, Secret: agency.NewSecret(), Settings: map[string]string{
		"public_origin":          w.origin,
		"card.anchors_dir":       filepath.Join(cardsDir, "anchors"),
		"card.intermediates_dir": filepath.Join(cardsDir, "intermediates"),
		"egress.allow":           strings.TrimPrefix(component.RepositoryURL(), "http://"),
	}}
	for key, value := range settings {
		w.config.Settings[key] = value
	}
	return w
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// process is a node in a process of its own.
type process struct {
	cmd     *exec.Cmd
	address string
	once    sync.Once
}

// process starts one more node in its own process.
func (w *world) process() *process {
	w.t.Helper()
	c := w.config
	c.Listen = "localhost:0"
	text, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	cmd.Stderr = w.log
	if _, err := cmd.StdinPipe(); err != nil { // closed when we end, however we end
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	p := &process{cmd: cmd}
	w.t.Cleanup(p.kill)
	line := make([]byte, 256)
	n, err := out.Read(line)
	if err != nil {
		w.t.Fatalf("the node did not start: %v\n%s", err, w.log)
	}
	p.address = strings.TrimSpace(string(line[:n]))
	return p
}

// kill ends the node at once, as kill -9 does.
func (p *process) kill() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
}

// through is a transport that reaches a certain node, whatever the address says.
func through(address string) http.RoundTripper {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	return &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}, DisableCompression: true}
}

// browser is a new browser whose requests go to the node.
func (w *world) browser(node ...string) *softphone.Browser {
	w.t.Helper()
	var transport http.RoundTripper
	if len(node) > 0 {
		transport = through(node[0])
	}
	b, err := softphone.NewBrowser(w.origin, transport)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// moved is the same browser or phone, whose next requests reach another node.
func moved(client *http.Client, node string) *http.Client {
	c := *client
	c.Transport = through(node)
	return &c
}

// phone is a phone with these keys whose requests go to the node.
func (w *world) phone(keys *softauthn.Authenticator, node ...string) *softphone.Phone {
	c := &http.Client{Timeout: time.Minute}
	if len(node) > 0 {
		c.Transport = through(node[0])
	}
	return softphone.New(softphone.Config{Server: w.origin, Keys: keys, HTTP: c})
}

// enrolment is a card's holder who is about to bind a new phone.
func (w *world) enrolment(card int, node ...string) softphone.Enrolment {
	info := w.cards[card]
	return softphone.Enrolment{Browser: w.browser(node...), Phone: w.phone(softauthn.New(softauthn.Options{}), node...), NationalID: info.NationalID,
		Card: softphone.Card{Component: w.reader, Number: info.Number, PIN: info.PIN}}
}

// enrol binds a new phone to a test card.
func (w *world) enrol(card int, node ...string) *softphone.Phone {
	w.t.Helper()
	e := w.enrolment(card, node...)
	if _, err := e.Run(w.ctx); err != nil {
		w.t.Fatalf("enrol: %v\n%s", err, tail(w.log.String()))
	}
	return e.Phone
}

func tail(s string) string { return s[max(0, len(s)-4000):] }

// must stops the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
