package order

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/passkey"
	"sealgate/internal/signing"
)

// NewID makes an id for an order.
func NewID() ID { return ID(uuid.Must(uuid.NewV7())) }

// LoginRequest asks for a login order.
type LoginRequest struct {
	Client  Client
	Request json.RawMessage // the door's own data, kept as it is and handed back
	// Shown goes into the content, so that the evidence names what was asked:
	// client_id, redirect_uri, nonce, acr_values.
	Shown   json.RawMessage
	Text    string
	Data    []string // what will be released
	Browser BrowserKey
	Started Origin
	// MinimumACR is the least that this one request accepts, beside the client's own.
	MinimumACR string
}

// SignRequest asks for a sign order.
type SignRequest struct {
	// ID, when not zero, is from NewID: for a caller that writes down the order
	// before it is made.
	ID               ID
	Client           Client
	Documents        []Document
	Level            string // of the signatures; "" is the deployment's
	Evidence         string // "" or signing.EvidenceEmbedded
	Text             string
	ReturnURI        string
	SubjectCitizenID *uuid.UUID  // only this citizen may approve; nil for whoever scans
	Browser          *BrowserKey // nil where the order is opened later with a start token
	Started          Origin
	// SubjectCertificateID: only the device with this mobile certificate may approve.
	SubjectCertificateID *uuid.UUID
	// Request and Shown are as in LoginRequest. With Request, the door that made
	// the order also says where its browser returns to.
	Request, Shown json.RawMessage
}

// EnrolParams asks for an order that binds a phone.
type EnrolParams struct {
	Client      Client // the service's own
	Browser     BrowserKey
	Started     Origin
	Text        string
	Now         time.Time
	Lifetime    time.Duration
	MaxLifetime time.Duration
}

// draft fills what all kinds of orders have in common.
func draft(kind Kind, c Client, content Content, started Origin, now time.Time, life, most time.Duration) (*Order, error) {
	raw, err := content.canonical()
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	return &Order{
		ID: content.Order, Kind: kind, State: Created, ClientID: c.ID, Content: raw, QRSecret: secret, Started: started,
		CreatedAt: now, ExpiresAt: now.Add(life), FinalExpiresAt: now.Add(most),
	}, nil
}

// NewEnrol prepares an enrol order; the enrolment's store inserts it together
// with its own row.
func NewEnrol(p EnrolParams) (*Order, error) {
	id := ID(uuid.Must(uuid.NewV7()))
	now := p.Now.UTC().Truncate(time.Microsecond)
	content := newContent(id, Enrol, p.Client, now)
	content.Text = p.Text
	o, err := draft(Enrol, p.Client, content, p.Started, now, p.Lifetime, p.MaxLifetime)
	if err != nil {
		return nil, err
	}
	o.BrowserHash = p.Browser.Hash()
	return o, nil
}

// demand is the member "request" of the content: the least that the client
// accepts, and what the door wants the evidence to name.
type demand struct {
	MinimumACR  string `json:"minimum_acr,omitempty"`
	MaxFrameAge int    `json:"max_frame_age,omitempty"` // seconds; 0 for the service's own limits
	// SyncedPasskeys is the client's rule on the day the order was made.
	SyncedPasskeys passkey.SyncedRule `json:"synced_passkeys,omitempty"`
	Asked          json.RawMessage    `json:"asked,omitempty"`
}

// demands joins what the client always demands with what this request demands.
func demands(c Client, requestACR string, asked json.RawMessage) (json.RawMessage, error) {
	least := c.MinimumACR
	if least == "" || ACRSatisfies(requestACR, least) {
		least = requestACR
	}
	d := demand{MinimumACR: least, MaxFrameAge: int(c.MaxFrameAge / time.Second), Asked: asked, SyncedPasskeys: c.SyncedPasskeys}
	if d.MinimumACR == "" && d.MaxFrameAge == 0 && d.SyncedPasskeys == "" && len(asked) == 0 {
		return nil, nil
	}
	return json.Marshal(d)
}

// CreateLogin makes a login order for a browser that was just sent to us.
func (s *Service) CreateLogin(ctx context.Context, r LoginRequest) (*Order, error) {
	if !shown(r.Text, 0, maxText) || len(r.Request) > maxRequest || len(r.Shown) > maxRequest {
		return nil, ErrText
	}
	now := s.now()
	id := ID(uuid.Must(uuid.NewV7()))
	content := newContent(id, Login, r.Client, now)
	content.Text, content.Data = r.Text, r.Data
	var err error
	if content.Request, err = demands(r.Client, r.MinimumACR, r.Shown); err != nil {
		return nil, err
	}
	o, err := draft(Login, r.Client, content, r.Started, now, s.cfg.Lifetime, s.cfg.MaxLifetime)
	if err != nil {
		return nil, err
	}
	o.Request, o.BrowserHash = r.Request, r.Browser.Hash()
	e := entry(audit.OrderCreated, o, r.Started).By(audit.ActorClient, r.Client.ClientID).With(audit.KeyKind, string(Login))
	if err := s.cfg.Store.Create(ctx, o, e); err != nil {
		return nil, err
	}
	return o, nil
}

