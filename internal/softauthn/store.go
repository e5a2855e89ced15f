package softauthn

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// saved is the file's form. Binary values are standard base64 in JSON.
type saved struct {
	Version     int               `json:"version"`
	Credentials []savedCredential `json:"credentials"`
}

type savedCredential struct {
	ID         []byte `json:"id"`
	RPID       string `json:"rpId"`
	UserHandle []byte `json:"userHandle"`
	UserName   string `json:"userName,omitempty"`
	Algorithm  int    `json:"alg"`
	Counter    uint32 `json:"counter"`
	PKCS8      []byte `json:"pkcs8"`
}

// Save writes the credentials, private keys included and not encrypted, to a
// file that only its owner can read. The file is replaced whole or not at all.
func (a *Authenticator) Save(path string) error {
	a.mu.Lock()
	out := saved{Version: 1}
	for _, list := range a.newer {
		for _, c := range list {
			der, err := x509.MarshalPKCS8PrivateKey(c.key)
			if err != nil {
				a.mu.Unlock()
				return fmt.Errorf("softauthn: save key: %w", err)
			}
			out.Credentials = append(out.Credentials, savedCredential{
				ID: c.id, RPID: c.rpID, UserHandle: c.userHandle, UserName: c.userName,
				Algorithm: c.algorithm, Counter: c.counter, PKCS8: der,
			})
		}
	}
	a.mu.Unlock()
	b, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		return fmt.Errorf("softauthn: save: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".softauthn-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("softauthn: save: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("softauthn: save: %w", err)
	}
	return os.Rename(f.Name(), path)
}

// Load reads what Save wrote. A missing file is an authenticator without
// credentials: the first start of a soft phone.
func Load(path string, o Options) (*Authenticator, error) {
	a := New(o)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, fmt.Errorf("softauthn: load: %w", err)
	}
	var in saved
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("softauthn: load: %w", err)
	}
	if in.Version != 1 {
		return nil, fmt.Errorf("softauthn: load: version %d is not known", in.Version)
	}
	for _, s := range in.Credentials {
		key, err := x509.ParsePKCS8PrivateKey(s.PKCS8)
		if err != nil {
			return nil, fmt.Errorf("softauthn: load key: %w", err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("softauthn: load key: %T cannot sign", key)
		}
		a.add(&credential{
			id: s.ID, rpID: s.RPID, rpIDHash: sha256.Sum256([]byte(s.RPID)), userHandle: s.UserHandle,
			userName: s.UserName, algorithm: s.Algorithm, counter: s.Counter, key: signer,
		})
	}
	return a, nil
}
