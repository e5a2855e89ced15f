package softcard

import (
	"crypto"
	"crypto/rand"
	_ "crypto/sha1" // pages may still ask for it
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"sealgate/internal/pkitest"
)

// Codes of ret_code.
const (
	codeNoTBS        = 0x76000003
	codeNoCard       = 0x76000006
	codeBadJSON      = 0x7600000B
	codeBadParameter = 0x7600000C
	codeUnsupported  = 0x7600000E
	codeForbidden    = 0x7600000F
	codeUntrusted    = 0x76000031
	codeNoPIN        = 0x76000998
	codeCancelled    = 0x76000999
	codeNoReader     = 0x76100003
	codeLogin        = 0x76100006
	codeSigning      = 0x76300001
	codeExpired      = 0x76500002
)

// Codes of last_error, PKCS#11's.
const (
	lastWrongPIN  = 0xA0
	lastPINLength = 0xA2
	lastPINLocked = 0xA4
)

// maxTBS bounds what one request may ask to sign, in bytes.
const maxTBS = 512 << 10

// infoAnswer is what /pkcs11info returns.
type infoAnswer struct {
	Func           string `json:"func"` // "pkcs11info"
	RetCode        int64  `json:"ret_code"`
	LastError      int64  `json:"last_error"`
	Message        string `json:"message"`
	ServerVersion  string `json:"serverVersion"`
	LibraryVersion string `json:"libraryVersion"`
	Slots          []slot `json:"slots"`
}

type slot struct {
	SlotDescription string `json:"slotDescription"`
	Token           *token `json:"token,omitempty"` // absent: a reader without a card
}

type token struct {
	SerialNumber string     `json:"serialNumber"`
	Label        string     `json:"label"`
	Model        string     `json:"model"`
	Certs        []certInfo `json:"certs,omitempty"` // with withcert=true only
	Keys         []keyInfo  `json:"keys,omitempty"`
	// PINTriesLeft is our own: the real component does not tell.
	PINTriesLeft int `json:"pinTriesLeft"`
}

type certInfo struct {
	CertB64    string `json:"certb64"`
	Label      string `json:"label"`
	Usage      string `json:"usage"`
	SN         string `json:"sn"`
	SubjectDN  string `json:"subjectDN"`
	IssuerDN   string `json:"issuerDN"`
	NotBeforeT int64  `json:"notBeforeT"` // Unix seconds
	NotAfterT  int64  `json:"notAfterT"`
	SubjectID  string `json:"subjectID"` // last four of the national ID
}

type keyInfo struct {
	Label string `json:"label"`
	Usage string `json:"usage"`
}

// signAnswer is what /sign returns.
type signAnswer struct {
	Func          string `json:"func"` // "sign"
	RetCode       int64  `json:"ret_code"`
	LastError     int64  `json:"last_error"`
	Message       string `json:"message"`
	Signature     string `json:"signature,omitempty"`
	CertB64       string `json:"certb64,omitempty"`
	CardSN        string `json:"cardSN,omitempty"`
	ServerVersion string `json:"serverVersion"`
	// PINTriesLeft is our own, present when a PIN was refused.
	PINTriesLeft *int `json:"pinTriesLeft,omitempty"`
}

// signRequest is the JSON of tbsPackage. Fields we do not know are ignored, as
// pages send their own.
type signRequest struct {
	Func            string `json:"func"`
	TBS             string `json:"tbs"`
	TBSEncoding     string `json:"tbsEncoding"`
	HashAlgorithm   string `json:"hashAlgorithm"`
	PIN             string `json:"pin"`
	SignatureType   string `json:"signatureType"`
	SlotDescription string `json:"slotDescription"`
	WithCardSN      any    `json:"withCardSN"` // "true" or true
	Nonce           string `json:"nonce"`
}

// inserted is what is in the reader(s).
type inserted struct {
	card   int  // only this one; 0: every card, each in its own reader
	empty  bool // a reader, no card
	gone   bool // no reader
	cancel bool // the person cancels whatever is asked
}

func (c *Component) state() (inserted, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inserted, c.version
}

// present lists the cards a request can use: the chosen one, or what is
// inserted. Without any it gives the ret_code that says why.
func (c *Component) present(chosen int, description string) ([]*card, int64) {
	in, _ := c.state()
	switch {
	case in.cancel:
		return nil, codeCancelled
	case in.gone:
		return nil, codeNoReader
	case in.empty:
		return nil, codeNoCard
	}
	var cards []*card
	for _, k := range c.store.cards {
		if (in.card == 0 || in.card == k.number) && (chosen == 0 || chosen == k.number) &&
			(description == "" || description == k.reader()) {
			cards = append(cards, k)
		}
	}
	if len(cards) == 0 {
		return nil, codeNoCard
	}
	return cards, 0
}

