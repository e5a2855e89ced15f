package softauthn

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// descriptor is PublicKeyCredentialDescriptorJSON.
type descriptor struct {
	ID string `json:"id"`
}

// creationOptions are the members of PublicKeyCredentialCreationOptionsJSON used here.
type creationOptions struct {
	RP struct {
		ID string `json:"id"`
	} `json:"rp"`
	User struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"user"`
	Challenge        string `json:"challenge"`
	PubKeyCredParams []struct {
		Type string `json:"type"`
		Alg  int    `json:"alg"`
	} `json:"pubKeyCredParams"`
	ExcludeCredentials []descriptor `json:"excludeCredentials"`
	Attestation        string       `json:"attestation"`
}

// requestOptions are the members of PublicKeyCredentialRequestOptionsJSON used here.
type requestOptions struct {
	Challenge        string       `json:"challenge"`
	RPID             string       `json:"rpId"`
	AllowCredentials []descriptor `json:"allowCredentials"`
}

// Create registers a passkey: navigator.credentials.create() on a page of the
// origin, and the person agrees. It gives RegistrationResponseJSON and the new
// credential's id.
func (a *Authenticator) Create(origin string, optionsJSON []byte, faults ...Fault) (responseJSON, credentialID []byte, err error) {
	var o creationOptions
	if err := json.Unmarshal(optionsJSON, &o); err != nil {
		return nil, nil, fmt.Errorf("softauthn: creation options: %w", err)
	}
	c := ceremony(faults)
	userHandle, err := base64.RawURLEncoding.DecodeString(o.User.ID)
	if err != nil || len(userHandle) == 0 || len(userHandle) > 64 {
		return nil, nil, fmt.Errorf("softauthn: user.id: %w", ErrNotAllowed)
	}
	if !rpIDFits(origin, o.RP.ID) {
		return nil, nil, ErrSecurity
	}
	algorithm, err := a.pickAlgorithm(o)
	if err != nil {
		return nil, nil, err
	}
	if a.holdsAny(o.ExcludeCredentials) {
		return nil, nil, ErrExcluded
	}
	cred, err := newCredential(algorithm, o.RP.ID, userHandle, o.User.Name)
	if err != nil {
		return nil, nil, err
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	clientData := c.clientData("webauthn.create", o.Challenge, origin)
	kind := a.opts.Attestation
	if o.Attestation == "none" || o.Attestation == "" {
		kind = None
	}
	authData := a.attestedAuthData(kind, cred, c)
	object, err := a.attestationObject(kind, cred, authData, clientData, c)
	if err != nil {
		return nil, nil, err
	}
	spki, _ := x509.MarshalPKIXPublicKey(cred.key.Public())
	a.add(cred)

	b := c.openResponse(cred.id)
	b = c.member(append(b, `"clientDataJSON":`...), clientData)
	b = c.member(append(b, `,"attestationObject":`...), object)
	b = c.member(append(b, `,"authenticatorData":`...), authData)
	b = c.member(append(b, `,"publicKey":`...), spki)
	b = append(b, `,"publicKeyAlgorithm":`...)
	b = strconv.AppendInt(b, int64(algorithm), 10)
	b = append(b, `,"transports":`...)
	transports, _ := json.Marshal(a.opts.Transports)
	b = append(b, transports...)
	return c.closeResponse(b), cred.id, nil
}

// attestedAuthData makes authenticator data with the new credential in it (§6.5.1).
func (a *Authenticator) attestedAuthData(kind Attestation, cred *credential, c *Ceremony) []byte {
	aaguid := a.opts.AAGUID
	if kind == FIDOU2F && !c.keepAAGUID {
		aaguid = [16]byte{}
	}
	b := append(a.authData(cred, c, flagAT), aaguid[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(cred.id)))
	b = append(append(b, cred.id...), coseKey(cred.key.Public(), cred.algorithm, c)...)
	return c.finishAuthData(b)
}

// Get approves with a passkey: navigator.credentials.get() on a page of the
// origin, and the person agrees. Without allowCredentials the newest passkey of
// the RP ID is taken, or the one of Choose. It gives AuthenticationResponseJSON.
func (a *Authenticator) Get(origin string, optionsJSON []byte, faults ...Fault) (responseJSON []byte, err error) {
	var o requestOptions
	if err := json.Unmarshal(optionsJSON, &o); err != nil {
		return nil, fmt.Errorf("softauthn: request options: %w", err)
	}
	c := ceremony(faults)
	if !rpIDFits(origin, o.RPID) {
		return nil, ErrSecurity
	}
	clientData := c.clientData("webauthn.get", o.Challenge, origin)
	hash := sha256.Sum256(clientData)

	cred, authData := a.use(o, c)
	if cred == nil {
		return nil, ErrNotAllowed
	}
	sig, err := cred.sign(append(authData, hash[:]...))
	if err != nil {
		return nil, err
	}
	sig = c.bendSignature(sig)

	id, handle := cred.id, cred.userHandle
	if c.otherCredential != nil {
		id = c.otherCredential
	}
	if c.otherUserHandle != nil {
		handle = c.otherUserHandle
	}
	b := c.openResponse(id)
	b = c.member(append(b, `"clientDataJSON":`...), clientData)
	b = c.member(append(b, `,"authenticatorData":`...), authData)
	b = c.member(append(b, `,"signature":`...), sig)
	if !c.noUserHandle {
		b = c.member(append(b, `,"userHandle":`...), handle)
	}
	return c.closeResponse(b), nil
}

// use finds the credential, counts, and makes its authenticator data.
func (a *Authenticator) use(o requestOptions, c *Ceremony) (*credential, []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	cred := a.find(o, c)
	if cred == nil {
		return nil, nil
	}
	if a.opts.Counter == CounterGrows && c.counter == nil {
		cred.counter++
	}
	flags := byte(0)
	if c.attestedInAssertion {
		flags = flagAT
	}
	authData := a.authData(cred, c, flags)
	if c.attestedInAssertion {
		authData = append(authData, a.opts.AAGUID[:]...)
		authData = binary.BigEndian.AppendUint16(authData, uint16(len(cred.id)))
		authData = append(append(authData, cred.id...), coseKey(cred.key.Public(), cred.algorithm, c)...)
	}
	return cred, c.finishAuthData(authData)
}

func (a *Authenticator) find(o requestOptions, c *Ceremony) *credential {
	if len(o.AllowCredentials) == 0 {
		if c.chosen != nil {
			if cred := a.byID[string(c.chosen)]; cred != nil && cred.rpID == o.RPID {
				return cred
			}
			return nil
		}
		list := a.newer[o.RPID]
		if len(list) == 0 {
			return nil
		}
		return list[len(list)-1]
	}
	for _, d := range o.AllowCredentials {
		id, err := base64.RawURLEncoding.DecodeString(d.ID)
		if err != nil {
			continue
		}
		cred := a.byID[string(id)]
		if cred != nil && cred.rpID == o.RPID && (c.chosen == nil || bytes.Equal(c.chosen, id)) {
			return cred
		}
	}
	return nil
}

func (a *Authenticator) holdsAny(list []descriptor) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range list {
		if id, err := base64.RawURLEncoding.DecodeString(d.ID); err == nil && a.byID[string(id)] != nil {
			return true
		}
	}
	return false
}

func (a *Authenticator) pickAlgorithm(o creationOptions) (int, error) {
	for _, p := range o.PubKeyCredParams {
		if p.Type != "public-key" {
			continue
		}
		if a.opts.Algorithm != 0 && a.opts.Algorithm != p.Alg {
			continue
		}
		if p.Alg == ES256 || p.Alg == EdDSA || p.Alg == RS256 {
			return p.Alg, nil
		}
	}
	return 0, ErrNotSupported
}

// authData makes the first 37 bytes (WebAuthn Level 3 §6.1).
func (a *Authenticator) authData(cred *credential, c *Ceremony, flags byte) []byte {
	flags |= flagUP | flagUV
	be, bs := a.opts.BackupEligible, a.opts.BackupState
	if c.flipBE {
		be = !be
		bs = bs && be
	}
	if be {
		flags |= flagBE
	}
	if bs {
		flags |= flagBS
	}
	flags = flags&^c.clearFlags | c.setFlags
	if c.extensions {
		flags |= flagED
	}
	hash := cred.rpIDHash
	if c.rpID != "" {
		hash = sha256.Sum256([]byte(c.rpID))
	}
	counter := cred.counter
	if c.counter != nil {
		counter = c.counter(cred.counter)
	}
	b := make([]byte, 0, 37+32) // room for the client data hash when signing
	b = append(append(b, hash[:]...), flags)
	return binary.BigEndian.AppendUint32(b, counter)
}

func (c *Ceremony) finishAuthData(b []byte) []byte {
	if c.extensions {
		b = append(appendText(appendMap(b, 1), "credProtect"), 0x03)
	}
	if c.leftoverBytes {
		b = append(b, 0)
	}
	return b
}

// clientData serialises CollectedClientData (WebAuthn Level 3 §5.8.1.1).
func (c *Ceremony) clientData(typ, challenge, origin string) []byte {
	keys := [3]string{"type", "challenge", "origin"}
	if c.otherCaseKeys {
		keys = [3]string{"Type", "Challenge", "Origin"}
	}
	if c.wrongType {
		typ = map[string]string{"webauthn.get": "webauthn.create", "webauthn.create": "webauthn.get"}[typ]
	}
	const other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	if c.wrongChallenge {
		challenge = other
	}
	if c.challengePad {
		challenge += strings.Repeat("=", (4-len(challenge)%4)%4)
	}
	if c.origin != nil {
		origin = c.origin(origin)
	}
	b := make([]byte, 0, 192)
	if c.bom {
		b = append(b, 0xEF, 0xBB, 0xBF)
	}
	b = append(append(append(b, '{', '"'), keys[0]...), `":`...)
	b = append(strconv.AppendQuote(b, typ), ',')
	if c.duplicateFirst {
		b = append(b, `"challenge":"`+other+`",`...)
	}
	b = append(append(append(b, '"'), keys[1]...), `":`...)
	if c.numericChallenge {
		b = append(b, '1')
	} else {
		b = strconv.AppendQuote(b, challenge)
	}
	if c.duplicateLast {
		b = append(b, `,"challenge":"`+other+`"`...)
	}
	b = append(append(append(b, `,"`...), keys[2]...), `":`...)
	b = strconv.AppendQuote(b, origin)
	b = append(b, `,"crossOrigin":`...)
	b = strconv.AppendBool(b, c.crossOrigin)
	if c.topOrigin != "" {
		b = strconv.AppendQuote(append(b, `,"topOrigin":`...), c.topOrigin)
	}
	if c.tokenBinding {
		b = append(b, `,"tokenBinding":{"status":"supported"}`...)
	}
	if c.badTokenBinding {
		b = append(b, `,"tokenBinding":"supported"`...)
	}
	return append(b, '}')
}

