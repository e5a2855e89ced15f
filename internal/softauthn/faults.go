package softauthn

import (
	"net/url"
	"strings"
)

// Ceremony carries what a Fault bends in one Create or Get. Only the faults of
// this package set it.
type Ceremony struct {
	// client data
	wrongType, wrongChallenge                           bool
	origin                                              func(string) string
	duplicateFirst, duplicateLast                       bool
	otherCaseKeys, bom, crossOrigin, tokenBinding       bool
	badTokenBinding, numericChallenge, challengePad     bool
	topOrigin                                           string
	paddedBase64, trailingData, idMismatch, unsolicited bool

	// authenticator data
	setFlags, clearFlags       byte
	flipBE                     bool
	rpID                       string
	counter                    func(uint32) uint32
	extensions, leftoverBytes  bool
	badSignature, berSignature bool
	otherUserHandle            []byte
	noUserHandle               bool
	otherCredential, chosen    []byte
	attestedInAssertion        bool

	// credential key
	offCurve, curveMismatch, ktyMismatch, missingCoordinates bool
	rsaBits                                                  int

	// attestation
	badAttestation, keepAAGUID, fullChain bool
}

// Fault bends one ceremony. Give any number of them to Create or Get.
type Fault func(*Ceremony)

const (
	flagUP = 0x01
	flagUV = 0x04
	flagBE = 0x08
	flagBS = 0x10
	flagAT = 0x40
	flagED = 0x80
)

// WithoutUV clears the user-verified flag: no fingerprint, face or PIN.
func WithoutUV(c *Ceremony) { c.clearFlags |= flagUV }

// WithoutUP clears the user-present flag.
func WithoutUP(c *Ceremony) { c.clearFlags |= flagUP }

// BEFlipped sends the other value of the backup-eligible flag, which must never
// change in a credential's life (WebAuthn Level 3 §6.1.3).
func BEFlipped(c *Ceremony) { c.flipBE = true }

// BSWithoutBE says "backed up" of a credential that cannot be.
func BSWithoutBE(c *Ceremony) { c.setFlags |= flagBS; c.clearFlags |= flagBE }

// WrongType sends the other ceremony's type in the client data.
func WrongType(c *Ceremony) { c.wrongType = true }

// WrongChallenge sends a challenge that nobody asked for.
func WrongChallenge(c *Ceremony) { c.wrongChallenge = true }

// ChallengeAsNumber sends the challenge as a JSON number.
func ChallengeAsNumber(c *Ceremony) { c.numericChallenge = true }

// PaddedChallenge sends the right challenge with base64 padding.
func PaddedChallenge(c *Ceremony) { c.challengePad = true }

// WrongOrigin sends another origin, as a phishing page's browser would.
func WrongOrigin(origin string) Fault {
	return func(c *Ceremony) { c.origin = func(string) string { return origin } }
}

// OriginWithPath sends the origin with a path behind it.
func OriginWithPath(c *Ceremony) {
	c.origin = func(o string) string { return o + "/path" }
}

// OriginWithUserinfo sends the origin with a user name before the host.
func OriginWithUserinfo(c *Ceremony) {
	c.origin = func(o string) string { return strings.Replace(o, "://", "://user@", 1) }
}

// OriginUpperCase sends the origin in capitals.
func OriginUpperCase(c *Ceremony) { c.origin = strings.ToUpper }

// OriginWithDefaultPort spells out the port that a serialised origin leaves off.
func OriginWithDefaultPort(c *Ceremony) {
	c.origin = func(o string) string {
		if u, err := url.Parse(o); err == nil && u.Port() == "" {
			return o + map[string]string{"https": ":443", "http": ":80"}[u.Scheme]
		}
		return o
	}
}

// WrongRPID puts the hash of another RP ID into the authenticator data.
func WrongRPID(c *Ceremony) { c.rpID = "other.example" }

// CounterBack sends a counter below the one sent last.
func CounterBack(c *Ceremony) {
	c.counter = func(last uint32) uint32 {
		if last == 0 {
			return 0
		}
		return last - 1
	}
}

// CounterSame sends the last counter again, as a copied key would.
func CounterSame(c *Ceremony) { c.counter = func(last uint32) uint32 { return last } }

// CounterAt sends this counter.
func CounterAt(n uint32) Fault {
	return func(c *Ceremony) { c.counter = func(uint32) uint32 { return n } }
}

