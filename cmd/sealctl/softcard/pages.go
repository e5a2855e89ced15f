package softcard

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
)

// cardChoice is what the popup shows of a card.
type cardChoice struct {
	Number           int
	Name, NationalID string
	PIN, State       string
	TriesLeft        int
}

func (c *Component) choices() []cardChoice {
	var list []cardChoice
	cards, _ := c.present(0, "")
	for _, k := range cards {
		list = append(list, cardChoice{
			Number: k.number, Name: k.signing.Name, NationalID: k.signing.NationalID,
			PIN: k.signing.PIN, State: k.state.label(), TriesLeft: c.store.triesLeft(k),
		})
	}
	return list
}

func (c *Component) servePopup(w http.ResponseWriter, _ *http.Request) {
	_, version := c.state()
	c.render(w, "popup.html", map[string]any{"Version": version, "Cards": c.choices()})
}

func (c *Component) serveSelfTest(w http.ResponseWriter, _ *http.Request) {
	in, version := c.state()
	c.mu.Lock()
	trusted := append([]string(nil), c.trusted...)
	c.mu.Unlock()
	c.render(w, "selftest.html", map[string]any{
		"Version": version, "Cards": c.choices(), "Trusted": trusted, "Repository": c.RepositoryURL(),
		"Inserted": in.card, "Empty": in.empty, "Gone": in.gone, "Cancel": in.cancel,
	})
}

func (c *Component) serveAddDomain(w http.ResponseWriter, r *http.Request) {
	domain := r.URL.Query().Get("domain")
	if !validDomain(domain) {
		http.Error(w, "domain", http.StatusBadRequest)
		return
	}
	_, version := c.state()
	c.render(w, "adddomain.html", map[string]any{"Version": version, "Domain": domain})
}

func (c *Component) render(w http.ResponseWriter, name string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := pages.ExecuteTemplate(w, name, data); err != nil {
		c.log.Error("page", "name", name, "error", err)
	}
}

func servePageFile(name, contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		b, err := pageFiles.ReadFile(name)
		if err != nil {
			http.Error(w, "missing", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(b)
	}
}

const imageWidth = 2000 // pixels

// serveImage sends pkcs11info without certificates as a picture.
func (c *Component) serveImage(w http.ResponseWriter, _ *http.Request) {
	a := c.info(0, false)
	text, err := json.Marshal(a)
	if err != nil {
		http.Error(w, "image", http.StatusInternalServerError)
		return
	}
	c.log.Info("soft card", "func", "p11Image", "ret_code", a.RetCode)
	w.Header().Set("Content-Type", "image/bmp")
	_, _ = w.Write(bitmap(text))
}

// bitmap makes a 2000×1 picture whose pixels hold the text, three bytes each in
// the order blue, green, red, which is the order of a BMP file; zeros follow.
func bitmap(text []byte) []byte {
	const header, row = 14 + 40, 3 * imageWidth // a multiple of 4: no padding
	b := make([]byte, header+row)
	copy(b, "BM")
	le := binary.LittleEndian
	le.PutUint32(b[2:], header+row)
	le.PutUint32(b[10:], header)
	le.PutUint32(b[14:], 40) // BITMAPINFOHEADER
	le.PutUint32(b[18:], imageWidth)
	le.PutUint32(b[22:], 1)
	le.PutUint16(b[26:], 1)  // planes
	le.PutUint16(b[28:], 24) // bits a pixel
	le.PutUint32(b[34:], row)
	copy(b[header:header+row-3], text) // the last pixel stays zero
	return b
}

// serveWaiting sends the smallest GIF: one transparent pixel.
func serveWaiting(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "image/gif")
	_, _ = w.Write([]byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"))
}
