// Package softcard is a TEST COMPONENT: it plays the HiPKI local component
// that citizen-card users have on their computers, with test cards instead of
// a reader. It speaks the popup protocol on localhost:61161, so that pages
// written for the real component work with it unchanged, and serves the test
// authority's OCSP, CRL and certificates on localhost:61162.
//
// The cards belong to a throw-away authority (internal/pkitest) that is made
// at the first start and kept in Config.Dir. Their keys lie there in the
// clear. A server that trusts Config.Dir/anchors trusts everybody who can read
// that directory: for development and tests only.
//
// Routes of the component:
//
//	GET  /popupForm, /ChtPopupForm   the page that a site opens with window.open
//	GET  /pkcs11info[?withcert=true] readers, cards, certificates
//	POST /sign                       form field tbsPackage=<JSON>
//	GET  /p11Image.bmp               pkcs11info as a picture, 3 bytes a pixel
//	GET  /selfTest.htm               what is here, for people
//	GET  /addDomain?domain=          asks whether to trust a site; POST does it
//	GET  /insert?card=               test control: which card is inserted
//
// As with the real component there are no CORS headers: a page reaches the
// API only through the popup, which passes one request on and closes.
package softcard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"sealgate/internal/pkitest"
)

const (
	// DefaultComponentAddr is where pages look for the component.
	DefaultComponentAddr = "localhost:61161"
	// DefaultRepositoryAddr is where the cards' certificates say that OCSP
	// and CRL are.
	DefaultRepositoryAddr = "localhost:61162"
	// Version is not below any minimum that pages enforce (Windows
	// 1.3.4.103328, macOS 1.3.4.13, Linux 1.3.4.3), and says what this is.
	Version = "1.3.4.199999 Sealgate-TEST"
	// OldVersion is below all of them.
	OldVersion = "1.3.4.1 Sealgate-TEST"

	libraryVersion = "Sealgate soft card, TEST ONLY"
	stopTimeout    = 3 * time.Second
)

// Config says where to keep the cards and where to listen.
type Config struct {
	// Dir keeps the authority, the cards and the state of their PINs, and
	// receives anchors/*.cer and intermediates/*.cer. Required.
	Dir string
	// ComponentAddr and RepositoryAddr default to the constants above. The
	// host "localhost" listens on 127.0.0.1 and, where there is one, on ::1.
	ComponentAddr, RepositoryAddr string
	// TrustedOrigins are the sites that may ask for signatures: an origin
	// ("https://id.example.gov.tw") or a host, which means any scheme and port.
	// Default: localhost.
	TrustedOrigins []string
	// OldVersion makes the component say that it is older than pages accept.
	OldVersion bool
	// Log gets one entry a request: function and ret_code, never a PIN.
	Log *slog.Logger
	// Out receives the list of cards when Run starts; nil: none.
	Out io.Writer
}

// Component is the component with its cards, listening but not yet serving.
type Component struct {
	log        *slog.Logger
	out        io.Writer
	hierarchy  *pkitest.Hierarchy
	store      *store
	component  []net.Listener
	repository []net.Listener

	mu       sync.Mutex
	inserted inserted
	version  string
	trusted  []string
}

// Run makes the component and serves until the context ends.
func Run(ctx context.Context, cfg Config) error {
	c, err := New(cfg)
	if err != nil {
		return err
	}
	if c.out != nil {
		c.Print(c.out)
	}
	return c.Serve(ctx)
}

// New opens the ports, finds or makes the cards, and writes the trust store.
// After it, a server can be given Dir/anchors and Dir/intermediates; nothing is
// answered before Serve.
func New(cfg Config) (_ *Component, err error) {
	if cfg.Dir == "" {
		return nil, errors.New("softcard: no directory given")
	}
	if cfg.ComponentAddr == "" {
		cfg.ComponentAddr = DefaultComponentAddr
	}
	if cfg.RepositoryAddr == "" {
		cfg.RepositoryAddr = DefaultRepositoryAddr
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.TrustedOrigins) == 0 {
		cfg.TrustedOrigins = []string{"localhost"}
	}
	c := &Component{log: cfg.Log, out: cfg.Out, version: Version, trusted: cfg.TrustedOrigins}
	if cfg.OldVersion {
		c.version = OldVersion
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.component, err = listen(cfg.ComponentAddr); err != nil {
		return nil, err
	}
	if c.repository, err = listen(cfg.RepositoryAddr); err != nil {
		return nil, err
	}
	if c.hierarchy, err = openHierarchy(cfg.Dir, "http://"+publicAddr(cfg.RepositoryAddr, c.repository), cfg.Log); err != nil {
		return nil, err
	}
	if c.store, err = openStore(cfg.Dir, c.hierarchy); err != nil {
		return nil, err
	}
	c.trusted = append(c.trusted, c.store.sites()...)
	return c, writeTrustStore(cfg.Dir, c.hierarchy)
}

// Serve answers until the context ends. It closes the ports.
func (c *Component) Serve(ctx context.Context) error {
	servers := []*http.Server{
		{Handler: c.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10},
		{Handler: c.Repository(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10},
	}
	failed := make(chan error, 4)
	for i, listeners := range [][]net.Listener{c.component, c.repository} {
		for _, l := range listeners {
			go func() { failed <- servers[i].Serve(l) }()
		}
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	for _, s := range servers {
		if s.Shutdown(stop) != nil {
			_ = s.Close()
		}
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("softcard: %w", err)
	}
	return nil
}

// Repository serves the test authority's OCSP, CRLs and certificates.
func (c *Component) Repository() http.Handler { return c.hierarchy.Handler() }

// URL is the component's address as pages use it.
func (c *Component) URL() string { return "http://" + publicAddr("localhost:0", c.component) }

// RepositoryURL is the address inside the certificates.
func (c *Component) RepositoryURL() string { return c.hierarchy.BaseURL() }

// Hierarchy is the test authority, for tests that revoke a card or take the
// responder down.
func (c *Component) Hierarchy() *pkitest.Hierarchy { return c.hierarchy }

func (c *Component) close() {
	for _, l := range append(c.component, c.repository...) {
		_ = l.Close()
	}
}

// listen opens the address; for "localhost" both loopback addresses, because a
// browser may try either first.
func listen(addr string) ([]net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("softcard: %w", err)
	}
	if host != "localhost" {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("softcard: %w", err)
		}
		return []net.Listener{l}, nil
	}
	first, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return nil, fmt.Errorf("softcard: %w", err)
	}
	_, port, _ = net.SplitHostPort(first.Addr().String())
	second, err := net.Listen("tcp6", net.JoinHostPort("::1", port))
	if err != nil {
		return []net.Listener{first}, nil // a machine without IPv6
	}
	return []net.Listener{first, second}, nil
}

// publicAddr is host:port with the host as configured and the port in use.
func publicAddr(configured string, open []net.Listener) string {
	host, _, _ := net.SplitHostPort(configured)
	_, port, _ := net.SplitHostPort(open[0].Addr().String())
	return net.JoinHostPort(host, port)
}
