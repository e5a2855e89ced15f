package agencyapi

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"sealgate/internal/dossier"
	"sealgate/internal/front"
	"sealgate/internal/order"
)

// mountDossiers puts the routes of official documents on the router.
func (d *Door) mountDossiers(r chi.Router) {
	r.Post("/dossiers", d.forClient(d.submitDossier))
	r.Get("/dossiers", d.forClient(d.listDossiers))
	r.Post("/dossier-orders", d.forClient(d.orderPoints))
	r.Route("/dossiers/{dossier}", func(r chi.Router) {
		r.Get("/", d.forClient(d.readDossier))
		r.Get("/si", d.forClient(d.dossierSI))
		r.Post("/withdraw", d.forClient(d.withdrawDossier))
		r.Post("/resubmit", d.forClient(d.resubmitDossier))
		r.Post("/points/{point}/order", d.forClient(d.orderPoint))
		r.Post("/points/{point}/later", d.forClient(d.passPoint))
		r.Post("/points/{point}/deputies", d.forClient(d.deputePoint))
		r.Get("/points/{point}/signature", d.forClient(d.pointSignature))
		r.Get("/points/{point}/files/{file}/signature", d.forClient(d.pointSignature))
	})
}

// newDossier is the body of POST /dossiers and of resubmit, which takes the
// reference from the revision before.
type newDossier struct {
	Reference string     `json:"reference"`
	Title     string     `json:"title"`
	ExpiresIn int64      `json:"expires_in"` // seconds
	Level     string     `json:"level"`
	Files     []newFile  `json:"files"`
	Points    []newPoint `json:"points"`
}

type newFile struct {
	Name            string `json:"name"`
	MediaType       string `json:"media_type"`
	Size            int64  `json:"size"`
	DigestAlgorithm string `json:"digest_algorithm"`
	Digest          string `json:"digest"`
}

type newPoint struct {
	Stage    int         `json:"stage"`
	Title    string      `json:"title"`
	Subject  string      `json:"subject"`
	Files    []int       `json:"files"`
	Deputies []newDeputy `json:"deputies"`
}

