package xmldsig_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sealgate/internal/xmldsig"
)

// folder is where xmlsec1 finds the record and the files it names.
func folder(t *testing.T, xml []byte) string {
	t.Helper()
	dir := t.TempDir()
	var anchors []byte
	for _, id := range []identity{ec(), rsa2(), p521()} {
		anchors = append(anchors, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.ca.Raw})...)
	}
	all := map[string][]byte{"record.xml": xml, "ca.pem": anchors}
	for name, text := range contents {
		all[name] = []byte(text)
	}
	for name, data := range all {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func xmlsec(dir string, args ...string) (string, error) {
	cmd := exec.Command("xmlsec1", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func xmlsecVerify(dir string, point int) (string, error) {
	args := []string{"--verify", "--id-attr:Id", "簽核點定義", "--id-attr:Id", "Object",
		"--node-xpath", fmt.Sprintf("(//*[local-name()='Signature'])[%d]", point)}
	for i, id := range []identity{ec(), rsa2(), p521()} {
		name := filepath.Join(dir, fmt.Sprintf("ca%d.pem", i))
		_ = os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.ca.Raw}), 0o600)
		args = append(args, "--trusted-pem", name)
	}
	return xmlsec(dir, append(args, "record.xml")...)
}

func TestXmlsecAgrees(t *testing.T) {
	needTool(t, "xmlsec1")
	xml := chain(t)
	dir := folder(t, xml)
	for point := 1; point <= 3; point++ {
		if out, err := xmlsecVerify(dir, point); err != nil {
			t.Errorf("point %d: %v: %s", point, err, out)
		}
	}
	// One changed byte in the record: in the first point's object, which every point
	// covers, and in a file, which only those that name it do.
	bad := bytes.Replace(xml, []byte("測試一號"), []byte("王小朋"), 1)
	dir = folder(t, bad)
	for point := 1; point <= 3; point++ {
		if out, err := xmlsecVerify(dir, point); err == nil {
			t.Errorf("point %d over a changed record: %s", point, out)
		}
	}
	dir = folder(t, xml)
	if err := os.WriteFile(filepath.Join(dir, "att-2.pdf"), []byte("%PDF-3"), 0o600); err != nil {
		t.Fatal(err)
	}
	for point, want := range []bool{true, false, true} {
		if out, err := xmlsecVerify(dir, point+1); (err == nil) != want {
			t.Errorf("point %d with a changed file: %v: %s", point+1, err, out)
		}
	}
}

func template(c14n, method, uri, transforms, id string) string {
	return `<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo><CanonicalizationMethod Algorithm="` + c14n + `"/><SignatureMethod Algorithm="` + method +
		`"/><Reference URI="` + uri + `"><Transforms>` + transforms + `</Transforms><DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><DigestValue/></Reference>` +
		`</SignedInfo><SignatureValue/><KeyInfo><X509Data><X509Certificate/></X509Data></KeyInfo></Signature>`
}

// What xmlsec1 signs, we accept, and refuse with one changed byte.
func TestWeAgreeWithXmlsec(t *testing.T) {
	needTool(t, "xmlsec1")
	const more = "http://www.w3.org/2001/04/xmldsig-more#"
	env := `<Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>`
	with := func(alg string) string { return `<Transform Algorithm="` + alg + `"/>` }
	exc := `<Transform Algorithm="` + xmldsig.ExclusiveC14N + `"><i:InclusiveNamespaces xmlns:i="` + xmldsig.ExclusiveC14N + `" PrefixList="x #default"/></Transform>`
	for i, c := range []struct {
		id                            identity
		c14n, method, uri, transforms string
	}{
		{rsa2(), xmldsig.C14N, more + "rsa-sha256", "", env},
		{rsa2(), xmldsig.C14N, more + "rsa-sha512", "", env + with(xmldsig.C14NComments)},
		{rsa2(), xmldsig.ExclusiveC14N, more + "rsa-sha384", "#part", with(xmldsig.ExclusiveC14N)},
		{ec(), xmldsig.ExclusiveC14NComments, more + "ecdsa-sha256", "#part", exc},
		{ec(), xmldsig.C14N, more + "ecdsa-sha512", "#part", with(xmldsig.C14N)},
		{p521(), xmldsig.C14NComments, more + "ecdsa-sha512", "", env + with(xmldsig.ExclusiveC14N)},
		{p521(), xmldsig.C14N, more + "ecdsa-sha256", "#part", ""},
	} {
		dir := folder(t, []byte(`<?xml version="1.0"?><?style a?><doc xmlns="urn:d" xmlns:x="urn:x" xml:lang="zh"><part Id="part" x:b='&#10;1'> 金額 <!-- c -->100<x:y xmlns="" Q="1"/></part>`+
			template(c.c14n, c.method, c.uri, c.transforms, "")+"</doc><!-- end -->"))
		pkcs8 := must(x509.MarshalPKCS8PrivateKey(c.id.key))
		if err := os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.id.cert.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := xmlsec(dir, "--sign", "--privkey-pem", "key.pem,cert.pem", "--id-attr:Id", "urn:d:part", "--output", "out.xml", "record.xml"); err != nil {
			t.Fatalf("%d: %v: %s", i, err, out)
		}
		signed := must(os.ReadFile(filepath.Join(dir, "out.xml")))
		d := must(xmldsig.Parse(signed))
		r := must(d.Verify(context.Background(), d.Signatures()[0], xmldsig.VerifyOptions{}))
		if r.Err != nil || !r.Complete() {
			t.Errorf("%d: %v (%v)\n%s", i, r.Err, errors.Unwrap(r.Err), signed)
			continue
		}
		if want := map[string]string{"": "doc", "#part": "part"}[c.uri]; r.References[0].Element.Local != want || !r.Certificate.Equal(c.id.cert) {
			t.Errorf("%d: it covers %s", i, r.References[0].Element.Local)
		}
		d = must(xmldsig.Parse(bytes.Replace(signed, []byte("100"), []byte("900"), 1)))
		if r := must(d.Verify(context.Background(), d.Signatures()[0], xmldsig.VerifyOptions{})); !errors.Is(r.Err, xmldsig.ErrDigest) {
			t.Errorf("%d: changed: %v", i, r.Err)
		}
		d = must(xmldsig.Parse([]byte(strings.Replace(string(signed), "<SignedInfo>", "<SignedInfo> ", 1))))
		if r := must(d.Verify(context.Background(), d.Signatures()[0], xmldsig.VerifyOptions{})); !errors.Is(r.Err, xmldsig.ErrSignature) {
			t.Errorf("%d: changed SignedInfo: %v", i, r.Err)
		}
	}
}
