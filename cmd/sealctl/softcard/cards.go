package softcard

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"sealgate/internal/pkitest"
)

// State is what is to be expected of a card.
type State string

// The states of the test cards.
const (
	Good    State = "good"
	Expired State = "expired"
	Revoked State = "revoked"
)

// label is the state in both languages, for the pages.
func (s State) label() string {
	switch s {
	case Expired:
		return "已過期 / expired"
	case Revoked:
		return "已廢止 / revoked"
	}
	return "有效 / good"
}

// person is one of the people the test cards are issued to. None of them
// exists; the names say so.
type person struct {
	name  string
	id8   string // national ID without its check digit
	state State
}

var people = []person{
	{"測試甲", "A12300001", Good},
	{"測試乙", "B22300002", Good},
	{"測試丙", "F12300003", Good},
	{"測試丁", "H22300004", Good},
	{"測試過期", "A12300005", Expired},
	{"測試廢止", "A22300006", Revoked},
}

const (
	pin     = "12345678" // of every test card
	maxPIN  = 8          // digits
	minPIN  = 4
	pinTrys = 3 // wrong ones before the card locks
)

// nationalID completes an identity number with its check digit: the letter
// stands for two digits, weights are 1, 9, 8 … 1, 1, and the sum is a
// multiple of ten.
func nationalID(id8 string) string {
	const letters = "ABCDEFGHJKLMNPQRSTUVXYWZIO" // 10, 11, … in this order
	n := 10 + strings.IndexByte(letters, id8[0])
	sum := n/10 + 9*(n%10)
	for i, weight := 1, 8; i < len(id8); i, weight = i+1, weight-1 {
		sum += weight * int(id8[i]-'0')
	}
	return fmt.Sprintf("%s%d", id8, (10-sum%10)%10)
}

// card is one test card: two certificates, as on a real one.
type card struct {
	number     int // from 1, as shown and as in /insert?card=
	state      State
	signing    *pkitest.Card
	encryption *pkitest.Card
}

// reader names the slot the card is in. Each card has a reader of its own, so
// that pages in several browsers can be different people at the same time.
func (c *card) reader() string { return fmt.Sprintf("Sealgate TEST Reader %d", c.number) }

// lastFour is what the certificate tells of the national ID.
func (c *card) lastFour() string {
	return c.signing.NationalID[len(c.signing.NationalID)-4:]
}

// openHierarchy finds the authority and its cards in dir, or makes them.
func openHierarchy(dir, baseURL string, log *slog.Logger) (*pkitest.Hierarchy, error) {
	h, err := pkitest.Load(dir)
	if err == nil {
		if h.BaseURL() != baseURL {
			log.Warn("the test cards name another address for OCSP and CRL; remove the directory to make new ones",
				"cards", h.BaseURL(), "serving", baseURL, "directory", dir)
		}
		return h, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("softcard: %w", err)
	}
	if h, err = pkitest.NewHierarchy(pkitest.Options{BaseURL: baseURL}); err != nil {
		return nil, fmt.Errorf("softcard: %w", err)
	}
	if err := issue(h); err != nil {
		return nil, fmt.Errorf("softcard: issue: %w", err)
	}
	if err := h.Save(dir); err != nil {
		return nil, fmt.Errorf("softcard: %w", err)
	}
	return h, nil
}

