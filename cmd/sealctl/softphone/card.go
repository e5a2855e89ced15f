package softphone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// DefaultComponent is where the card component listens.
const DefaultComponent = "http://localhost:61161"

// Card is one card in the local component's reader, and the person's PIN.
type Card struct {
	Component string // address; "" for DefaultComponent
	Number    int    // which card of the soft component; 0 for whatever is inserted
	PIN       string
	HTTP      *http.Client
}

// CardInfo is what the component reads of a card.
type CardInfo struct {
	Certificate string // base64 of DER: the signing certificate
	CardNumber  string
	Version     string // of the component
	Reader      string
}

// CardSignature is what the card made.
type CardSignature struct {
	Signature   string // base64 of CMS SignedData with the content inside
	Certificate string
	CardNumber  string
}

// CardError is a refusal of the component.
type CardError struct {
	RetCode   int64
	LastError int64
	Message   string
	TriesLeft *int // after a wrong PIN
}

// Error gives the component's code and text.
func (e *CardError) Error() string { return fmt.Sprintf("card: 0x%X %s", e.RetCode, e.Message) }

// Read reads the signing certificate.
func (c Card) Read(ctx context.Context) (*CardInfo, error) {
	var a struct {
		RetCode       int64  `json:"ret_code"`
		LastError     int64  `json:"last_error"`
		Message       string `json:"message"`
		ServerVersion string `json:"serverVersion"`
		Slots         []struct {
			SlotDescription string `json:"slotDescription"`
			Token           *struct {
				SerialNumber string `json:"serialNumber"`
				Certs        []struct {
					CertB64 string `json:"certb64"`
					Usage   string `json:"usage"`
				} `json:"certs"`
			} `json:"token"`
		} `json:"slots"`
	}
	if err := call(ctx, c.client(), http.MethodGet, c.address("/pkcs11info?withcert=true"), nil, nil, &a); err != nil {
		return nil, err
	}
	if a.RetCode != 0 {
		return nil, &CardError{RetCode: a.RetCode, LastError: a.LastError, Message: a.Message}
	}
	for _, slot := range a.Slots {
		if slot.Token == nil {
			continue
		}
		for _, cert := range slot.Token.Certs {
			if strings.Contains(cert.Usage, "digitalSignature") {
				return &CardInfo{Certificate: cert.CertB64, CardNumber: slot.Token.SerialNumber, Version: a.ServerVersion, Reader: slot.SlotDescription}, nil
			}
		}
	}
	return nil, errors.New("card: no signing certificate in any reader")
}

// Sign lets the card sign bytes (base64), as the enrolment page asks for it.
func (c Card) Sign(ctx context.Context, tbs, nonce, reader string) (*CardSignature, error) {
	request, err := json.Marshal(map[string]string{"func": "MakeSignature", "tbs": tbs, "tbsEncoding": "base64", "hashAlgorithm": "SHA256",
		"signatureType": "PKCS7", "pin": c.PIN, "withCardSN": "true", "nonce": nonce, "slotDescription": reader})
	if err != nil {
		return nil, err
	}
	form := url.Values{"tbsPackage": {string(request)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.address("/sign"), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := c.client().Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var a struct {
		RetCode      int64  `json:"ret_code"`
		LastError    int64  `json:"last_error"`
		Message      string `json:"message"`
		Signature    string `json:"signature"`
		CertB64      string `json:"certb64"`
		CardSN       string `json:"cardSN"`
		PINTriesLeft *int   `json:"pinTriesLeft"`
	}
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return nil, fmt.Errorf("card: the component's answer: %w", err)
	}
	if a.RetCode != 0 {
		return nil, &CardError{RetCode: a.RetCode, LastError: a.LastError, Message: a.Message, TriesLeft: a.PINTriesLeft}
	}
	return &CardSignature{Signature: a.Signature, Certificate: a.CertB64, CardNumber: a.CardSN}, nil
}

func (c Card) client() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	return http.DefaultClient
}

func (c Card) address(path string) string {
	base := strings.TrimSuffix(c.Component, "/")
	if base == "" {
		base = DefaultComponent
	}
	if c.Number == 0 {
		return base + path
	}
	join := "?"
	if strings.Contains(path, "?") {
		join = "&"
	}
	return base + path + join + "card=" + strconv.Itoa(c.Number)
}
