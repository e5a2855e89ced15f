package issuing

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"time"

	"sealgate/internal/certpath"
)

// StatusLife is how long an OCSP answer is valid.
func (ca *CA) StatusLife() time.Duration { return ca.cfg.StatusLife }

// RespondOCSP answers an OCSP request (RFC 6960) from the register as it is
// now. Serial numbers never issued here, and other issuers', are "unknown". The
// result is always a response in DER, also when it says that something failed;
// the error is for the log. fresh says that the answer carries the request's
// nonce (RFC 9654), so nobody else can use it.
func (ca *CA) RespondOCSP(ctx context.Context, request []byte) (response []byte, fresh bool, err error) {
	req, err := certpath.ParseOCSPRequest(request)
	if err != nil {
		return certpath.OCSPMalformedRequest.Marshal(), true, nil
	}
	response, err = ca.answer(ctx, req)
	if err != nil {
		return certpath.OCSPTryLater.Marshal(), true, err
	}
	return response, len(req.Nonce) > 0, nil
}

func (ca *CA) answer(ctx context.Context, req *certpath.OCSPRequest) ([]byte, error) {
	issuer, err := ca.authority(ctx, Issuing)
	if err != nil {
		return nil, err
	}
	responder, err := ca.authority(ctx, OCSP)
	if err != nil {
		return nil, err
	}
	signer, err := ca.signer(ctx, responder)
	if err != nil {
		return nil, err
	}
	known, err := ca.known(ctx, issuer.cert, req.IDs)
	if err != nil {
		return nil, err
	}
	now := ca.cfg.Now().UTC().Truncate(time.Second)
	resp := certpath.OCSPResponse{ProducedAt: now, Nonce: req.Nonce}
	for i, id := range req.IDs {
		single := certpath.SingleStatus{ID: id, Status: certpath.StatusUnknown, ThisUpdate: now, NextUpdate: now.Add(ca.cfg.StatusLife)}
		if s := known[i]; s != nil {
			single.Status = certpath.StatusGood
			if s.State != Good {
				single.Status, single.RevokedAt, single.Reason = certpath.StatusRevoked, s.RevokedAt.UTC().Truncate(time.Second), s.Reason
			}
		}
		resp.Statuses = append(resp.Statuses, single)
	}
	return certpath.SignOCSPResponse(rand.Reader, resp, responder.cert, signer, true)
}

// known finds what the register has on each question, nil for nothing.
func (ca *CA) known(ctx context.Context, issuer *x509.Certificate, ids []certpath.CertID) ([]*Status, error) {
	serials := make([][]byte, 0, len(ids))
	for _, id := range ids {
		if ours(issuer, id) {
			serials = append(serials, id.Serial.FillBytes(make([]byte, serialSize)))
		}
	}
	found := map[string]Status{}
	if len(serials) > 0 {
		list, err := ca.cfg.Store.Statuses(ctx, Issuing, serials)
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			found[string(s.Serial)] = s
		}
	}
	out := make([]*Status, len(ids))
	for i, id := range ids {
		if !ours(issuer, id) {
			continue
		}
		if s, ok := found[string(id.Serial.FillBytes(make([]byte, serialSize)))]; ok {
			out[i] = &s
		} else if ca.isAuthority(id.Serial) {
			out[i] = &Status{State: Good}
		}
	}
	return out, nil
}

// ours says whether a question is about a certificate of our issuing CA.
func ours(issuer *x509.Certificate, id certpath.CertID) bool {
	if id.Serial.Sign() <= 0 || id.Serial.BitLen() > 8*serialSize {
		return false
	}
	own, err := certpath.NewCertID(&x509.Certificate{SerialNumber: id.Serial}, issuer, id.Hash)
	return err == nil && own.Equal(id)
}

func isResponder(name string) bool { return name == OCSP || name == TSA || name == Reporter }

// isAuthority: responder, time-stamp authority and signer of reports are in no register of
// citizens. Those that were replaced stay good to their own end.
func (ca *CA) isAuthority(serial *big.Int) bool {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	for name, a := range ca.authorities {
		if isResponder(name) && a.cert.SerialNumber.Cmp(serial) == 0 {
			return true
		}
	}
	for _, a := range ca.replaced {
		if isResponder(a.Name) && a.cert.SerialNumber.Cmp(serial) == 0 {
			return true
		}
	}
	return false
}
