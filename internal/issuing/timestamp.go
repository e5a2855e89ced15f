package issuing

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strconv"
	"strings"

	"sealgate/internal/tsp"
)

// RespondTSA answers a time-stamp request (RFC 3161) as our own authority. A
// refusal is a response too; the error is for the log. Without a response the
// authority is not there.
func (ca *CA) RespondTSA(ctx context.Context, request []byte) ([]byte, error) {
	responder, err := ca.timestamper(ctx)
	if err != nil {
		return nil, err
	}
	return responder.Respond(request)
}

// timestamper is made once for each certificate of the authority.
func (ca *CA) timestamper(ctx context.Context) (*tsp.Responder, error) {
	own, err := ca.authority(ctx, TSA)
	if err != nil {
		return nil, err
	}
	ca.mu.Lock()
	made := ca.tsa
	if ca.tsaOf != own.KeyID {
		made = nil
	}
	ca.mu.Unlock()
	if made != nil {
		return made, nil
	}
	issuing, err := ca.authority(ctx, Issuing)
	if err != nil {
		return nil, err
	}
	key, err := ca.signer(ctx, own)
	if err != nil {
		return nil, err
	}
	made, err = tsp.NewResponder(tsp.ResponderConfig{Certificate: own.cert, Chain: []*x509.Certificate{issuing.cert},
		Key: key, Policy: ca.tsaPolicy, Now: ca.cfg.Now})
	if err != nil {
		return nil, err
	}
	ca.mu.Lock()
	ca.tsa, ca.tsaOf = made, own.KeyID
	ca.mu.Unlock()
	return made, nil
}

// parsePolicy reads a policy in both types that the standard library has for
// object identifiers.
func parsePolicy(text string) (x509.OID, asn1.ObjectIdentifier, error) {
	oid, err := x509.ParseOID(text)
	if err != nil {
		return oid, nil, fmt.Errorf("issuing: policy %q: %w", text, err)
	}
	var numbers asn1.ObjectIdentifier
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return oid, nil, fmt.Errorf("issuing: policy %q: %w", text, err)
		}
		numbers = append(numbers, n)
	}
	return oid, numbers, nil
}