// CreateSign makes a sign order. Without a browser it also returns the start
// token with which the first browser opens it; only its hash is kept.
func (s *Service) CreateSign(ctx context.Context, r SignRequest) (o *Order, startToken string, err error) {
	documents, err := s.checkDocuments(r.Documents)
	if err != nil {
		return nil, "", err
	}
	if !shown(r.Text, 0, maxText) || len(r.Shown) > maxRequest {
		return nil, "", ErrText
	}
	level, err := s.level(r.Level, documents)
	if err != nil {
		return nil, "", err
	}
	now := s.now()
	id := r.ID
	if id == (ID{}) {
		id = NewID()
	}
	content := newContent(id, Sign, r.Client, now)
	content.Text, content.Documents = r.Text, documents
	if level != signing.LevelB {
		content.Level = level
	}
	if r.Evidence != "" && r.Evidence != signing.EvidenceEmbedded {
		return nil, "", ErrForm.With("document", "evidence")
	}
	content.Evidence = r.Evidence
	if content.Request, err = demands(r.Client, "", r.Shown); err != nil {
		return nil, "", err
	}
	o, err = draft(Sign, r.Client, content, r.Started, now, s.cfg.Lifetime, s.cfg.MaxLifetime)
	if err != nil {
		return nil, "", err
	}
	o.ReturnURI, o.Request = r.ReturnURI, r.Request
	o.SubjectCitizenID, o.SubjectCertificateID = r.SubjectCitizenID, r.SubjectCertificateID
	for i, d := range documents {
		if d.EarlierSignature != nil {
			o.Earlier = append(o.Earlier, Earlier{Document: i, DER: d.EarlierSignature})
		}
	}
	if r.Browser != nil {
		o.BrowserHash = r.Browser.Hash()
	} else {
		token := make([]byte, 32)
		_, _ = rand.Read(token)
		h := sha256.Sum256(token)
		o.StartHash = h[:]
		startToken = base64.RawURLEncoding.EncodeToString(token)
		// Nobody looks at a QR picture yet: the order waits for its browser as long as it may.
		o.ExpiresAt = o.FinalExpiresAt
	}
	e := entry(audit.OrderCreated, o, r.Started).By(audit.ActorClient, r.Client.ClientID).
		With(audit.KeyKind, string(Sign)).WithInt(audit.KeyDocuments, len(documents))
	if err := s.cfg.Store.Create(ctx, o, e); err != nil {
		return nil, "", err
	}
	return o, startToken, nil
}

// level is the one that the order's content names: what was asked, or the
// deployment's, which for a PDF goes no further than a PDF's signature can.
func (s *Service) level(asked string, documents []Document) (string, error) {
	if err := signing.CheckLevel(asked); err != nil {
		return "", ErrLevel.Because(err)
	}
	level := asked
	if level == "" {
		level = s.cfg.Level
		if level != "" && level != signing.LevelB && slices.ContainsFunc(documents, func(d Document) bool { return d.Form == signing.FormPAdES }) {
			level = signing.LevelT
		}
	}
	if level == "" {
		level = signing.LevelB
	}
	for _, d := range documents {
		form := d.Form
		if form == "" {
			form = signing.FormCMS
		}
		if s.cfg.CanMake == nil {
			break
		}
		if err := s.cfg.CanMake(level, form); err != nil {
			return "", err
		}
	}
	return level, nil
}

// checkDocuments copies and checks what is to be signed.
func (s *Service) checkDocuments(in []Document) ([]Document, error) {
	if len(in) == 0 {
		return nil, ErrDocuments.With("document", "0")
	}
	if len(in) > s.cfg.MaxDocuments {
		return nil, ErrTooMany
	}
	out := make([]Document, len(in))
	earlier := 0
	for i, d := range in {
		if earlier += len(d.EarlierSignature); earlier > signing.MaxEarlierAll {
			return nil, signing.ErrEarlier.Because(errors.New("too many bytes of earlier signatures"))
		}
		if err := d.normalize(); err != nil {
			return nil, err
		}
		out[i] = d
	}
	return out, nil
}

// demanded reads what the client accepts at the least. Content that cannot be
// read is met by nothing less than the best.
func (c Content) demanded() demand {
	var d demand
	if len(c.Request) > 0 && json.Unmarshal(c.Request, &d) != nil {
		return demand{MinimumACR: ACRPHRH, MaxFrameAge: 1, SyncedPasskeys: passkey.SyncedRefused}
	}
	return d
}