type newDeputy struct {
	Subject   string    `json:"subject"`
	Reason    string    `json:"reason"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// submission turns the body into what the domain takes: subjects of this client
// become citizens.
func (d *Door) submission(in newDossier, c caller) (dossier.Submission, error) {
	out := dossier.Submission{Client: c.party(), From: c.from, Reference: in.Reference, Title: in.Title, Level: in.Level, Life: time.Duration(min(in.ExpiresIn, 1<<32)) * time.Second}
	for i, f := range in.Files {
		if i == 0 {
			out.Algorithm = f.DigestAlgorithm
		}
		if f.DigestAlgorithm != out.Algorithm {
			return out, dossier.ErrInvalid.With("field", "digest_algorithm")
		}
		text := strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(f.Digest), "=")
		digest, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if err != nil {
			return out, dossier.ErrInvalid.With("field", "digest").Because(err)
		}
		out.Files = append(out.Files, dossier.File{Name: f.Name, MediaType: f.MediaType, Size: f.Size, Digest: digest})
	}
	for _, p := range in.Points {
		citizen, err := d.citizen(p.Subject, c)
		if err != nil {
			return out, err
		}
		point := dossier.Point{Stage: p.Stage, Title: p.Title, Citizen: citizen, Files: p.Files}
		for _, q := range p.Deputies {
			if citizen, err = d.citizen(q.Subject, c); err != nil {
				return out, err
			}
			point.Deputies = append(point.Deputies, dossier.Deputy{Citizen: citizen, Reason: q.Reason, NotBefore: q.NotBefore, NotAfter: q.NotAfter})
		}
		out.Points = append(out.Points, point)
	}
	return out, nil
}

// citizen is who this client calls by a subject.
func (d *Door) citizen(subject string, c caller) (uuid.UUID, error) {
	return d.cfg.Agencies.ParseSubject(c.client.SectorIdentifier, subject)
}

func (d *Door) submitDossier(w http.ResponseWriter, r *http.Request, c caller) {
	var in newDossier
	err := front.DecodeJSON(r, &in, maxOrder)
	var made *dossier.Dossier
	if err == nil {
		var s dossier.Submission
		if s, err = d.submission(in, c); err == nil {
			made, err = d.cfg.Dossiers.Submit(r.Context(), s)
		}
	}
	d.madeDossier(w, r, c, made, err)
}

func (d *Door) resubmitDossier(w http.ResponseWriter, r *http.Request, c caller) {
	var in newDossier
	err := front.DecodeJSON(r, &in, maxOrder)
	var made *dossier.Dossier
	if err == nil && in.Reference != "" {
		err = dossier.ErrInvalid.With("field", "reference")
	}
	if err == nil {
		var s dossier.Submission
		var id dossier.ID
		if s, err = d.submission(in, c); err == nil {
			if id, err = dossier.ParseID(chi.URLParam(r, "dossier")); err == nil {
				made, err = d.cfg.Dossiers.Resubmit(r.Context(), id, s)
			}
		}
	}
	d.madeDossier(w, r, c, made, err)
}

func (d *Door) madeDossier(w http.ResponseWriter, r *http.Request, c caller, made *dossier.Dossier, err error) {
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	w.Header().Set("Location", "/api/v1/dossiers/"+made.ID.String())
	front.WriteJSON(w, http.StatusCreated, d.dossierJSON(made, nil, c))
}

// ownDossier reads the dossier of the path for the client that submitted it.
func (d *Door) ownDossier(r *http.Request, c caller) (*dossier.Dossier, error) {
	id, err := dossier.ParseID(chi.URLParam(r, "dossier"))
	if err != nil {
		return nil, err
	}
	return d.cfg.Dossiers.Owned(r.Context(), id, c.client.ID)
}

func (d *Door) readDossier(w http.ResponseWriter, r *http.Request, c caller) {
	found, err := d.ownDossier(r, c)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	d.writeDossier(w, r, c, found)
}

func (d *Door) writeDossier(w http.ResponseWriter, r *http.Request, c caller, found *dossier.Dossier) {
	claims, err := d.cfg.Dossiers.Claims(r.Context(), found)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, d.dossierJSON(found, claims, c))
}

// listDossiers answers a page of the client's dossiers, newest first.
func (d *Door) listDossiers(w http.ResponseWriter, r *http.Request, c caller) {
	q := r.URL.Query()
	var before dossier.ID
	if cursor := q.Get("cursor"); cursor != "" {
		var err error
		if before, err = dossier.ParseID(cursor); err != nil {
			d.fail(w, r, c, dossier.ErrInvalid.With("field", "cursor"))
			return
		}
	}
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 || limit > 100 {
		limit = 50
	}
	found, err := d.cfg.Dossiers.List(r.Context(), c.client.ID, dossier.State(q.Get("state")), before, limit)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	page := dossierPage{Dossiers: make([]dossierAnswer, len(found))}
	for i, one := range found {
		page.Dossiers[i] = summaryJSON(one)
	}
	if len(found) == limit {
		page.NextCursor = found[limit-1].ID.String()
	}
	front.WriteJSON(w, http.StatusOK, page)
}

// reason is the body of steps that say why.
type reason struct {
	Reason string `json:"reason"`
}

// maxReasonBody bounds such a body, in bytes.
const maxReasonBody = 8 << 10

func (d *Door) withdrawDossier(w http.ResponseWriter, r *http.Request, c caller) {
	var in reason
	found, err := d.ownDossier(r, c)
	if err == nil && r.ContentLength != 0 {
		err = front.DecodeJSON(r, &in, maxReasonBody)
	}
	if err == nil {
		found, err = d.cfg.Dossiers.Withdraw(r.Context(), found.ID, c.party(), in.Reason, c.from)
	}
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	d.writeDossier(w, r, c, found)
}

// passPoint lets the dossier go on without a point, which is signed later (待補簽).
func (d *Door) passPoint(w http.ResponseWriter, r *http.Request, c caller) {
	var in reason
	found, number, err := d.ownPoint(r, c)
	if err == nil {
		err = front.DecodeJSON(r, &in, maxReasonBody)
	}
	if err == nil {
		found, err = d.cfg.Dossiers.Later(r.Context(), found.ID, number, c.party(), in.Reason, c.from)
	}
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	d.writeDossier(w, r, c, found)
}

// deputePoint names one more deputy of a point.
func (d *Door) deputePoint(w http.ResponseWriter, r *http.Request, c caller) {
	var in newDeputy
	found, number, err := d.ownPoint(r, c)
	if err == nil {
		err = front.DecodeJSON(r, &in, maxReasonBody)
	}
	deputy := dossier.Deputy{Reason: in.Reason, NotBefore: in.NotBefore, NotAfter: in.NotAfter}
	if err == nil {
		deputy.Citizen, err = d.citizen(in.Subject, c)
	}
	if err == nil {
		found, err = d.cfg.Dossiers.Depute(r.Context(), found.ID, number, c.party(), deputy, c.from)
	}
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	d.writeDossier(w, r, c, found)
}

// ownPoint reads dossier and point of the path.
func (d *Door) ownPoint(r *http.Request, c caller) (*dossier.Dossier, int, error) {
	found, err := d.ownDossier(r, c)
	if err != nil {
		return nil, 0, err
	}
	number, ok := canonicalInt(chi.URLParam(r, "point"))
	if !ok || found.Point(number) == nil {
		return nil, 0, dossier.ErrPointNotFound
	}
	return found, number, nil
}

func canonicalInt(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && strconv.Itoa(n) == text
}

// pointOrder is the body of POST …/points/{n}/order.
type pointOrder struct {
	Subject   string           `json:"subject"`
	Decision  dossier.Decision `json:"decision"`
	Comment   string           `json:"comment"`
	ReturnURI string           `json:"return_uri"`
}

func (d *Door) orderPoint(w http.ResponseWriter, r *http.Request, c caller) {
	var in pointOrder
	found, number, err := d.ownPoint(r, c)
	if err == nil && r.ContentLength != 0 {
		err = front.DecodeJSON(r, &in, maxReasonBody)
	}
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	take := dossier.TakeRequest{Citizen: found.Point(number).Citizen, Points: []dossier.PointRef{{Dossier: found.ID, Point: number}},
		Decision: in.Decision, Comment: in.Comment, ReturnURI: in.ReturnURI}
	if in.Subject != "" {
		if take.Citizen, err = d.citizen(in.Subject, c); err != nil {
			d.fail(w, r, c, err)
			return
		}
	}
	d.takePoints(w, r, c, take)
}

// pointsOrder is the body of POST /dossier-orders: one order over many points.
type pointsOrder struct {
	Subject string `json:"subject"`
	Points  []struct {
		Dossier string `json:"dossier"`
		Point   int    `json:"point"`
	} `json:"points"`
	Comment   string `json:"comment"`
	ReturnURI string `json:"return_uri"`
}

func (d *Door) orderPoints(w http.ResponseWriter, r *http.Request, c caller) {
	var in pointsOrder
	err := front.DecodeJSON(r, &in, maxOrder)
	take := dossier.TakeRequest{Comment: in.Comment, ReturnURI: in.ReturnURI}
	if err == nil {
		take.Citizen, err = d.citizen(in.Subject, c)
	}
	for _, p := range in.Points {
		var id dossier.ID
		if err == nil {
			id, err = dossier.ParseID(p.Dossier)
		}
		take.Points = append(take.Points, dossier.PointRef{Dossier: id, Point: p.Point})
	}
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	d.takePoints(w, r, c, take)
}

// takePoints makes the sign order and answers it, with the link that opens it.
func (d *Door) takePoints(w http.ResponseWriter, r *http.Request, c caller, take dossier.TakeRequest) {
	party := c.party()
	take.Client, take.From = &party, c.from
	var err error
	if take.ReturnURI != "" {
		err = c.client.CheckReturnURI(take.ReturnURI)
	}
	var o *order.Order
	var token string
	if err == nil {
		o, token, err = d.cfg.Dossiers.Take(r.Context(), take)
	}
	var asked order.Content
	if err == nil {
		asked, err = order.ParseContent(o.Content)
	}
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	answer := d.orderJSON(o, asked, c, time.Now())
	answer.StartURL = d.cfg.PublicOrigin + "/start/" + o.ID.String() + "#" + token
	w.Header().Set("Location", "/api/v1/sign-orders/"+o.ID.String())
	front.WriteJSON(w, http.StatusCreated, answer)
}

// dossierSI answers the SI file as it stands.
func (d *Door) dossierSI(w http.ResponseWriter, r *http.Request, c caller) {
	found, err := d.ownDossier(r, c)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	writeFile(w, found.SI, "application/xml", attachment(0, "SI-"+strconv.Itoa(found.Revision), ".xml"))
}

// pointSignature answers a signed point's signature over a file, or without a
// file the value that stands in the SI file.
func (d *Door) pointSignature(w http.ResponseWriter, r *http.Request, c caller) {
	found, number, err := d.ownPoint(r, c)
	file := 0
	if text := chi.URLParam(r, "file"); err == nil && text != "" {
		var ok bool
		if file, ok = canonicalInt(text); !ok || file < 1 || file > len(found.Files) {
			err = ErrDocumentUnknown
		}
	}
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	made, err := d.cfg.Dossiers.Signature(r.Context(), found, number, file)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	if file == 0 {
		writeFile(w, made, "application/octet-stream", attachment(number-1, "P"+strconv.Itoa(number), ".sig"))
		return
	}
	writeFile(w, made, "application/pkcs7-signature", attachment(file-1, found.Files[file-1].Name, ".p7s"))
}

func writeFile(w http.ResponseWriter, content []byte, mediaType, disposition string) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Disposition", disposition)
	h.Set("Content-Length", strconv.Itoa(len(content)))
	_, _ = w.Write(content)
}
