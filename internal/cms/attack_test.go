package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"sealgate/internal/cms"
)

// Forgeries are signed with a real key over attributes of the test's choosing:
// the signature value is right, and what it says is wrong.

type forgery struct {
	contentType asn1.ObjectIdentifier // in the content, id-data when nil
	attrs       [][]byte              // whole attributes
	digestAlg   []byte
	sigAlg      []byte
	version     int
	signer      cms.Signer
}

func el(tag byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	switch n := len(body); {
	case n < 128:
		return append([]byte{tag, byte(n)}, body...)
	case n < 256:
		return append([]byte{tag, 0x81, byte(n)}, body...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, body...)
	}
}

func oidDER(oid asn1.ObjectIdentifier) []byte { return must(asn1.Marshal(oid)) }

func attribute(oid asn1.ObjectIdentifier, values ...[]byte) []byte {
	return el(0x30, oidDER(oid), el(0x31, values...))
}

func (f forgery) build() []byte {
	if f.contentType == nil {
		f.contentType = cms.OIDData
	}
	if f.version == 0 {
		f.version = 1
	}
	if f.digestAlg == nil {
		f.digestAlg = el(0x30, oidDER(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}))
	}
	if f.sigAlg == nil {
		f.sigAlg = el(0x30, oidDER(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}))
	}
	cert := f.signer.Certificate
	set := bytes.Join(f.attrs, nil)
	value := must(f.signer.Key.Sign(rand.Reader, digestOf(crypto.SHA256, el(0x31, set)), crypto.SHA256))
	serial := must(asn1.Marshal(cert.SerialNumber))
	info := el(0x30, []byte{2, 1, byte(f.version)}, el(0x30, cert.RawIssuer, serial), f.digestAlg, el(0xa0, set), f.sigAlg, el(4, value))
	sd := el(0x30, []byte{2, 1, 1}, el(0x31, f.digestAlg), el(0x30, oidDER(f.contentType)), el(0xa0, cert.Raw), el(0x31, info))
	return el(0x30, oidDER(cms.OIDSignedData), el(0xa0, sd))
}

func essV2(cert *x509.Certificate) []byte {
	a := must(cms.SigningCertificateV2(cert, crypto.SHA256))
	return attribute(a.Type, a.Values...)
}

