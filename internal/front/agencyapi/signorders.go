package agencyapi

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"sealgate/internal/agency"
	"sealgate/internal/front"
	"sealgate/internal/order"
	"sealgate/internal/signing"
)

// newOrder is the body of POST /sign-orders.
type newOrder struct {
	Text      string        `json:"text"`
	ReturnURI string        `json:"return_uri"`
	Subject   string        `json:"subject"`
	Level     string        `json:"level"`
	Evidence  string        `json:"evidence"`
	Documents []newDocument `json:"documents"`
}

// newDocument is one document of a new order. For the form raw a DigestInfo
// may stand in place of algorithm and digest.
type newDocument struct {
	Name               string       `json:"name"`
	MediaType          string       `json:"media_type"`
	Size               int64        `json:"size"`
	DigestAlgorithm    string       `json:"digest_algorithm"`
	Digest             string       `json:"digest"`
	DigestInfo         string       `json:"digest_info"`
	Form               signing.Form `json:"form"`
	SignatureAlgorithm string       `json:"signature_algorithm"`
	Earlier            string       `json:"earlier"` // base64 of a .p7s that this signature joins
}

func (d newDocument) document() (order.Document, error) {
	out := order.Document{Name: d.Name, MediaType: d.MediaType, Size: d.Size, DigestAlgorithm: d.DigestAlgorithm, Digest: d.Digest,
		Form: d.Form, SignatureAlgorithm: d.SignatureAlgorithm}
	if d.Earlier != "" {
		raw, err := base64.StdEncoding.Strict().DecodeString(d.Earlier)
		if err != nil {
			return out, signing.ErrEarlier.Because(err)
		}
		out.EarlierSignature = raw
	}
	if d.DigestInfo == "" {
		return out, nil
	}
	if d.Form != signing.FormRaw || d.Digest != "" || d.DigestAlgorithm != "" {
		return out, order.ErrForm.Because(errors.New("a DigestInfo beside a digest or for another form"))
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(d.DigestInfo)
	if err != nil {
		return out, order.ErrDigest.Because(err)
	}
	algorithm, digest, err := signing.ParseDigestInfo(raw)
	if err != nil {
		return out, order.ErrDigest.Because(err)
	}
	out.DigestAlgorithm, out.Digest = algorithm, base64.RawURLEncoding.EncodeToString(digest)
	return out, nil
}

func (d *Door) create(w http.ResponseWriter, r *http.Request, c caller) {
	var in newOrder
	front.AllowBody(w, r, maxOrder)
	if err := front.DecodeJSON(r, &in, maxOrder); err != nil {
		d.fail(w, r, c, err)
		return
	}
	request, err := d.request(in, c)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	o, startToken, err := d.cfg.Orders.CreateSign(r.Context(), request)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	asked, err := order.ParseContent(o.Content)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	answer := d.orderJSON(o, asked, c, time.Now())
	answer.StartURL = d.cfg.PublicOrigin + "/start/" + o.ID.String() + "#" + startToken
	w.Header().Set("Location", "/api/v1/sign-orders/"+o.ID.String())
	front.WriteJSON(w, http.StatusCreated, answer)
}

// request turns the body into what the order service wants, after the rules
// that only this door knows: the registered return addresses and the pairwise
// subjects of this client.
func (d *Door) request(in newOrder, c caller) (order.SignRequest, error) {
	out := order.SignRequest{Client: c.party(), Level: in.Level, Evidence: in.Evidence, Text: in.Text, ReturnURI: in.ReturnURI, Started: c.from}
	for _, d := range in.Documents {
		document, err := d.document()
		if err != nil {
			return out, err
		}
		if !document.Form.Wrapped() && document.Form != "" && !c.client.HasScope(agency.ScopeSignRaw) {
			return out, ErrBareForm.With("form", string(document.Form))
		}
		out.Documents = append(out.Documents, document)
	}
	if in.ReturnURI != "" {
		if err := c.client.CheckReturnURI(in.ReturnURI); err != nil {
			return out, err
		}
	}
	if in.Subject == "" && c.client.RequireSubject {
		return out, ErrSubjectNeeded
	}
	if in.Subject != "" {
		citizen, err := d.cfg.Agencies.ParseSubject(c.client.SectorIdentifier, in.Subject)
		if err != nil {
			return out, err
		}
		out.SubjectCitizenID = &citizen
	}
	return out, nil
}

// own reads the order of the path for the client that made it.
func (d *Door) own(r *http.Request, c caller) (*order.Order, order.Content, error) {
	id, err := order.ParseID(chi.URLParam(r, "order"))
	if err != nil {
		return nil, order.Content{}, err
	}
	o, err := d.cfg.Orders.Owned(r.Context(), id, c.party())
	if err == nil && o.Kind != order.Sign {
		err = order.ErrNotFound // a login of the same client is the OpenID door's
	}
	if err != nil {
		return nil, order.Content{}, err
	}
	asked, err := order.ParseContent(o.Content)
	return o, asked, err
}

// read answers how an order stands. With ?wait=N it answers as soon as that
// differs from what it was when the call came, or after N seconds; an order
// that has ended is answered at once.
func (d *Door) read(w http.ResponseWriter, r *http.Request, c caller) {
	o, asked, err := d.own(r, c)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	if wait := waitFor(r); wait > 0 && !o.StateAt(time.Now()).Ended() {
		release, err := front.WaitOpen(w, r)
		if err != nil {
			front.WriteProblem(w, r, err)
			return
		}
		defer release()
		if o, err = d.wait(r, o, c, wait); err != nil {
			front.WriteProblem(w, r, err)
			return
		}
		if o == nil { // the caller has gone
			return
		}
	}
	front.WriteJSON(w, http.StatusOK, d.orderJSON(o, asked, c, time.Now()))
}

// wait reads the order again whenever it may have changed, until its state is
// another one or the time is over. It gives nil when the caller has gone.
func (d *Door) wait(r *http.Request, o *order.Order, c caller, most time.Duration) (*order.Order, error) {
	changed, stop := d.cfg.Orders.Watch(o.ID)
	defer stop()
	was, party := o.StateAt(time.Now()), c.party()
	deadline := time.NewTimer(most)
	defer deadline.Stop()
	for over := false; ; {
		// The first time too: it may have changed between the reading and the watch.
		next, err := d.cfg.Orders.Owned(r.Context(), o.ID, party)
		if err != nil {
			return nil, err
		}
		if over || next.StateAt(time.Now()) != was {
			return next, nil
		}
		runsOut := time.NewTimer(untilExpiry(next, most))
		select {
		case <-changed:
		case <-runsOut.C:
		case <-deadline.C:
			over = true
		case <-r.Context().Done():
			runsOut.Stop()
			return nil, nil
		}
		runsOut.Stop()
	}
}

// untilExpiry is when an order that still waits for a person runs out.
func untilExpiry(o *order.Order, most time.Duration) time.Duration {
	switch o.State {
	case order.Created, order.Scanned:
		return max(0, time.Until(o.ExpiresAt)) + 10*time.Millisecond
	}
	return most + time.Second
}

// waitFor reads ?wait=, in seconds.
func waitFor(r *http.Request) time.Duration {
	n, err := strconv.Atoi(r.URL.Query().Get("wait"))
	if err != nil || n <= 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxWait)
}

