package dossier

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/order"
	"sealgate/internal/signing"
	"sealgate/internal/xmldsig"
)

// PointRef names a point.
type PointRef struct {
	Dossier ID
	Point   int
}

// TakeRequest asks for one sign order over points that wait for one person.
type TakeRequest struct {
	Citizen   uuid.UUID
	Points    []PointRef
	Decision  Decision // "" is Approve; Return takes one point
	Comment   string   // with Return the reason
	Browser   *order.BrowserKey
	From      order.Origin
	ReturnURI string
	// Client is who asks; nil for the person's own session.
	Client *order.Client
}

// taking gathers an order over points.
type taking struct {
	TakeRequest
	now         time.Time
	client      uuid.UUID
	certificate *x509.Certificate
	chain       []*x509.Certificate
	dossiers    map[ID]*Dossier
	level       string
	claims      []Claim
	documents   []order.Document
	entries     []audit.Entry
}

// Take makes one sign order over points of one person: each point's files, and
// its SignedInfo. All are of one client, whose demands on an approval hold.
// Without a browser the start token opens the order. A point may be in several
// orders at once; the first that is signed gets it.
func (s *Service) Take(ctx context.Context, r TakeRequest) (*order.Order, string, error) {
	o, token, err := s.take(ctx, r)
	if err != nil && r.Client == nil {
		return nil, "", s.refuse(ctx, from(audit.New(audit.DossierRefused).ByCitizen(r.Citizen), r.From), err)
	}
	return o, token, err
}

func (s *Service) take(ctx context.Context, r TakeRequest) (*order.Order, string, error) {
	if r.Decision == "" {
		r.Decision = Approve
	}
	switch {
	case r.Decision != Approve && r.Decision != Return:
		return nil, "", ErrInvalid.With("field", "decision")
	case !line(r.Comment, 0, maxReason), r.Decision == Return && r.Comment == "":
		return nil, "", ErrReason
	case r.Decision == Return && len(r.Points) != 1:
		return nil, "", ErrReturnAlone
	case len(r.Points) == 0:
		return nil, "", ErrInvalid.With("field", "points")
	case len(r.Points) > s.cfg.MaxDocuments:
		return nil, "", order.ErrTooMany
	}
	t := &taking{TakeRequest: r, now: s.now(), dossiers: map[ID]*Dossier{}}
	if err := s.collect(ctx, t); err != nil {
		return nil, "", err
	}
	client, err := s.cfg.Agencies.ByID(ctx, t.client)
	if err == nil {
		err = client.Usable()
	}
	if err != nil {
		return nil, "", err
	}
	id := order.NewID()
	for i := range t.claims {
		t.claims[i].Order = id.UUID()
		t.entries[i] = t.entries[i].Order(id.UUID())
	}
	// First what the order is for, then the order: one without the other way
	// round would be signed for nothing.
	if err := s.cfg.Claims.Claim(ctx, t.claims, t.entries); err != nil {
		return nil, "", err
	}
	o, token, err := s.cfg.Orders.CreateSign(ctx, order.SignRequest{ID: id, Client: order.ClientOf(client), Documents: t.documents, Level: t.level,
		Text: t.text(), ReturnURI: r.ReturnURI, SubjectCitizenID: &t.Citizen, Browser: r.Browser, Started: r.From})
	if err != nil {
		for i := range t.claims { // the job would find them too
			_ = s.release(context.WithoutCancel(ctx), &t.claims[i], ClaimVoid, ErrOrderEnded.Code)
		}
	}
	return o, token, err
}

// collect reads the dossiers and prepares every point.
func (s *Service) collect(ctx context.Context, t *taking) error {
	seen := map[PointRef]bool{}
	for _, ref := range t.Points {
		if seen[ref] {
			return ErrInvalid.With("field", "points")
		}
		seen[ref] = true
		d := t.dossiers[ref.Dossier]
		if d == nil {
			var err error
			if d, err = s.cfg.Store.Find(ctx, ref.Dossier); err != nil {
				return err
			}
			t.dossiers[d.ID] = d
		}
		deputy, err := t.may(d, ref.Point)
		if err != nil {
			return err
		}
		if t.certificate == nil {
			if t.certificate, t.chain, err = s.signer(ctx, t.Citizen, t.now); err != nil {
				return err
			}
			t.client, t.level = d.ClientID, d.Level
		}
		if t.client != d.ClientID || t.level != d.Level {
			return ErrClients
		}
		if err := t.add(d, d.Point(ref.Point), deputy); err != nil {
			return err
		}
		if len(t.documents) > s.cfg.MaxDocuments {
			return order.ErrTooMany
		}
	}
	return nil
}

