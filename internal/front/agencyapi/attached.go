package agencyapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"sealgate/internal/cms"
	"sealgate/internal/front"
	"sealgate/internal/signing"
)

// Bounds on documents that are sent to be put into their signature, in bytes. Up
// to attachedBuffer another document is refused before an answer begins.
const (
	maxAttached    = 16 << 30
	attachedBuffer = 8 << 20
	// attachedStep is how long sender and receiver may stand still.
	attachedStep = 60 * time.Second
)

// attached answers a document's signature with the document inside (CMS attached,
// application/pkcs7-mime). The document is the body and is kept nowhere.
//
// A larger document is passed through while it is read. Where its end shows that
// it is another one, the connection is cut before the part with the signatures:
// the client sees a broken answer and holds no signature.
func (d *Door) attached(w http.ResponseWriter, r *http.Request, c caller) {
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
	if err == nil && made.Form != signing.FormCMS {
		err = ErrNotAttachable
	}
	var a cms.Attached
	if err == nil {
		a, err = attachable(made.DER)
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	size := r.ContentLength
	if size < 0 || size > maxAttached {
		front.WriteProblem(w, r, ErrLengthRequired)
		return
	}
	front.AllowBody(w, r, size)
	steps := stepper{w: w, control: http.NewResponseController(w)}
	a.Content, a.Size = steps.reading(r.Body), size
	h := w.Header()
	h.Set("Content-Type", "application/pkcs7-mime; smime-type=signed-data")
	h.Set("Content-Disposition", attachment(n, asked.Documents[n].Name, ".p7m"))
	if size > attachedBuffer {
		_ = steps.control.EnableFullDuplex() // HTTP/2 always is; else net/http would read all of the body first
		if err := cms.WriteAttached(steps, a); err != nil {
			panic(http.ErrAbortHandler) // the answer has begun: nothing but breaking it off tells the client
		}
		return
	}
	var whole bytes.Buffer
	if err := cms.WriteAttached(&whole, a); err != nil {
		h.Del("Content-Disposition")
		front.WriteProblem(w, r, ErrOtherDocument.Because(err))
		return
	}
	h.Set("Content-Length", strconv.Itoa(whole.Len()))
	_, _ = w.Write(whole.Bytes())
}

// attachable takes a detached signature apart.
func attachable(der []byte) (cms.Attached, error) {
	sd, err := cms.ParseBER(der)
	if err != nil {
		return cms.Attached{}, err
	}
	if sd.Attached {
		return cms.Attached{}, ErrNotAttachable.Because(errors.New("the content is inside"))
	}
	return cms.Attached{ContentType: sd.ContentType, Certificates: sd.Certificates, Signers: sd.Signers, Revocations: sd.RawRevocations()}, nil
}

// stepper moves the connection's deadlines on with each piece: a document of
// several GB may take its time, somebody who stands still may not.
type stepper struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// Write passes on.
func (s stepper) Write(p []byte) (int, error) {
	_ = s.control.SetWriteDeadline(time.Now().Add(attachedStep))
	return s.w.Write(p)
}

func (s stepper) reading(r io.Reader) io.Reader { return steppedReader{r, s.control} }

type steppedReader struct {
	r       io.Reader
	control *http.ResponseController
}

// Read passes on.
func (s steppedReader) Read(p []byte) (int, error) {
	_ = s.control.SetReadDeadline(time.Now().Add(attachedStep))
	return s.r.Read(p)
}