func (d *Door) cancel(w http.ResponseWriter, r *http.Request, c caller) {
	// The step has no parameters: whatever body comes is left unread.
	o, asked, err := d.own(r, c)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	if err := d.cfg.Orders.CancelByClient(r.Context(), o.ID, c.party(), c.from); err != nil {
		front.WriteProblem(w, r, err) // the order service has recorded it
		return
	}
	if o, err = d.cfg.Orders.Owned(r.Context(), o.ID, c.party()); err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, d.orderJSON(o, asked, c, time.Now()))
}

// signature answers one document's detached signature, as often as it is asked
// for until the order is purged.
func (d *Door) signature(w http.ResponseWriter, r *http.Request, c caller) {
	o, asked, err := d.own(r, c)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	n, err := document(r, o, asked)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	made, err := d.cfg.Signing.Signature(r.Context(), o.ID.UUID(), n)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	h := w.Header()
	mediaType, extension := "application/pkcs7-signature", ".p7s"
	if !made.Form.Wrapped() {
		mediaType, extension = "application/octet-stream", ".sig"
	}
	h.Set("Content-Type", mediaType)
	h.Set("Content-Disposition", attachment(n, asked.Documents[n].Name, extension))
	h.Set("Content-Length", strconv.Itoa(len(made.DER)))
	_, _ = w.Write(made.DER)
}

// document reads the index of the path and says why there is no signature.
func document(r *http.Request, o *order.Order, asked order.Content) (int, error) {
	text := chi.URLParam(r, "document")
	n, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(n) != text || n < 0 || n >= len(asked.Documents) {
		return 0, ErrDocumentUnknown
	}
	state := o.StateAt(time.Now())
	switch {
	case state == order.Completed && slices.Contains(o.LeftOut, n):
		return 0, ErrDocumentLeftOut
	case state == order.Completed && o.Failures[n] != "":
		return 0, ErrDocumentFailed.With("failure", o.Failures[n])
	case state == order.Completed:
		return n, nil
	case state.Ended():
		return 0, ended(state)
	}
	return 0, ErrNotSigned
}

// ended says why an order has no result.
func ended(state order.State) error {
	switch state {
	case order.Rejected:
		return order.ErrRejected
	case order.Expired:
		return order.ErrExpired
	case order.Cancelled:
		return order.ErrCancelled
	}
	return order.ErrFailed
}

// attachment names the file to save (RFC 6266 §4.3): a plain name that every
// program takes, and the document's own name in UTF-8 without anything that
// could be taken for a path.
func attachment(n int, name, extension string) string {
	name = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, name)
	if name = strings.TrimLeft(name, ". "); name == "" {
		name = "document-" + strconv.Itoa(n+1)
	}
	return `attachment; filename="document-` + strconv.Itoa(n+1) + extension + `"; filename*=UTF-8''` + percent(name+extension)
}

// percent encodes for an ext-value (RFC 8187 §3.2.1).
func percent(s string) string {
	const plain, digits = "!#$&+-.^_`|~", "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', digits[c>>4], digits[c&15]})
	}
	return b.String()
}

// subject is how this client knows a citizen.
func (d *Door) subject(c caller, citizen uuid.UUID) string {
	return d.cfg.Agencies.Subject(c.client.SectorIdentifier, citizen)
}