var messages = map[int64]string{
	0:                "成功 / success",
	codeNoTBS:        "沒有要簽的資料 / nothing to sign",
	codeNoCard:       "沒有插入卡片 / no card",
	codeBadJSON:      "JSON 格式錯誤 / bad JSON",
	codeBadParameter: "參數錯誤 / bad parameter",
	codeUnsupported:  "不支援 / not supported",
	codeForbidden:    "禁止的網域 / forbidden domain",
	codeUntrusted:    "網站不在信任清單 / site not trusted",
	codeNoPIN:        "沒有 PIN 碼 / no PIN",
	codeCancelled:    "使用者取消 / cancelled by the user",
	codeNoReader:     "沒有讀卡機 / no reader",
	codeLogin:        "PIN 碼驗證失敗 / card login failed",
	codeSigning:      "簽章失敗 / signing failed",
	codeExpired:      "憑證已過期 / certificate expired",
}

// info answers /pkcs11info.
func (c *Component) info(chosen int, withCert bool) infoAnswer {
	_, version := c.state()
	a := infoAnswer{Func: "pkcs11info", ServerVersion: version, LibraryVersion: libraryVersion, Slots: []slot{}}
	cards, code := c.present(chosen, "")
	if code == codeNoCard {
		a.Slots = append(a.Slots, slot{SlotDescription: "Sealgate TEST Reader 1"})
	}
	for _, k := range cards {
		a.Slots = append(a.Slots, slot{SlotDescription: k.reader(), Token: c.token(k, withCert)})
	}
	a.RetCode, a.Message = code, messages[code]
	return a
}

func (c *Component) token(k *card, withCert bool) *token {
	t := &token{SerialNumber: k.signing.CardNumber, Label: "Sealgate TEST card", Model: "TEST ONLY", PINTriesLeft: c.store.triesLeft(k)}
	if !withCert {
		return t
	}
	for i, key := range []*pkitest.Card{k.signing, k.encryption} {
		cert := key.Certificate
		usage := "digitalSignature"
		if cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
			usage = "keyEncipherment|dataEncipherment"
		}
		label := fmt.Sprintf("cert%d", i+1)
		t.Certs = append(t.Certs, certInfo{
			CertB64: base64.StdEncoding.EncodeToString(cert.Raw), Label: label, Usage: usage,
			SN:         strings.ToUpper(cert.SerialNumber.Text(16)),
			SubjectDN:  "C=TW,CN=" + key.Name + ",serialNumber=" + key.Serial16,
			IssuerDN:   "C=TW,O=行政院,OU=" + firstOf(cert.Issuer.OrganizationalUnit),
			NotBeforeT: cert.NotBefore.Unix(), NotAfterT: cert.NotAfter.Unix(), SubjectID: k.lastFour(),
		})
		t.Keys = append(t.Keys, keyInfo{Label: label, Usage: usage})
	}
	return t
}

func firstOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// sign answers /sign. text is the JSON of tbsPackage.
func (c *Component) sign(chosen int, text string) signAnswer {
	_, version := c.state()
	a := signAnswer{Func: "sign", ServerVersion: version}
	var req signRequest
	if !utf8.ValidString(text) || json.Unmarshal([]byte(text), &req) != nil {
		return a.fail(codeBadJSON, "")
	}
	if req.Func != "" && req.Func != "MakeSignature" {
		return a.fail(codeUnsupported, "func "+clip(req.Func))
	}
	cards, code := c.present(chosen, req.SlotDescription)
	if code != 0 {
		return a.fail(code, "")
	}
	k := cards[0]
	tbs, code, detail := req.content()
	if code != 0 {
		return a.fail(code, detail)
	}
	if refused, ok := c.login(a, k, req.PIN); !ok {
		return refused
	}
	if time.Now().After(k.signing.Certificate.NotAfter) {
		return a.fail(codeExpired, "")
	}
	signature, code, detail := req.make(k, tbs)
	if code != 0 {
		return a.fail(code, detail)
	}
	a.Signature = base64.StdEncoding.EncodeToString(signature)
	a.CertB64 = base64.StdEncoding.EncodeToString(k.signing.Certificate.Raw)
	if truthy(req.WithCardSN) {
		a.CardSN = k.signing.CardNumber
	}
	a.Message = messages[0]
	return a
}