// may says whether the person may take the point, and whether as a deputy.
// What is not theirs does not exist for them.
func (t *taking) may(d *Dossier, number int) (deputy bool, err error) {
	if t.Client != nil && t.Client.ID != d.ClientID {
		return false, ErrNotFound
	}
	p := d.Point(number)
	var q *Deputy
	if p != nil {
		q = p.DeputyOf(t.Citizen)
	}
	switch {
	case p == nil, t.Client == nil && p.Citizen != t.Citizen && q == nil:
		return false, ErrPointNotFound
	case p.Citizen != t.Citizen && q == nil:
		return false, ErrSigner
	case d.StateAt(t.now) != Open:
		return false, ErrEnded
	case p.State == PointSigned || p.State == PointReturned:
		return false, ErrPointTaken
	case !p.Waits(), t.Decision == Return && p.State != PointOpen:
		return false, ErrPointState
	case q != nil && !q.At(t.now):
		return false, ErrDeputyPeriod
	}
	return q != nil, nil
}

// add prepares one point: its claim and its documents.
func (t *taking) add(d *Dossier, p *Point, deputy bool) error {
	c := Claim{Dossier: d.ID, Point: p.Number, Decision: t.Decision, Citizen: t.Citizen, Deputy: deputy, Later: p.State == PointLater,
		Comment: t.Comment, MadeAt: t.now.Truncate(time.Second), Covers: covered(d, p), First: len(t.documents), State: ClaimOut}
	tbs, err := build(d, &c, t.certificate, t.chain)
	if err != nil {
		return err
	}
	if t.Decision == Approve { // to send a document back nobody need sign it
		for _, n := range p.Files {
			f := d.Files[n-1]
			t.documents = append(t.documents, order.Document{Name: f.Name, MediaType: f.MediaType, Size: f.Size,
				DigestAlgorithm: d.Algorithm, Digest: base64.RawURLEncoding.EncodeToString(f.Digest)})
		}
	}
	c.Digest, c.Document = tbs.Digest, len(t.documents)
	t.documents = append(t.documents, t.record(d, p, c, tbs))
	t.claims = append(t.claims, c)
	e := from(note(audit.DossierTaken, d, p.Number).Citizen(t.Citizen).With(audit.KeyKind, string(t.Decision)), t.From)
	if t.Client != nil {
		e = e.By(audit.ActorClient, t.Client.ClientID)
	} else {
		e = e.ByCitizen(t.Citizen)
	}
	t.entries = append(t.entries, e)
	return nil
}

// record is the document of the order that stands for the point itself.
func (t *taking) record(d *Dossier, p *Point, c Claim, tbs *xmldsig.ToBeSigned) order.Document {
	what := "簽核點"
	switch {
	case c.Decision == Return:
		what = "退件"
	case c.Deputy:
		what = "代理簽核點"
	}
	name := []rune(fmt.Sprintf("%s %d %s｜%s｜%s", what, p.Number, p.Title, d.Reference, d.Title))
	if len(name) > maxName {
		name = append(name[:maxName-1], '…')
	}
	return order.Document{Name: string(name), MediaType: "application/xml", Size: int64(len(tbs.SignedInfo)), Form: signing.FormRaw,
		DigestAlgorithm: d.Algorithm, Digest: base64.RawURLEncoding.EncodeToString(tbs.Digest)}
}

// text is what the order says above its documents.
func (t *taking) text() string {
	d := t.dossiers[t.Points[0].Dossier]
	switch {
	case t.Decision == Return:
		return "退件：" + d.Title + "\n事由：" + t.Comment
	case len(t.Points) == 1:
		return strings.TrimSpace(d.Title + "\n" + t.Comment)
	}
	return strings.TrimSpace(fmt.Sprintf("簽核 %d 件公文的 %d 個簽核點\n%s", len(t.dossiers), len(t.Points), t.Comment))
}

// signer is the certificate by which a person will most likely sign: that of the
// phone bound last. What counts of it here is the kind of its key.
func (s *Service) signer(ctx context.Context, citizen uuid.UUID, now time.Time) (*x509.Certificate, []*x509.Certificate, error) {
	ders, err := s.cfg.Claims.Certificates(ctx, citizen, now)
	if err != nil {
		return nil, nil, err
	}
	if len(ders) == 0 {
		return nil, nil, ErrNoPhone
	}
	certificate, err := x509.ParseCertificate(ders[0])
	if err != nil {
		return nil, nil, err
	}
	chain, err := s.chain(ctx)
	return certificate, chain, err
}

// chain is what goes beside a signer's certificate.
func (s *Service) chain(ctx context.Context) ([]*x509.Certificate, error) {
	all, err := s.cfg.Chain(ctx)
	var out []*x509.Certificate
	for _, c := range all {
		if c.CheckSignatureFrom(c) != nil {
			out = append(out, c)
		}
	}
	return out, err
}
