//go:build cgo

package hsm

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/google/uuid"
	"github.com/miekg/pkcs11"

	"sealgate/internal/keyring"
)

// connection is the module while it is open. Handles mean something only in it.
type connection struct {
	module *crypto11.Context
	opened time.Time

	mu   sync.Mutex
	keys map[object]crypto11.PrivateKey
}

// object is what a key is looked up by: both must fit.
type object struct {
	id    uuid.UUID
	label string
}

func newConnection(module *crypto11.Context) *connection {
	return &connection{module: module, opened: time.Now(), keys: map[object]crypto11.PrivateKey{}}
}

// maxHandles bounds the handles that are kept: services' keys and the citizens
// who signed lately.
const maxHandles = 4096

// find gives the handle of a private key, from memory when it was used before.
func (c *connection) find(o object) (key crypto11.PrivateKey, kept bool, err error) {
	c.mu.Lock()
	key, kept = c.keys[o]
	c.mu.Unlock()
	if kept {
		return key, true, nil
	}
	keys, err := insist(func() ([]crypto11.PrivateKey, error) { return c.module.FindPrivateKeys(o.id[:], []byte(o.label)) })
	if err != nil {
		return nil, false, err
	}
	switch len(keys) {
	case 0:
		return nil, false, errAbsent
	case 1:
	default:
		return nil, false, keyring.ErrUnreadable.Because(fmt.Errorf("key %s: the token has %d objects of this name", o.id, len(keys)))
	}
	c.keep(o, keys[0])
	return keys[0], false, nil
}

// Looks at a token that seems not to have an object, and the pause between them.
const (
	looks     = 3
	lookAgain = 20 * time.Millisecond
)

// insist believes that something is absent only when it is not seen several
// times: a token that others make and destroy objects in may for a moment not show
// one that is there (SoftHSM, while it reads its directory anew).
func insist[T any](look func() ([]T, error)) (found []T, err error) {
	for n := range looks {
		if n > 0 {
			time.Sleep(lookAgain)
		}
		if found, err = look(); err != nil || len(found) > 0 {
			break
		}
	}
	return found, err
}

func (c *connection) keep(o object, key crypto11.PrivateKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.keys) >= maxHandles {
		for any := range c.keys { // in no order: one of many, seldom a busy one
			delete(c.keys, any)
			break
		}
	}
	c.keys[o] = key
}

func (c *connection) forget(o object) {
	c.mu.Lock()
	delete(c.keys, o)
	c.mu.Unlock()
}

// Make makes a key pair in the token (keyring.Provider). The private key is
// sensitive, not extractable, and good for signing only.
func (t *Token) Make(ctx context.Context, row keyring.Row) (keyring.Row, crypto.Signer, error) {
	o := object{row.ID, row.Label}
	public, err := do(ctx, t, 3*t.cfg.AnswerTimeout, func(c *connection, again bool) (crypto.PublicKey, error) {
		if again { // the try before may have made it after all
			if _, err := c.destroy(o); err != nil && !errors.Is(err, errAbsent) {
				return nil, fmt.Errorf("left-over: %w", err)
			}
		}
		pair, err := c.generate(o, row.Algorithm)
		if errors.Is(err, pkcs11.Error(pkcs11.CKR_TEMPLATE_INCONSISTENT)) {
			// SoftHSM 2.6 says this of a good template, once in a thousand
			// times, while other keys are made and destroyed.
			pair, err = c.generate(o, row.Algorithm)
		}
		if err != nil {
			return nil, refused(fmt.Errorf("generate: %w", err))
		}
		return pair.Public(), nil
	})
	if err != nil {
		return keyring.Row{}, nil, err
	}
	if row.PublicKey, err = x509.MarshalPKIXPublicKey(public); err != nil {
		return keyring.Row{}, nil, fmt.Errorf("hsm: public key: %w", err)
	}
	return row, &signer{token: t, object: o, public: public}, nil
}