func TestForgedAttributesAreRefused(t *testing.T) {
	s := p256()
	ct := attribute(cms.OIDContentType, oidDER(cms.OIDData))
	md := attribute(cms.OIDMessageDigest, el(4, digestOf(crypto.SHA256, document)))
	at := attribute(cms.OIDSigningTime, el(0x17, []byte("261123010203Z")))
	ess := essV2(s.Certificate)
	sha512Alg := el(0x30, oidDER(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}))
	sha256Alg := el(0x30, oidDER(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}))
	ecAlg := el(0x30, oidDER(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}))
	rsaAlg := el(0x30, oidDER(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}), []byte{5, 0})
	protection := func(sig []byte) []byte {
		sig = slices.Clone(sig)
		sig[0] = 0xa1
		return attribute(cms.OIDAlgorithmProtection, el(0x30, sha256Alg, sig))
	}
	wrongSerial := *s.Certificate
	wrongSerial.SerialNumber = big.NewInt(424242)
	for name, tc := range map[string]struct {
		f    forgery
		want string
	}{
		"control":                          {forgery{attrs: [][]byte{ct, md, at, ess}}, ""},
		"control, attributes unsorted":     {forgery{attrs: [][]byte{ess, at, md, ct}}, ""},
		"control, algorithms protected":    {forgery{attrs: [][]byte{ct, md, at, ess, protection(ecAlg)}}, ""},
		"content type missing":             {forgery{attrs: [][]byte{md, at, ess}}, "cms_attributes"},
		"content type twice":               {forgery{attrs: [][]byte{ct, ct, md, at, ess}}, "cms_attributes"},
		"content type of something else":   {forgery{attrs: [][]byte{ct, md, at, ess}, contentType: cms.OIDTSTInfo}, "cms_attributes"},
		"digest missing":                   {forgery{attrs: [][]byte{ct, at, ess}}, "cms_attributes"},
		"digest twice":                     {forgery{attrs: [][]byte{ct, md, md, at, ess}}, "cms_attributes"},
		"digest with two values":           {forgery{attrs: [][]byte{ct, attribute(cms.OIDMessageDigest, el(4, digestOf(crypto.SHA256, document)), el(4, nil)), at, ess}}, "cms_attributes"},
		"digest of something else":         {forgery{attrs: [][]byte{ct, attribute(cms.OIDMessageDigest, el(4, make([]byte, 32))), at, ess}}, "cms_digest_mismatch"},
		"digest cut short":                 {forgery{attrs: [][]byte{ct, attribute(cms.OIDMessageDigest, el(4, digestOf(crypto.SHA256, document)[:16])), at, ess}}, "cms_digest_mismatch"},
		"signing time twice":               {forgery{attrs: [][]byte{ct, md, at, at, ess}}, "cms_attributes"},
		"signing time malformed":           {forgery{attrs: [][]byte{ct, md, attribute(cms.OIDSigningTime, el(0x17, []byte("yesterday"))), ess}}, "cms_attributes"},
		"certificate hash missing":         {forgery{attrs: [][]byte{ct, md, at}}, "cms_signing_certificate"},
		"certificate hash of another":      {forgery{attrs: [][]byte{ct, md, at, essV2(p384().Certificate)}}, "cms_signing_certificate"},
		"certificate hash, wrong serial":   {forgery{attrs: [][]byte{ct, md, at, essV2(&wrongSerial)}}, "cms_signing_certificate"},
		"certificate hash twice":           {forgery{attrs: [][]byte{ct, md, at, ess, ess}}, "cms_signing_certificate"},
		"certificate hash malformed":       {forgery{attrs: [][]byte{ct, md, at, attribute(cms.OIDSigningCertificateV2, el(0x30, nil))}}, "cms_signing_certificate"},
		"digest algorithm changed":         {forgery{attrs: [][]byte{ct, md, at, ess}, digestAlg: sha512Alg}, "cms_algorithm"},
		"RSA said, EC key":                 {forgery{attrs: [][]byte{ct, md, at, ess}, sigAlg: rsaAlg}, "cms_signature_invalid"},
		"protection contradicts":           {forgery{attrs: [][]byte{ct, md, at, ess, protection(rsaAlg)}}, "cms_algorithm"},
		"unknown algorithm":                {forgery{attrs: [][]byte{ct, md, at, ess}, sigAlg: el(0x30, oidDER(cms.OIDData))}, "cms_algorithm"},
		"ECDSA with parameters":            {forgery{attrs: [][]byte{ct, md, at, ess}, sigAlg: el(0x30, oidDER(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}), []byte{5, 0})}, "cms_algorithm"},
		"version 3 with issuer and number": {forgery{attrs: [][]byte{ct, md, at, ess}, version: 3}, "cms_malformed"},
		"an attribute without a value":     {forgery{attrs: [][]byte{ct, md, at, ess, el(0x30, oidDER(cms.OIDCardNumber), el(0x31))}}, "cms_malformed"},
		"65 attributes":                    {forgery{attrs: slices.Repeat([][]byte{ct}, 65)}, "cms_malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.f.signer = s
			_, err := verify(tc.f.build(), document)
			wantCode(t, name, err, tc.want)
		})
	}
}

