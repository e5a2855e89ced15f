// Package webhook tells clients that something of their own has changed.
//
// A message is written in the transaction of the act it tells of, delivered by
// the leader through package egress, and repeated with growing pauses for a
// day; then it is given up. It has ids and states, nothing about people: the
// receiver reads the rest over the API. Messages may come twice and in another
// order than they were written.
//
// The form is that of Standard Webhooks: the headers webhook-id,
// webhook-timestamp and webhook-signature, an HMAC-SHA-256 over the three parts
// id, timestamp and body joined by full stops, under a secret of the client's.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/egress"
	"sealgate/internal/fault"
)

// secretPrefix marks a webhook secret in its written form.
const secretPrefix = "whsec_"

// Purpose names the sealing of secrets in the keyring.
const Purpose = "webhook"

// NewSecret makes a secret of 32 random bytes.
func NewSecret() []byte {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	return secret
}

// FormatSecret is the form in which a client gets its secret.
func FormatSecret(secret []byte) string {
	return secretPrefix + base64.StdEncoding.EncodeToString(secret)
}

// Sign gives the value of webhook-signature.
func Sign(secret []byte, id string, at time.Time, body []byte) string {
	m := hmac.New(sha256.New, secret)
	fmt.Fprintf(m, "%s.%d.", id, at.Unix())
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// CheckURL says whether messages may be sent there: https, or this machine
// where allowed. Whether the host is allowed is the egress policy's.
func CheckURL(address string, allowLoopback bool) error {
	switch {
	case len(address) > 2048 || strings.ContainsAny(address, " \t\r\n#"):
	case strings.HasPrefix(address, "https://") && len(address) > len("https://"):
		return nil
	case allowLoopback && (strings.HasPrefix(address, "http://localhost:") || strings.HasPrefix(address, "http://127.0.0.1:")):
		return nil
	}
	return errors.New("a webhook address is an https address without a fragment")
}

// Message is one thing to be told.
type Message struct {
	ID        uuid.UUID
	Client    uuid.UUID
	Type      string
	Data      json.RawMessage
	CreatedAt time.Time
	Attempts  int // before this one
	URL       string
	Secret    []byte // sealed; AAD is the client's id
}

// Body is what is sent.
func (m Message) Body() ([]byte, error) {
	return json.Marshal(struct {
		Type      string          `json:"type"`
		Timestamp string          `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}{m.Type, m.CreatedAt.UTC().Format(time.RFC3339), m.Data})
}

// Outcome is what became of an attempt. Neither Delivered nor Dead: again at
// Next. Untried: there was no attempt, the message was only put off.
type Outcome struct {
	ID        uuid.UUID
	At        time.Time
	Delivered bool
	Dead      bool
	Untried   bool
	Next      time.Time
	Error     string // a status or a fault code
	Audit     *audit.Entry
}

// Store keeps messages.
type Store interface {
	// Due lists messages whose time has come, oldest first and at most so many of
	// each client, and puts off their next attempt until then, so that a second
	// leader leaves them alone.
	Due(ctx context.Context, now, until time.Time, each int) ([]Message, error)
	// Done writes the outcome of an attempt.
	Done(ctx context.Context, o Outcome) error
	// Forget removes messages that were written before and are at their end.
	Forget(ctx context.Context, before time.Time) error
}

// Config is what a Service needs; Now may be nil.
type Config struct {
	Store Store
	// Open opens what was sealed under Purpose.
	Open   func(ctx context.Context, purpose string, aad, sealed []byte) ([]byte, error)
	Egress *egress.Client
	Log    *slog.Logger
	Now    func() time.Time
}

// Service delivers messages.
type Service struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Open == nil || cfg.Egress == nil || cfg.Log == nil {
		return nil, errors.New("webhook: a part is missing from the configuration")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg}, nil
}

const (
	each       = 20               // messages of one client in a round
	receivers  = 8                // told at the same time
	exchange   = 10 * time.Second // one attempt
	turn       = 15 * time.Second // one client's share of a round
	reserved   = 30 * time.Minute // until another leader may try what this one took
	giveUp     = 24 * time.Hour
	keep       = 30 * 24 * time.Hour
	maxRetries = 100
)

// pauses are the waits after the first attempts; the last one repeats.
var pauses = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour}

// Deliver sends what is due: work for the leader. A receiver that is slow keeps
// only its own messages waiting.
func (s *Service) Deliver(ctx context.Context) error {
	now := s.cfg.Now().UTC()
	due, err := s.cfg.Store.Due(ctx, now, now.Add(reserved), each)
	if err != nil {
		return err
	}
	byClient := map[uuid.UUID][]Message{}
	for _, m := range due {
		byClient[m.Client] = append(byClient[m.Client], m)
	}
	places := make(chan struct{}, receivers)
	var all sync.WaitGroup
	for _, messages := range byClient {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			s.deliverTo(ctx, messages)
		})
	}
	all.Wait()
	return ctx.Err()
}

// deliverTo sends one receiver's messages one after the other, for as long as
// its turn is. When one fails, the rest is put off: who is down is not knocked
// at twenty times.
func (s *Service) deliverTo(ctx context.Context, messages []Message) {
	var putOff time.Duration
	began, stopped := s.cfg.Now(), false
	for _, m := range messages {
		o := Outcome{ID: m.ID, At: s.cfg.Now().UTC()}
		if stopped = stopped || o.At.Sub(began) > turn; stopped {
			o.Untried, o.Next = true, o.At.Add(putOff)
		} else if o.Error = s.attempt(ctx, m); o.Error == "" {
			o.Delivered = true
		} else {
			s.again(m, &o)
			stopped, putOff = true, o.Next.Sub(o.At)
		}
		if ctx.Err() != nil && !o.Delivered {
			// We are being stopped, which is not the receiver's fault.
			o = Outcome{ID: m.ID, At: o.At, Next: o.At, Untried: true}
			stopped, putOff = true, 0
		}
		if err := s.cfg.Store.Done(context.WithoutCancel(ctx), o); err != nil {
			s.cfg.Log.ErrorContext(ctx, "the outcome of a webhook could not be written", "message", m.ID, "error", err)
		}
	}
}

// again decides when to try once more, or gives up.
func (s *Service) again(m Message, o *Outcome) {
	o.Next = o.At.Add(pauses[min(m.Attempts, len(pauses)-1)])
	if o.Error == "status 410" || o.Next.Sub(m.CreatedAt) > giveUp || m.Attempts >= maxRetries {
		o.Dead = true
		e := audit.New(audit.WebhookDead).Client(m.Client).With(audit.KeyKind, m.Type).WithInt(audit.KeyAttempt, m.Attempts+1).Fail(o.Error)
		o.Audit = &e
	}
}

// attempt sends a message once and gives "" or what went wrong.
func (s *Service) attempt(ctx context.Context, m Message) string {
	ctx, cancel := context.WithTimeout(ctx, exchange)
	defer cancel()
	secret, err := s.cfg.Open(ctx, Purpose, m.Client[:], m.Secret)
	if err != nil {
		return fault.CodeOf(err)
	}
	body, err := m.Body()
	if err != nil {
		return "message"
	}
	now, id := s.cfg.Now(), "msg_"+strings.ReplaceAll(m.ID.String(), "-", "")
	answer, err := s.cfg.Egress.Exchange(ctx, egress.Request{Method: "POST", URL: m.URL, ContentType: "application/json", Body: body, Max: 64 << 10,
		Header: map[string]string{"webhook-id": id, "webhook-timestamp": strconv.FormatInt(now.Unix(), 10), "webhook-signature": Sign(secret, id, now, body)}})
	switch {
	case errors.Is(err, egress.ErrTooLarge):
		return "" // it answered; what it says does not matter
	case err != nil:
		return fault.CodeOf(err)
	case answer.Status/100 != 2:
		return "status " + strconv.Itoa(answer.Status)
	}
	return ""
}

// Forget removes old messages that are delivered or given up: work for the leader.
func (s *Service) Forget(ctx context.Context) error {
	return s.cfg.Store.Forget(ctx, s.cfg.Now().Add(-keep))
}