func (c *connection) generate(o object, alg keyring.Algorithm) (crypto11.Signer, error) {
	public, err := crypto11.NewAttributeSetWithIDAndLabel(o.id[:], []byte(o.label))
	if err != nil {
		return nil, err
	}
	private := public.Copy()
	for _, a := range []struct {
		set   crypto11.AttributeSet
		name  crypto11.AttributeType
		value bool
	}{
		{private, pkcs11.CKA_PRIVATE, true}, {private, pkcs11.CKA_SENSITIVE, true}, {private, pkcs11.CKA_EXTRACTABLE, false},
		{private, pkcs11.CKA_SIGN, true}, {private, pkcs11.CKA_DECRYPT, false}, {private, pkcs11.CKA_UNWRAP, false},
		{private, pkcs11.CKA_DERIVE, false},
		{public, pkcs11.CKA_VERIFY, true}, {public, pkcs11.CKA_ENCRYPT, false}, {public, pkcs11.CKA_WRAP, false},
	} {
		if err := a.set.Set(a.name, a.value); err != nil {
			return nil, err
		}
	}
	switch alg {
	case keyring.P256:
		return c.module.GenerateECDSAKeyPairWithAttributes(public, private, elliptic.P256())
	case keyring.P384:
		return c.module.GenerateECDSAKeyPairWithAttributes(public, private, elliptic.P384())
	case keyring.RSA2048:
		return c.module.GenerateRSAKeyPairWithAttributes(public, private, 2048)
	case keyring.RSA3072:
		return c.module.GenerateRSAKeyPairWithAttributes(public, private, 3072)
	}
	return nil, keyring.ErrTokenRefused.Because(fmt.Errorf("algorithm %q", alg))
}

// Open gives the signer of a row (keyring.Provider). The token is not asked
// before it signs.
func (t *Token) Open(_ context.Context, row keyring.Row) (crypto.Signer, error) {
	public, err := x509.ParsePKIXPublicKey(row.PublicKey)
	if err != nil {
		return nil, keyring.ErrUnreadable.Because(fmt.Errorf("public key of %s: %w", row.ID, err))
	}
	return &signer{token: t, object: object{row.ID, row.Label}, public: public}, nil
}

// heldTimeout is how long listing a purpose's keys may take: modules read them
// one by one.
const heldTimeout = 10 * time.Minute

// Held lists the ids of the private keys with a label (keyring.Provider).
func (t *Token) Held(ctx context.Context, label string) ([]uuid.UUID, error) {
	return do(ctx, t, heldTimeout, func(c *connection, _ bool) ([]uuid.UUID, error) {
		keys, err := c.module.FindPrivateKeys(nil, []byte(label))
		if err != nil {
			return nil, err
		}
		ids := make([]uuid.UUID, 0, len(keys))
		for _, key := range keys {
			id, err := c.module.GetAttribute(key, crypto11.CkaId)
			if err != nil {
				return nil, err
			}
			if parsed, err := uuid.FromBytes(id.Value); err == nil {
				ids = append(ids, parsed)
			}
		}
		return ids, nil
	})
}

// Destroy removes a key pair from the token (keyring.Provider).
func (t *Token) Destroy(ctx context.Context, label string, id uuid.UUID) error {
	_, err := do(ctx, t, t.cfg.AnswerTimeout, func(c *connection, _ bool) (struct{}, error) {
		return c.destroy(object{id, label})
	})
	return err
}

func (c *connection) destroy(o object) (none struct{}, err error) {
	c.forget(o)
	pairs, err := insist(func() ([]crypto11.Signer, error) { return c.module.FindKeyPairs(o.id[:], []byte(o.label)) })
	if err != nil {
		return none, fmt.Errorf("find pair: %w", err)
	}
	if len(pairs) == 0 {
		return none, errAbsent
	}
	for _, pair := range pairs {
		if err := pair.Delete(); err != nil {
			return none, refused(fmt.Errorf("delete: %w", err))
		}
	}
	return none, nil
}