// A signature over attributes is, bit for bit, also a signature over a content
// that consists of those attributes. Without signed attributes such a content
// would pass as signed; so signatures without attributes are refused by default.
func TestSignedAttributesCannotPassAsContent(t *testing.T) {
	s := p256()
	tbs := must(cms.SignedAttributes(digestOf(crypto.SHA256, document), s, cms.Options{SigningTime: time.Now()}))
	value := must(tbs.Sign(rand.Reader)).Signature()
	sha256Alg := el(0x30, oidDER(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}))
	info := el(0x30, []byte{2, 1, 1}, el(0x30, s.Certificate.RawIssuer, must(asn1.Marshal(s.Certificate.SerialNumber))), sha256Alg,
		el(0x30, oidDER(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2})), el(4, value))
	sd := el(0x30, []byte{2, 1, 1}, el(0x31, sha256Alg), el(0x30, oidDER(cms.OIDData)), el(0xa0, s.Certificate.Raw), el(0x31, info))
	der := el(0x30, oidDER(cms.OIDSignedData), el(0xa0, sd))
	r, err := parse(t, der).Verify(cms.VerifyInput{Content: tbs.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "stripped attributes", cms.Good(r), "cms_attributes")
}

// A second certificate with the signer's issuer and number must not take its place.
func TestImpostorCertificateBesideTheSigner(t *testing.T) {
	s := p256()
	key := p384().Key
	tpl := *s.Certificate
	der := must(x509.CreateCertificate(rand.Reader, &tpl, testCA().cert, key.Public(), testCA().key))
	impostor := must(x509.ParseCertificate(der))
	if impostor.SerialNumber.Cmp(s.Certificate.SerialNumber) != 0 {
		t.Fatal("not an impostor")
	}
	sd := parse(t, sign(t, kinds[0], document))
	for _, certs := range [][]*x509.Certificate{{impostor, s.Certificate}, {s.Certificate, impostor}} {
		bare := parse(t, must(cms.Assemble(nil, sd.Signers...)))
		r, err := bare.Verify(cms.VerifyInput{Content: document, Certificates: certs})
		if err != nil || cms.Good(r) != nil || !r[0].Certificate.Equal(s.Certificate) {
			t.Errorf("%v %v", err, cms.Good(r))
		}
	}
	r, _ := parse(t, must(cms.Assemble([]*x509.Certificate{impostor}, sd.Signers...))).Verify(cms.VerifyInput{Content: document})
	wantCode(t, "the impostor alone", cms.Good(r), "cms_signing_certificate")
}

func TestParseBounds(t *testing.T) {
	sd := parse(t, sign(t, kinds[0], document))
	if _, err := cms.Assemble(nil, slices.Repeat(sd.Signers, 64)...); err != nil {
		t.Errorf("64 signers: %v", err)
	}
	der := must(cms.Assemble(nil, slices.Repeat(sd.Signers, 64)...))
	if _, err := cms.Parse(der); err != nil {
		t.Errorf("64 signers: %v", err)
	}
	// One more, put in by hand.
	one := must(cms.Assemble(nil, sd.Signers...))
	i := bytes.LastIndex(one, []byte{0x30, 0x82})
	_ = i
	info := signerInfoOf(t, one)
	sha256Alg := el(0x30, oidDER(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}))
	build := func(n int) []byte {
		body := el(0x30, []byte{2, 1, 1}, el(0x31, sha256Alg), el(0x30, oidDER(cms.OIDData)), el(0x31, bytes.Repeat(info, n)))
		return el(0x30, oidDER(cms.OIDSignedData), el(0xa0, body))
	}
	_, err := cms.Parse(build(64))
	wantCode(t, "64 signers", err, "")
	_, err = cms.Parse(build(65))
	wantCode(t, "65 signers", err, "cms_malformed")
	// Indefinite length (BER) is not DER.
	ber := append([]byte{0x30, 0x80}, one[4:]...)
	_, err = cms.Parse(append(ber, 0, 0))
	wantCode(t, "BER", err, "cms_malformed")
}

// signerInfoOf cuts the only SignerInfo out of a SignedData.
func signerInfoOf(t *testing.T, der []byte) []byte {
	t.Helper()
	var info struct {
		Type asn1.ObjectIdentifier
		Body struct {
			Version int
			Algs    asn1.RawValue
			Content asn1.RawValue
			Signers asn1.RawValue `asn1:"set"`
		} `asn1:"explicit,tag:0"`
	}
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 {
		t.Fatal(err)
	}
	return info.Body.Signers.Bytes
}
