package csc

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"

	"sealgate/internal/fault"
	"sealgate/internal/tsp"
)

// maxNonce is the longest nonce taken, in hexadecimal digits: 128 bits.
const maxNonce = 32

var stampHashes = map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

// timestamp gives a time-stamp token of our own authority for a digest (CSC API
// 2.0.0.2 §11.13).
func (d *Door) timestamp(r *http.Request, _ caller, in input) (any, error) {
	request, err := readTimestamp(in)
	if err != nil {
		return nil, err
	}
	der, err := request.Marshal()
	if err != nil {
		return nil, err
	}
	response, err := d.cfg.Stamp(r.Context(), der)
	if response == nil {
		return nil, fault.Wrap(fault.Unavailable, "internal", fmt.Errorf("time-stamp authority: %w", err))
	}
	token, err := tsp.ParseResponse(response)
	if err != nil {
		return nil, err
	}
	return struct {
		Timestamp string `json:"timestamp"`
	}{base64.StdEncoding.EncodeToString(token)}, nil
}

func readTimestamp(in input) (*tsp.Request, error) {
	if !in.has("hash") {
		return nil, missing("string", "hash")
	}
	text, err := in.text("hash")
	if err != nil {
		return nil, err
	}
	if text == "" {
		return nil, invalid("hash_empty", "Empty hash parameter")
	}
	oid, err := in.needed("hashAlgo")
	if err != nil {
		return nil, err
	}
	name, size := hashByOID(oid)
	raw, ok := decodeHash(text)
	switch {
	case name == "":
		return nil, wrong("hashAlgo")
	case !ok:
		return nil, errHashBase64
	case len(raw) != size:
		return nil, errHashLength
	}
	request := &tsp.Request{Imprint: tsp.Imprint{Hash: stampHashes[name], Digest: raw}, CertReq: true}
	nonce, err := in.text("nonce")
	if err != nil {
		return nil, wrong("nonce")
	}
	if nonce != "" {
		n, ok := new(big.Int).SetString(nonce, 16)
		if !ok || len(nonce) > maxNonce || n.Sign() < 0 || nonce[0] == '+' {
			return nil, wrong("nonce")
		}
		request.Nonce = n
	}
	return request, nil
}
