package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"sealgate/internal/keyring"
)

const (
	// keysLife is how long the set of keys is believed.
	keysLife = 10 * time.Second
	// publishFirst is how long a new key is published before it signs, so that
	// no node serves a key set without it when the first token arrives.
	publishFirst = 30 * time.Second
	// keysGrace is how long the last known set serves when the store does not answer.
	keysGrace = 10 * time.Minute
)

// keySet is one reading of the "oidc" keys: the one that signs, and all that
// are published.
type keySet struct {
	idToken     jose.Signer
	accessToken jose.Signer // the same key with the type at+jwt (RFC 9068 §2.1)
	byID        map[string]*ecdsa.PublicKey
	jwks        []byte
	readAt      time.Time
}

// keys keeps the newest reading.
type keys struct {
	ring *keyring.Keyring
	now  func() time.Time
	mu   sync.Mutex
	set  *keySet
}

func newKeys(ctx context.Context, ring *keyring.Keyring, now func() time.Time) (*keys, error) {
	if _, err := ring.Ensure(ctx, keyring.PurposeOIDC, keyring.P256); err != nil {
		return nil, fmt.Errorf("oidc: signing key: %w", err)
	}
	k := &keys{ring: ring, now: now}
	_, err := k.current(ctx)
	return k, err
}

// current gives the key set, read again when it is old.
func (k *keys) current(ctx context.Context) (*keySet, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if k.set != nil && now.Sub(k.set.readAt) < keysLife {
		return k.set, nil
	}
	set, err := k.read(ctx, now)
	if err != nil {
		if k.set != nil && now.Sub(k.set.readAt) < keysGrace {
			return k.set, nil
		}
		return nil, err
	}
	k.set = set
	return set, nil
}

func (k *keys) read(ctx context.Context, now time.Time) (*keySet, error) {
	published, err := k.ring.Published(ctx, keyring.PurposeOIDC)
	if err != nil {
		return nil, err
	}
	set := &keySet{byID: make(map[string]*ecdsa.PublicKey), readAt: now}
	var signing *keyring.Key
	var jwks jose.JSONWebKeySet
	for _, key := range published { // newest first
		public, ok := key.Public.(*ecdsa.PublicKey)
		if !ok || public.Curve != elliptic.P256() {
			continue
		}
		set.byID[key.ID.String()] = public
		jwks.Keys = append(jwks.Keys, jose.JSONWebKey{Key: public, KeyID: key.ID.String(), Algorithm: string(jose.ES256), Use: "sig"})
		if key.State != keyring.Active {
			continue
		}
		// The newest key that has been published long enough; while there is
		// none, the oldest.
		if signing == nil || now.Sub(signing.CreatedAt) < publishFirst {
			signing = key
		}
	}
	if signing == nil {
		return nil, errors.New("oidc: no active signing key")
	}
	if set.jwks, err = json.Marshal(jwks); err != nil {
		return nil, err
	}
	private, err := k.ring.Signer(ctx, signing.ID, keyring.PurposeOIDC)
	if err != nil {
		return nil, err
	}
	opaque := es256{signer: private, id: signing.ID.String()}
	if set.idToken, err = newSigner(opaque, "JWT"); err != nil {
		return nil, err
	}
	set.accessToken, err = newSigner(opaque, accessTokenType)
	return set, err
}

func newSigner(key es256, typ jose.ContentType) (jose.Signer, error) {
	return jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType(typ))
}

// sign gives the compact serialization of a JWS over the claims.
func sign(s jose.Signer, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	jws, err := s.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// es256 lets go-jose sign with a key it never sees.
type es256 struct {
	signer crypto.Signer
	id     string
}

// Public gives what go-jose needs to know: the key's id.
func (k es256) Public() *jose.JSONWebKey {
	return &jose.JSONWebKey{Key: k.signer.Public(), KeyID: k.id, Algorithm: string(jose.ES256), Use: "sig"}
}

// Algs lists the one algorithm.
func (k es256) Algs() []jose.SignatureAlgorithm { return []jose.SignatureAlgorithm{jose.ES256} }

// SignPayload signs in the form of RFC 7518 §3.4: r and s, 32 bytes each.
func (k es256) SignPayload(payload []byte, alg jose.SignatureAlgorithm) ([]byte, error) {
	if alg != jose.ES256 {
		return nil, jose.ErrUnsupportedAlgorithm
	}
	digest := sha256.Sum256(payload)
	der, err := k.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) > 0 {
		return nil, errors.New("oidc: signer gave a malformed signature")
	}
	out := make([]byte, 64)
	sig.R.FillBytes(out[:32])
	sig.S.FillBytes(out[32:])
	return out, nil
}

// serveJWKS publishes the keys (RFC 7517 §5).
func (p *Provider) serveJWKS(w http.ResponseWriter, r *http.Request) {
	set, err := p.keys.current(r.Context())
	if err != nil {
		p.cfg.Log.ErrorContext(r.Context(), "key set", "error", err)
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	servePublic(w, "application/jwk-set+json", set.jwks)
}

// servePublic answers a document that anyone may read, from anywhere.
func servePublic(w http.ResponseWriter, mediaType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", "public, max-age=60")
	h.Set("Access-Control-Allow-Origin", "*")
	_, _ = w.Write(body)
}