func (a signAnswer) fail(code int64, detail string) signAnswer {
	a.RetCode, a.Message = code, messages[code]
	if detail != "" {
		a.Message += ": " + detail
	}
	return a
}

// login checks the PIN as the chip does.
func (c *Component) login(a signAnswer, k *card, typed string) (signAnswer, bool) {
	if typed == "" {
		return a.fail(codeNoPIN, ""), false
	}
	if len(typed) < minPIN || len(typed) > maxPIN {
		a = a.fail(codeLogin, fmt.Sprintf("PIN 碼長度須為 %d 到 %d 碼 / a PIN has %d to %d characters", minPIN, maxPIN, minPIN, maxPIN))
		a.LastError = lastPINLength
		return a, false
	}
	ok, left, err := c.store.tryPIN(k, typed)
	switch {
	case err != nil:
		c.log.Error("the state of the cards cannot be written", "error", err)
		return a.fail(codeLogin, ""), false
	case ok:
		return a, true
	case left > 0:
		a = a.fail(codeLogin, fmt.Sprintf("PIN 碼錯誤，還可以試 %d 次 / wrong PIN, %d tries left", left, left))
		a.LastError = lastWrongPIN
	default:
		a = a.fail(codeLogin, "卡片已鎖住 / the card is locked")
		a.LastError = lastPINLocked
	}
	a.PINTriesLeft = &left
	return a, false
}

// content decodes what is to be signed.
func (r *signRequest) content() (tbs []byte, code int64, detail string) {
	switch strings.ToLower(r.TBSEncoding) {
	case "", "none":
		tbs = []byte(r.TBS)
	case "base64":
		var err error
		if tbs, err = base64.StdEncoding.DecodeString(r.TBS); err != nil {
			if strings.Contains(r.TBS, " ") {
				return nil, codeBadParameter, `tbs: "+" in the JSON must be written %2B (the body is a form)`
			}
			return nil, codeBadParameter, "tbs: not base64"
		}
	default:
		return nil, codeBadParameter, "tbsEncoding " + clip(r.TBSEncoding)
	}
	if len(tbs) == 0 {
		return nil, codeNoTBS, ""
	}
	if len(tbs) > maxTBS {
		return nil, codeBadParameter, fmt.Sprintf("tbs: more than %d bytes", maxTBS)
	}
	return tbs, 0, ""
}

// make signs with the card's signing key.
func (r *signRequest) make(k *card, tbs []byte) (signature []byte, code int64, detail string) {
	hash, ok := hashes[strings.ToUpper(strings.ReplaceAll(r.HashAlgorithm, "-", ""))]
	if !ok {
		return nil, codeBadParameter, "hashAlgorithm " + clip(r.HashAlgorithm)
	}
	var err error
	switch strings.ToUpper(strings.ReplaceAll(r.SignatureType, "#", "")) {
	case "PKCS1":
		h := hash.New()
		h.Write(tbs)
		signature, err = k.signing.Key.Sign(rand.Reader, h.Sum(nil), hash)
	case "", "PKCS7":
		if hash != crypto.SHA256 {
			return nil, codeUnsupported, "PKCS7 with " + clip(r.HashAlgorithm)
		}
		options := pkitest.SignOptions{Nonce: []byte(r.Nonce)}
		if truthy(r.WithCardSN) {
			options.CardSN = k.signing.CardNumber
		}
		signature, err = pkitest.SignAttached(k.signing, tbs, options)
	case "RAW":
		// The DigestInfo is in the data; the card only pads it and signs.
		if len(tbs) > 245 {
			return nil, codeBadParameter, "RAW: more than 245 bytes"
		}
		signature, err = pkitest.SignRAW(k.signing, tbs)
	default:
		return nil, codeBadParameter, "signatureType " + clip(r.SignatureType)
	}
	if err != nil {
		return nil, codeSigning, ""
	}
	return signature, 0, ""
}

var hashes = map[string]crypto.Hash{
	"": crypto.SHA256, "SHA1": crypto.SHA1, "SHA256": crypto.SHA256, "SHA384": crypto.SHA384, "SHA512": crypto.SHA512,
}

func truthy(v any) bool { return v == true || v == "true" }

// clip keeps foreign text in messages short.
func clip(s string) string {
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}
