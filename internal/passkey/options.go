package passkey

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
)

// b64 is bytes that JSON writes as unpadded base64url.
type b64 []byte

// MarshalText implements encoding.TextMarshaler.
func (b b64) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

type descriptorJSON struct {
	Type string `json:"type"`
	ID   b64    `json:"id"`
}

type creationJSON struct {
	RP struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"rp"`
	User struct {
		ID          b64    `json:"id"`
		Name        string `json:"name"`
		DisplayName string `json:"displayName"`
	} `json:"user"`
	Challenge   b64              `json:"challenge"`
	Params      []paramJSON      `json:"pubKeyCredParams"`
	Timeout     int64            `json:"timeout"`
	Exclude     []descriptorJSON `json:"excludeCredentials,omitempty"`
	Selection   selectionJSON    `json:"authenticatorSelection"`
	Hints       []string         `json:"hints,omitempty"`
	Attestation string           `json:"attestation"`
}

type paramJSON struct {
	Type string `json:"type"`
	Alg  int    `json:"alg"`
}

type selectionJSON struct {
	Attachment         string `json:"authenticatorAttachment,omitempty"`
	ResidentKey        string `json:"residentKey"`
	RequireResidentKey bool   `json:"requireResidentKey"`
	UserVerification   string `json:"userVerification"`
}

type requestJSON struct {
	Challenge        b64              `json:"challenge"`
	Timeout          int64            `json:"timeout"`
	RPID             string           `json:"rpId"`
	Allow            []descriptorJSON `json:"allowCredentials,omitempty"`
	UserVerification string           `json:"userVerification"`
	Hints            []string         `json:"hints,omitempty"`
}

// CreationOptions gives PublicKeyCredentialCreationOptionsJSON, the argument of
// PublicKeyCredential.parseCreationOptionsFromJSON: a discoverable credential,
// user verification required, on this phone by preference, with attestation as
// the policy says. exclude are ids of credentials the user already has.
//
// The caller passes the same challenge to Register.
func (rp *RelyingParty) CreationOptions(u User, challenge []byte, exclude [][]byte) ([]byte, error) {
	if err := checkChallenge(challenge); err != nil {
		return nil, err
	}
	if len(u.Handle) == 0 || len(u.Handle) > MaxUserHandle {
		return nil, fmt.Errorf("passkey: user handle of %d bytes", len(u.Handle))
	}
	if u.Name == "" {
		return nil, fmt.Errorf("passkey: user without a name")
	}
	if u.DisplayName == "" {
		u.DisplayName = u.Name
	}
	var o creationJSON
	o.RP.ID, o.RP.Name = rp.cfg.RPID, rp.cfg.RPName
	o.User.ID, o.User.Name, o.User.DisplayName = u.Handle, u.Name, u.DisplayName
	o.Challenge = challenge
	for _, alg := range rp.cfg.Algorithms {
		o.Params = append(o.Params, paramJSON{"public-key", alg})
	}
	o.Timeout = rp.cfg.Timeout.Milliseconds()
	var err error
	if o.Exclude, err = descriptors(exclude); err != nil {
		return nil, err
	}
	o.Selection = selectionJSON{Attachment: string(rp.cfg.Policy.Attachment), ResidentKey: "required", RequireResidentKey: true, UserVerification: "required"}
	o.Hints = []string{"client-device"}
	if rp.cfg.Policy.Attachment == CrossPlatform {
		o.Hints = []string{"security-key", "hybrid"}
	}
	o.Attestation = "direct"
	if rp.cfg.Attestation == AttestationOff {
		o.Attestation = "none"
	}
	return json.Marshal(o)
}

// RequestOptions gives PublicKeyCredentialRequestOptionsJSON, the argument of
// PublicKeyCredential.parseRequestOptionsFromJSON, with user verification
// required. Without allow, any passkey of this relying party may answer. hints
// are "client-device", "hybrid", "security-key" (WebAuthn Level 3 §5.8.7).
func (rp *RelyingParty) RequestOptions(challenge []byte, allow [][]byte, hints ...string) ([]byte, error) {
	if err := checkChallenge(challenge); err != nil {
		return nil, err
	}
	for _, h := range hints {
		if !slices.Contains([]string{"client-device", "hybrid", "security-key"}, h) {
			return nil, fmt.Errorf("passkey: unknown hint %q", h)
		}
	}
	list, err := descriptors(allow)
	if err != nil {
		return nil, err
	}
	return json.Marshal(requestJSON{
		Challenge: challenge, Timeout: rp.cfg.Timeout.Milliseconds(), RPID: rp.cfg.RPID,
		Allow: list, UserVerification: "required", Hints: hints,
	})
}

func checkChallenge(challenge []byte) error {
	if len(challenge) < MinChallenge || len(challenge) > MaxChallenge {
		return fmt.Errorf("passkey: challenge of %d bytes", len(challenge))
	}
	return nil
}

func descriptors(ids [][]byte) ([]descriptorJSON, error) {
	if len(ids) > maxDescriptors {
		return nil, fmt.Errorf("passkey: %d credentials in one request", len(ids))
	}
	var out []descriptorJSON
	for _, id := range ids {
		out = append(out, descriptorJSON{"public-key", id})
	}
	return out, nil
}