func (c *Ceremony) bendSignature(sig []byte) []byte {
	if c.badSignature {
		sig[len(sig)-1] ^= 1
	}
	if c.berSignature && len(sig) > 4 && sig[0] == 0x30 {
		// A zero before the first integer: the same number, not minimal.
		bent := []byte{0x30, sig[1] + 1, 0x02, sig[3] + 1, 0x00}
		sig = append(bent, sig[4:]...)
	}
	return sig
}

func (c *Ceremony) openResponse(id []byte) []byte {
	b := make([]byte, 0, 1024)
	shown := id
	if c.idMismatch {
		shown = append([]byte{id[0] ^ 1}, id[1:]...)
	}
	b = c.member(append(b, `{"id":`...), shown)
	b = c.member(append(b, `,"rawId":`...), id)
	return append(b, `,"response":{`...)
}

func (c *Ceremony) closeResponse(b []byte) []byte {
	outputs := `{}`
	if c.unsolicited {
		outputs = `{"appid":false,"credProps":{"rk":true}}`
	}
	b = append(b, `},"authenticatorAttachment":"platform","clientExtensionResults":`+outputs+`,"type":"public-key"}`...)
	if c.trailingData {
		b = append(b, `{}`...)
	}
	return b
}

// member appends a base64url string value.
func (c *Ceremony) member(b, v []byte) []byte {
	b = append(b, '"')
	if c.paddedBase64 {
		b = base64.URLEncoding.AppendEncode(b, v)
	} else {
		b = base64.RawURLEncoding.AppendEncode(b, v)
	}
	return append(b, '"')
}

func ceremony(faults []Fault) *Ceremony {
	c := &Ceremony{}
	for _, f := range faults {
		f(c)
	}
	return c
}

// rpIDFits is the check a browser makes: the RP ID is the origin's host or a
// parent of it (WebAuthn Level 3 §5.1.3 step 8).
func rpIDFits(origin, rpID string) bool {
	u, err := url.Parse(origin)
	if err != nil || rpID == "" {
		return false
	}
	host := u.Hostname()
	return host == rpID || strings.HasSuffix(host, "."+rpID)
}
