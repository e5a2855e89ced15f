package certpath_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"os"
	"strings"
	"testing"

	"sealgate/internal/certpath"
	"sealgate/internal/pkitest"
)

func TestParseCitizenRules(t *testing.T) {
	h := hierarchy()
	sda := asn1.ObjectIdentifier{2, 5, 29, 9}
	rawSDA := func(value ...byte) pkitest.CitizenOptions {
		return pkitest.CitizenOptions{NoDirectoryAttributes: true, Extra: []pkix.Extension{{Id: sda, Value: value}}}
	}
	for name, tc := range map[string]struct {
		opts pkitest.CitizenOptions
		ok   bool
	}{
		"good":                       {pkitest.CitizenOptions{}, true},
		"mobile":                     {pkitest.CitizenOptions{CardType: "mobile"}, true},
		"alien resident":             {pkitest.CitizenOptions{SubjectType: pkitest.OIDSubjectResident}, true},
		"name of 64 characters":      {pkitest.CitizenOptions{Name: strings.Repeat("字", 64)}, true},
		"name of 65 characters":      {pkitest.CitizenOptions{Name: strings.Repeat("字", 65)}, false},
		"name that turns direction":  {pkitest.CitizenOptions{Name: "王\u202e小明"}, false},
		"name with a control":        {pkitest.CitizenOptions{Name: "王\n小明"}, false},
		"15 digits":                  {pkitest.CitizenOptions{Serial16: "123456789012345"}, false},
		"17 digits":                  {pkitest.CitizenOptions{Serial16: "12345678901234567"}, false},
		"a letter among the digits":  {pkitest.CitizenOptions{Serial16: "123456789012345A"}, false},
		"an organisation's subject":  {pkitest.CitizenOptions{SubjectExtra: "某機關"}, false},
		"a legal person":             {pkitest.CitizenOptions{SubjectType: asn1.ObjectIdentifier{2, 16, 886, 1, 100, 3, 2, 1}}, false},
		"no directory attributes":    {pkitest.CitizenOptions{NoDirectoryAttributes: true}, false},
		"last four with a letter":    {pkitest.CitizenOptions{IDLast4: "678A"}, false},
		"last five":                  {pkitest.CitizenOptions{IDLast4: "56789"}, false},
		"empty directory attributes": {rawSDA(0x30, 0), false},
		"trailing byte":              {rawSDA(0x30, 0, 0), false},
		"not a sequence":             {rawSDA(4, 0), false},
	} {
		tc.opts.KeyType = pkitest.P256 // the key does not matter here, and RSA keys take long to make
		c := card(t, h, tc.opts)
		info, err := certpath.ParseCitizen(c.Certificate)
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err != nil {
			wantCode(t, name, err, "cert_malformed")
			if info.Name != "" || info.IDLast4 != "" {
				t.Errorf("%s: something came out", name)
			}
			continue
		}
		if info.Name != c.Name || info.SubjectSerial != c.Serial16 || info.IDLast4 != c.NationalID[6:] || info.CardType != tc.opts.CardType {
			t.Errorf("%s: %+v", name, info)
		}
		if want := tc.opts.SubjectType; want != nil && !info.SubjectType.Equal(want) {
			t.Errorf("%s: subject type %s", name, info.SubjectType)
		}
	}
	_, err := certpath.ParseCitizen(nil)
	wantCode(t, "nothing", err, "cert_malformed")
	_, err = certpath.ParseCitizen(h.CA)
	wantCode(t, "a CA", err, "cert_malformed")
}

func TestParseCertificates(t *testing.T) {
	der, err := os.ReadFile("testdata/MOICA-G3.cer")
	if err != nil {
		t.Fatal(err)
	}
	certs, err := certpath.ParseCertificates(der)
	if err != nil || certs[0].Subject.String() != "OU=內政部憑證管理中心,O=行政院,C=TW" {
		t.Errorf("%v", err)
	}
	for _, data := range []string{"", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN KEY-----\n"} {
		_, err := certpath.ParseCertificates([]byte(data))
		wantCode(t, data, err, "cert_malformed")
	}
}

// FuzzParseCitizen feeds subject and directory attributes: the two parts that
// crypto/x509 leaves unparsed.
func FuzzParseCitizen(f *testing.F) {
	h, err := pkitest.NewHierarchy(pkitest.Options{})
	if err != nil {
		f.Fatal(err)
	}
	c, err := h.Citizen(pkitest.CitizenOptions{CardType: "mobile", KeyType: pkitest.P256})
	if err != nil {
		f.Fatal(err)
	}
	sda := asn1.ObjectIdentifier{2, 5, 29, 9}
	for _, e := range c.Certificate.Extensions {
		if e.Id.Equal(sda) {
			f.Add(c.Certificate.RawSubject, e.Value)
		}
	}
	f.Fuzz(func(t *testing.T, subject, attributes []byte) {
		info, err := certpath.ParseCitizen(&x509.Certificate{RawSubject: subject, Extensions: []pkix.Extension{{Id: sda, Value: attributes}}})
		if err == nil && (len(info.SubjectSerial) != 16 || len(info.IDLast4) != 4 || info.Name == "" || info.SubjectType == nil) {
			t.Errorf("incomplete: %+v", info)
		}
	})
}

// FuzzParseCRL: whatever we accept, the standard library accepts, with the same
// number of entries.
func FuzzParseCRL(f *testing.F) {
	h, err := pkitest.NewHierarchy(pkitest.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bigList(f, h, 3))
	f.Add(makeCRL(f, h, func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{idp("http://x/", 0x81, 1, 0xff)} }))
	f.Fuzz(func(t *testing.T, der []byte) {
		crl, err := certpath.ParseCRL(der)
		if err != nil {
			return
		}
		std, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Skip() // e.g. an AKI that only crypto/x509 reads to its end
		}
		if len(std.RevokedCertificateEntries) != crl.Len() {
			t.Errorf("%d entries, not %d", crl.Len(), len(std.RevokedCertificateEntries))
		}
		for _, e := range std.RevokedCertificateEntries {
			if _, _, revoked := crl.Lookup(e.SerialNumber); !revoked && e.SerialNumber.Sign() > 0 {
				t.Errorf("serial %x is lost", e.SerialNumber)
			}
		}
	})
}

func FuzzParseOCSP(f *testing.F) {
	h, err := pkitest.NewHierarchy(pkitest.Options{})
	if err != nil {
		f.Fatal(err)
	}
	c, err := h.Citizen(pkitest.CitizenOptions{KeyType: pkitest.P256, Revoked: true})
	if err != nil {
		f.Fatal(err)
	}
	id, err := certpath.NewCertID(c.Certificate, h.CA, 3) // SHA-1
	if err != nil {
		f.Fatal(err)
	}
	q, err := (&certpath.OCSPRequest{IDs: []certpath.CertID{id}, Nonce: []byte("nonce")}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	a, err := h.OCSP(q, c.Certificate.NotBefore.AddDate(2, 0, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	f.Add(a)
	f.Fuzz(func(t *testing.T, der []byte) {
		if r, err := certpath.ParseOCSPResponse(der); err == nil {
			r.Responder(h.CA, c.Certificate.NotBefore, nil)
		}
		req, err := certpath.ParseOCSPRequest(der)
		if err != nil {
			return
		}
		again, err := req.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := certpath.ParseOCSPRequest(again)
		if err != nil || len(back.IDs) != len(req.IDs) || string(back.Nonce) != string(req.Nonce) {
			t.Errorf("%v", err)
		}
	})
}
