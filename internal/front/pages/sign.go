package pages

import (
	"net/http"

	"sealgate/internal/front"
	"sealgate/internal/order"
	"sealgate/internal/signing"
)

// maxSignBody bounds the list of documents, in bytes; the documents themselves never come.
const maxSignBody = 256 << 10

// SignData is what the signing page shows. Order is empty while files are chosen.
type SignData struct {
	Order  *OrderData
	Worker string // address of the script that hashes
	PDF    *PDFData
	Most   int // documents in one order
	Sample any // rows that are there at once (/dev/states)
}

// PDFData are the addresses of what puts signatures into PDFs, in the browser.
type PDFData struct {
	Worker  string `json:"worker"`
	Program string `json:"program"`
}

func (p *Pages) signData() SignData {
	assets := p.cfg.Shell.StaticAssets()
	return SignData{Worker: assets.URL("hash.worker.js"), Most: maxDocuments,
		PDF: &PDFData{Worker: assets.URL("pdf.worker.js"), Program: assets.URL("pdf.wasm")}}
}

// maxDocuments is how many files the page lets a person sign at once.
const maxDocuments = 50

// Page is what the page's script reads.
func (d SignData) Page() map[string]any {
	out := map[string]any{"worker": d.Worker, "most": d.Most, "samples": d.Sample, "pdf": d.PDF}
	if d.Order != nil {
		for k, v := range d.Order.Page() {
			out[k] = v
		}
	}
	return out
}

// session reads the session of our own pages; without one the person is sent
// to log in, and comes back.
func (p *Pages) session(w http.ResponseWriter, r *http.Request) (front.Session, bool) {
	s, ok := p.cfg.Shell.Sessions().Get(r, front.DesktopSession)
	if !ok {
		http.Redirect(w, r, "/session/login?return="+r.URL.Path, http.StatusSeeOther)
	}
	return s, ok
}

// sign shows the page where own files are chosen.
func (p *Pages) sign(w http.ResponseWriter, r *http.Request) {
	if _, ok := p.session(w, r); !ok {
		return
	}
	p.render.Page(w, r, http.StatusOK, "pages/sign", p.signData())
}

// signCreate makes a sign order for the logged-in citizen over the digests of their files.
func (p *Pages) signCreate(w http.ResponseWriter, r *http.Request) {
	session, ok := p.cfg.Shell.Sessions().Get(r, front.DesktopSession)
	if !ok {
		front.WriteProblem(w, r, front.ErrSessionRequired)
		return
	}
	var body struct {
		Documents []struct {
			Name            string `json:"name"`
			MediaType       string `json:"media_type"`
			Size            int64  `json:"size"`
			DigestAlgorithm string `json:"digest_algorithm"`
			Digest          string `json:"digest"`
			// Form is "pades" for the byte ranges of a PDF that the page puts the
			// signature into, else empty.
			Form signing.Form `json:"form"`
		} `json:"documents"`
	}
	if err := front.DecodeJSON(r, &body, maxSignBody); err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	documents := make([]order.Document, len(body.Documents))
	for i, d := range body.Documents {
		if d.Form != "" && d.Form != signing.FormPAdES {
			front.WriteProblem(w, r, order.ErrForm)
			return
		}
		documents[i] = order.Document{Name: d.Name, MediaType: d.MediaType, Size: d.Size,
			DigestAlgorithm: d.DigestAlgorithm, Digest: d.Digest, Form: d.Form}
	}
	browser := order.BrowserKey(front.EnsureBrowser(w, r))
	o, _, err := p.cfg.Orders.CreateSign(r.Context(), order.SignRequest{
		Client: p.cfg.OwnClient, Documents: documents, Text: p.text(r, "sign.order_text"),
		SubjectCitizenID: &session.CitizenID, Browser: &browser, Started: p.from(r),
	})
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusCreated, map[string]string{"order": o.ID.String(), "page": "/sign/" + o.ID.String()})
}

// signOrder shows a sign order of our own pages: QR code, then results.
func (p *Pages) signOrder(w http.ResponseWriter, r *http.Request) {
	v, err := p.mineOrSigned(r)
	if err == nil && v.Kind != order.Sign {
		err = order.ErrKind
	}
	if err != nil {
		front.ErrorPageTo(w, r, err, "sign.again", "/sign")
		return
	}
	d := p.orderData(r, v)
	p.render.Page(w, r, http.StatusOK, "pages/sign-order", SignData{Order: &d})
}
