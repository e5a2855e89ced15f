package softphone

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// CardReader is how the enrolment page reaches a card: Card over the local
// component, or a chip in the same program (cmd/sealctl/bench).
type CardReader interface {
	// Read gives the signing certificate.
	Read(ctx context.Context) (*CardInfo, error)
	// Sign signs bytes (base64) as CMS with the content inside.
	Sign(ctx context.Context, tbs, nonce, reader string) (*CardSignature, error)
}

// Enrolment is one person at the enrolment page, with card and phone.
type Enrolment struct {
	Browser    *Browser
	Phone      *Phone
	Card       CardReader
	NationalID string // as typed at the page
	DeviceName string // "" for a plain one
}

// Bound is what the enrolment page is told at the end.
type Bound struct {
	Order  string `json:"-"`
	Device struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"device"`
	MobileCertificate struct {
		ID          string `json:"id"`
		Certificate string `json:"certificate"` // base64 of DER
		NotAfter    string `json:"not_after"`
	} `json:"mobile_certificate"`
}

// Run walks the whole enrolment: card, QR code, passkey, the two digits, the
// card's signature over the passkey.
func (e Enrolment) Run(ctx context.Context) (*Bound, error) {
	if e.DeviceName == "" {
		e.DeviceName = "Soft phone"
	}
	id, info, err := e.Begin(ctx)
	if err != nil {
		return nil, err
	}
	frame, err := e.Browser.Frame(ctx, id)
	if err != nil {
		return nil, err
	}
	claim, err := e.Phone.Scan(ctx, frame)
	if err != nil {
		return nil, fmt.Errorf("phone, scanning: %w", err)
	}
	if claim.Check.Required && !claim.Check.Passed {
		if err := e.Browser.Check(ctx, id, claim.Check.Digits); err != nil {
			return nil, fmt.Errorf("the two digits: %w", err)
		}
	}
	if err := e.Phone.Bind(ctx, claim, e.DeviceName); err != nil {
		return nil, fmt.Errorf("phone, passkey: %w", err)
	}
	return e.Prove(ctx, id, info)
}

// Begin reads the card and makes the enrol order.
func (e Enrolment) Begin(ctx context.Context) (order string, info *CardInfo, err error) {
	if info, err = e.Card.Read(ctx); err != nil {
		return "", nil, err
	}
	if _, err := e.Browser.Get(ctx, "/enrol"); err != nil { // the page gives the cookie
		return "", nil, err
	}
	var begun struct {
		Order string `json:"order"`
	}
	body := map[string]string{"national_id": e.NationalID, "certificate": info.Certificate,
		"component_version": info.Version, "card_number": info.CardNumber}
	if err := call(ctx, e.Browser.http, http.MethodPost, e.Browser.server+"/enrol/card", nil, body, &begun); err != nil {
		return "", nil, fmt.Errorf("card: %w", err)
	}
	return begun.Order, info, nil
}

// Prove waits for the phone's passkey, lets the card sign for it, and sends that.
func (e Enrolment) Prove(ctx context.Context, order string, info *CardInfo) (*Bound, error) {
	base := e.Browser.server + "/enrol/" + url.PathEscape(order)
	var statement struct{ TBS, Nonce string }
	for {
		err := call(ctx, e.Browser.http, http.MethodGet, base+"/statement", nil, nil, &statement)
		if err == nil {
			break
		}
		if CodeOf(err) != "enrol_no_credential" {
			return nil, fmt.Errorf("statement: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	signed, err := e.Card.Sign(ctx, statement.TBS, statement.Nonce, info.Reader)
	if err != nil {
		return nil, err
	}
	bound := Bound{Order: order}
	body := map[string]string{"signature": signed.Signature, "certificate": signed.Certificate, "card_number": signed.CardNumber}
	if err := call(ctx, e.Browser.http, http.MethodPost, base+"/proof", nil, body, &bound); err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	return &bound, nil
}
