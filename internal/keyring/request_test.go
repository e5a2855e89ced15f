package keyring_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"sealgate/internal/keyring"
	"sealgate/internal/postgres/pgtest"
)

func TestNewKeyWithItsRequest(t *testing.T) {
	k := newKeyring(t, pgtest.Open(t), masterKey(t, 1))
	subject, err := asn1.Marshal(pkix.Name{Country: []string{"TW"}, CommonName: "測試一號", SerialNumber: "0000000000000001"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	extension := pkix.Extension{Id: asn1.ObjectIdentifier{2, 999, 1}, Value: []byte{5, 0}}
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.P384, keyring.RSA2048, keyring.RSA3072} {
		row, public, der, err := k.SealNewKeyWithRequest(alg, keyring.RequestContent{RawSubject: subject, Extensions: []pkix.Extension{extension}})
		if err != nil {
			t.Fatal(err)
		}
		request, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := request.CheckSignature(); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		if !bytes.Equal(request.RawSubject, subject) || !bytes.Equal(request.RawSubjectPublicKeyInfo, row.PublicKey) ||
			len(request.Extensions) != 1 || !bytes.Equal(request.Extensions[0].Value, extension.Value) {
			t.Errorf("%s: the request says something else", alg)
		}
		if row.Purpose != keyring.PurposeMobile || row.Algorithm != alg || keyring.AlgorithmOf(public) != alg {
			t.Errorf("%s: row %s %s", alg, row.Purpose, row.Algorithm)
		}
		switch public.(type) {
		case *ecdsa.PublicKey, *rsa.PublicKey: // the public half only
		default:
			t.Errorf("%s: a %T was given out", alg, public)
		}
	}
	if _, _, _, err := k.SealNewKeyWithRequest(keyring.P256, keyring.RequestContent{}); err == nil {
		t.Error("a request without a subject")
	}
}