// BadSignature changes one bit of the signature's last byte.
func BadSignature(c *Ceremony) { c.badSignature = true }

// NotDERSignature encodes the ECDSA integers with a leading zero that DER forbids.
func NotDERSignature(c *Ceremony) { c.berSignature = true }

// DuplicateKeys sends two challenges, the wrong one first: readers where the
// last one wins see the right one.
func DuplicateKeys(c *Ceremony) { c.duplicateFirst = true }

// DuplicateKeysRightFirst sends two challenges, the right one first.
func DuplicateKeysRightFirst(c *Ceremony) { c.duplicateLast = true }

// OtherCaseKeys writes Type, Challenge and Origin with capitals.
func OtherCaseKeys(c *Ceremony) { c.otherCaseKeys = true }

// BOM puts a UTF-8 byte order mark before the client data: allowed by WebAuthn.
func BOM(c *Ceremony) { c.bom = true }

// PaddedBase64 writes every base64url value with padding.
func PaddedBase64(c *Ceremony) { c.paddedBase64 = true }

// TrailingData writes something behind the response JSON.
func TrailingData(c *Ceremony) { c.trailingData = true }

// IDMismatch writes an id that is not rawId.
func IDMismatch(c *Ceremony) { c.idMismatch = true }

// CrossOrigin says that the page sat in a frame of another origin.
func CrossOrigin(c *Ceremony) { c.crossOrigin = true }

// TopOrigin says which page framed ours; it implies CrossOrigin.
func TopOrigin(origin string) Fault {
	return func(c *Ceremony) { c.crossOrigin, c.topOrigin = true, origin }
}

// TopOriginWithoutCrossOrigin names a framing page but says there is none.
func TopOriginWithoutCrossOrigin(origin string) Fault {
	return func(c *Ceremony) { c.topOrigin = origin }
}

// TokenBinding adds the member of WebAuthn Level 2 that later levels dropped: harmless.
func TokenBinding(c *Ceremony) { c.tokenBinding = true }

// BadTokenBinding adds a tokenBinding that is not an object.
func BadTokenBinding(c *Ceremony) { c.badTokenBinding = true }

// Unsolicited adds extension outputs nobody asked for, as some browsers do: harmless.
func Unsolicited(c *Ceremony) { c.unsolicited, c.extensions = true, true }

// LeftoverBytes appends a byte to the authenticator data.
func LeftoverBytes(c *Ceremony) { c.leftoverBytes = true }

// AttestedDataInAssertion sets the AT flag where it must not be.
func AttestedDataInAssertion(c *Ceremony) { c.attestedInAssertion = true }

// WithoutUserHandle leaves the user handle out.
func WithoutUserHandle(c *Ceremony) { c.noUserHandle = true }

// OtherUserHandle sends somebody else's user handle.
func OtherUserHandle(h []byte) Fault { return func(c *Ceremony) { c.otherUserHandle = h } }

// OtherCredentialID signs with its own key under somebody else's credential id.
func OtherCredentialID(id []byte) Fault { return func(c *Ceremony) { c.otherCredential = id } }

// Choose is no fault: of several fitting passkeys the person picks this one.
func Choose(id []byte) Fault { return func(c *Ceremony) { c.chosen = id } }

// OffCurveKey registers a point that is not on its curve.
func OffCurveKey(c *Ceremony) { c.offCurve = true }

// CurveMismatch registers an ES256 key that says P-384.
func CurveMismatch(c *Ceremony) { c.curveMismatch = true }

// KtyMismatch registers an ES256 key that says OKP.
func KtyMismatch(c *Ceremony) { c.ktyMismatch = true }

// MissingCoordinates registers a key without its point.
func MissingCoordinates(c *Ceremony) { c.missingCoordinates = true }

// WeakRSA registers an RSA modulus of so many bits that nobody can sign with.
// Use with Options.Algorithm RS256 and no attestation.
func WeakRSA(bits int) Fault { return func(c *Ceremony) { c.rsaBits = bits } }

// BadAttestation changes one bit of the attestation signature.
func BadAttestation(c *Ceremony) { c.badAttestation = true }

// KeepAAGUID sends the AAGUID with a fido-u2f statement, where it must be zero.
func KeepAAGUID(c *Ceremony) { c.keepAAGUID = true }

// FullChain puts the root certificate into x5c too.
func FullChain(c *Ceremony) { c.fullChain = true }
