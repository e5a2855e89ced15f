package pkitest

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const stateFile = "hierarchy.json"

// state is the whole hierarchy as one JSON file. Keys are PKCS #8, in the clear:
// this is test material.
type state struct {
	BaseURL    string                `json:"base_url"`
	Policy     asn1.ObjectIdentifier `json:"policy"`
	Root       identity              `json:"root"`
	CA         identity              `json:"ca"`
	Responder  identity              `json:"responder"`
	Cards      []savedCard           `json:"cards"`
	Revoked    map[string]revocation `json:"revoked"`
	CRLNumber  int64                 `json:"crl_number"`
	Partitions int                   `json:"partitions,omitempty"`
	NextSerial int64                 `json:"next_serial"`
}

type identity struct {
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"`
}

type savedCard struct {
	identity
	Name       string `json:"name"`
	NationalID string `json:"national_id"`
	Serial16   string `json:"serial16"`
	CardNumber string `json:"card_number"`
	PIN        string `json:"pin"`
}

// Save writes everything into dir, for Load after a restart. The CA certificates
// are written beside it as root.cer and ca.cer (DER), for trust-store settings.
func (h *Hierarchy) Save(dir string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := state{BaseURL: h.baseURL, Policy: h.policy, Revoked: h.revoked, CRLNumber: h.crlNumber, NextSerial: h.nextSerial, Partitions: h.partitions}
	var errs [3]error
	st.Root, errs[0] = pack(h.Root, h.rootKey)
	st.CA, errs[1] = pack(h.CA, h.caKey)
	st.Responder, errs[2] = pack(h.responder, h.respKey)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	for _, c := range h.cards {
		id, err := pack(c.Certificate, c.Key)
		if err != nil {
			return err
		}
		st.Cards = append(st.Cards, savedCard{id, c.Name, c.NationalID, c.Serial16, c.CardNumber, c.PIN})
	}
	data, err := json.MarshalIndent(st, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "root.cer"), h.Root.Raw, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.cer"), h.CA.Raw, 0o600); err != nil {
		return err
	}
	// Last and by rename: a kill in between leaves the old state whole.
	tmp := filepath.Join(dir, stateFile+".new")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, stateFile))
}

// Load reads what Save wrote. os.ErrNotExist tells that dir holds no hierarchy.
func Load(dir string) (*Hierarchy, error) {
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	var st state
	if err := json.Unmarshal(data, &st); err != nil {
		return nil, fmt.Errorf("pkitest: %s: %w", dir, err)
	}
	h := &Hierarchy{baseURL: st.BaseURL, policy: st.Policy, revoked: st.Revoked, crlNumber: st.CRLNumber, nextSerial: st.NextSerial, partitions: st.Partitions}
	if h.revoked == nil {
		h.revoked = make(map[string]revocation)
	}
	var errs [3]error
	h.Root, h.rootKey, errs[0] = unpack(st.Root)
	h.CA, h.caKey, errs[1] = unpack(st.CA)
	h.responder, h.respKey, errs[2] = unpack(st.Responder)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("pkitest: %s: %w", dir, err)
	}
	for _, c := range st.Cards {
		cert, key, err := unpack(c.identity)
		if err != nil {
			return nil, fmt.Errorf("pkitest: %s: card: %w", dir, err)
		}
		h.cards = append(h.cards, &Card{cert, key, c.Name, c.NationalID, c.Serial16, c.CardNumber, c.PIN})
	}
	return h, nil
}

func pack(cert *x509.Certificate, key crypto.Signer) (identity, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return identity{cert.Raw, der}, err
}

func unpack(id identity) (*x509.Certificate, crypto.Signer, error) {
	cert, err := x509.ParseCertificate(id.Certificate)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(id.Key)
	if err != nil {
		return nil, nil, err
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, errors.New("key cannot sign")
	}
	return cert, s, nil
}