// issue gives each person a signing and an encryption certificate. Keys are
// made side by side; the order in the hierarchy does not matter.
func issue(h *pkitest.Hierarchy) error {
	var wg sync.WaitGroup
	errs := make([]error, 2*len(people))
	for i, p := range people {
		for j, usage := range []x509.KeyUsage{x509.KeyUsageDigitalSignature, x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment} {
			wg.Go(func() {
				_, errs[2*i+j] = h.Citizen(pkitest.CitizenOptions{
					Name: p.name, NationalID: nationalID(p.id8), PIN: pin, KeyUsage: usage,
					Serial16: fmt.Sprintf("9900000000%06d", i+1),
					Expired:  p.state == Expired, Revoked: p.state == Revoked,
				})
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// cardsOf sorts the hierarchy's certificates into cards, in people's order.
func cardsOf(h *pkitest.Hierarchy) ([]*card, error) {
	all := h.Cards()
	cards := make([]*card, 0, len(people))
	for i, p := range people {
		c := &card{number: i + 1, state: p.state}
		for _, k := range all {
			switch {
			case k.NationalID != nationalID(p.id8):
			case k.Certificate.KeyUsage&x509.KeyUsageDigitalSignature != 0:
				c.signing = k
			default:
				c.encryption = k
			}
		}
		if c.signing == nil || c.encryption == nil {
			return nil, fmt.Errorf("softcard: the stored cards are of another version of this program (%s is missing); remove the directory to make new ones", p.name)
		}
		cards = append(cards, c)
	}
	return cards, nil
}

// writeTrustStore writes the certificates a server needs to believe the cards.
func writeTrustStore(dir string, h *pkitest.Hierarchy) error {
	for name, cert := range map[string]*x509.Certificate{
		filepath.Join("anchors", "test-root.cer"):          h.Root,
		filepath.Join("intermediates", "test-citizen.cer"): h.CA,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("softcard: %w", err)
		}
		if err := os.WriteFile(path, cert.Raw, 0o644); err != nil {
			return fmt.Errorf("softcard: %w", err)
		}
	}
	return nil
}

// CardInfo is one card, for people and tests.
type CardInfo struct {
	Number           int
	Name, NationalID string
	PIN              string
	State            State
	Reader           string // slotDescription
	TriesLeft        int
}

// Cards lists the test cards.
func (c *Component) Cards() []CardInfo {
	list := make([]CardInfo, 0, len(c.store.cards))
	for _, k := range c.store.cards {
		list = append(list, CardInfo{
			Number: k.number, Name: k.signing.Name, NationalID: k.signing.NationalID, PIN: k.signing.PIN,
			State: k.state, Reader: k.reader(), TriesLeft: c.store.triesLeft(k),
		})
	}
	return list
}

// Print writes the list of cards.
func (c *Component) Print(w io.Writer) {
	fmt.Fprintf(w, "測試卡 / Test cards (TEST ONLY), component %s, OCSP and CRL %s\n", c.URL(), c.RepositoryURL())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  card\tname\tnational ID\tPIN\tstate\ttries left")
	for _, k := range c.Cards() {
		fmt.Fprintf(t, "  %d\t%s\t%s\t%s\t%s\t%d\n", k.Number, k.Name, k.NationalID, k.PIN, k.State, k.TriesLeft)
	}
	_ = t.Flush()
}

// store keeps what changes: wrong PINs and the sites people added.
type store struct {
	path  string
	cards []*card

	mu   sync.Mutex
	data struct {
		WrongPINs map[string]int `json:"wrong_pins"` // by card number
		Sites     []string       `json:"sites"`
	}
}

func openStore(dir string, h *pkitest.Hierarchy) (*store, error) {
	s := &store{path: filepath.Join(dir, "component.json")}
	var err error
	if s.cards, err = cardsOf(h); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("softcard: %w", err)
	default:
		if err := json.Unmarshal(b, &s.data); err != nil {
			return nil, fmt.Errorf("softcard: %s: %w", s.path, err)
		}
	}
	if s.data.WrongPINs == nil {
		s.data.WrongPINs = map[string]int{}
	}
	return s, nil
}

// save writes the state; the caller holds the lock.
func (s *store) save() error {
	b, err := json.Marshal(s.data)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(s.path+".new", s.path)
}

func (s *store) triesLeft(c *card) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return pinTrys - s.data.WrongPINs[c.signing.CardNumber]
}

// tryPIN counts a wrong PIN, as the chip does, and forgets the count on a
// right one. A locked card refuses the right one too.
func (s *store) tryPIN(c *card, typed string) (ok bool, left int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := c.signing.CardNumber
	left = pinTrys - s.data.WrongPINs[number]
	if left <= 0 {
		return false, 0, nil
	}
	if typed == c.signing.PIN {
		if left < pinTrys {
			delete(s.data.WrongPINs, number)
			err = s.save()
		}
		return true, pinTrys, err
	}
	s.data.WrongPINs[number]++
	return false, left - 1, s.save()
}

// unlock forgets all wrong PINs of a card.
func (s *store) unlock(c *card) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.data.WrongPINs, c.signing.CardNumber)
	return s.save()
}

func (s *store) sites() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.data.Sites)
}

func (s *store) addSite(site string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.data.Sites, site) {
		return nil
	}
	if len(s.data.Sites) >= 100 {
		return errors.New("softcard: too many sites")
	}
	s.data.Sites = append(s.data.Sites, site)
	return s.save()
}
