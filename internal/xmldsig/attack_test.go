package xmldsig_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sealgate/internal/xmldsig"
)

// forge signs a SignedInfo of any shape with a good key: what is refused then is
// refused for its form.
func forge(t testing.TB, before, after, references string) []byte {
	t.Helper()
	info := `<SignedInfo xmlns="http://www.w3.org/2000/09/xmldsig#">` + references + `</SignedInfo>`
	d := must(xmldsig.Parse([]byte(info)))
	var b bytes.Buffer
	if err := d.Canonicalize(&b, xmldsig.C14N); err != nil {
		t.Fatal(err)
	}
	sig := must(rsa2().key.Sign(nil, sum(crypto.SHA256, b.String()), crypto.SHA256))
	return []byte(before + `<Signature xmlns="http://www.w3.org/2000/09/xmldsig#">` + info + "<SignatureValue>" + base64.StdEncoding.EncodeToString(sig) +
		"</SignatureValue><KeyInfo><X509Data><X509Certificate>" + base64.StdEncoding.EncodeToString(rsa2().cert.Raw) + "</X509Certificate></X509Data></KeyInfo></Signature>" + after)
}

const (
	c14nMethod = `<CanonicalizationMethod Algorithm="` + xmldsig.C14N + `"></CanonicalizationMethod>`
	sigMethod  = `<SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"></SignatureMethod>`
	sha256URI  = "http://www.w3.org/2001/04/xmlenc#sha256"
)

func ref(uri, transforms, digested string) string {
	return fmt.Sprintf(`<Reference URI="%s"><Transforms>%s</Transforms><DigestMethod Algorithm="%s"></DigestMethod><DigestValue>%s</DigestValue></Reference>`,
		uri, transforms, sha256URI, base64.StdEncoding.EncodeToString(sum(crypto.SHA256, digested)))
}

func transform(alg, inside string) string {
	return `<Transform Algorithm="` + alg + `">` + inside + `</Transform>`
}

func judge(t testing.TB, xml []byte) *xmldsig.Result {
	t.Helper()
	d, err := xmldsig.Parse(xml)
	if err != nil {
		t.Fatalf("%v (%v): %s", err, errors.Unwrap(err), xml)
	}
	return must(d.Verify(context.Background(), d.Signatures()[0], xmldsig.VerifyOptions{}))
}

func TestFormsThatAreRefused(t *testing.T) {
	const before, after = `<r><part Id="p">100</part>`, `</r>`
	const part = `<part Id="p">100</part>`
	good := c14nMethod + sigMethod + ref("#p", "", part)
	if r := judge(t, forge(t, before, after, good)); r.Err != nil {
		t.Fatalf("%v (%v)", r.Err, errors.Unwrap(r.Err))
	}
	head := c14nMethod + sigMethod
	enveloped := transform("http://www.w3.org/2000/09/xmldsig#enveloped-signature", "")
	for name, c := range map[string]struct {
		info string
		want error
	}{
		"no reference":           {head, xmldsig.ErrForm},
		"XSLT":                   {head + ref("#p", transform("http://www.w3.org/TR/1999/REC-xslt-19991116", "<x></x>"), part), xmldsig.ErrAlgorithm},
		"XPath":                  {head + ref("#p", transform("http://www.w3.org/TR/1999/REC-xpath-19991116", "<XPath>true</XPath>"), part), xmldsig.ErrAlgorithm},
		"XPath filter":           {head + ref("#p", transform("http://www.w3.org/2002/06/xmldsig-filter2", ""), part), xmldsig.ErrAlgorithm},
		"base64":                 {head + ref("#p", transform("http://www.w3.org/2000/09/xmldsig#base64", ""), part), xmldsig.ErrAlgorithm},
		"two canonicalisations":  {head + ref("#p", transform(xmldsig.C14N, "")+transform(xmldsig.C14N, ""), part), xmldsig.ErrForm},
		"enveloped elsewhere":    {head + ref("#p", enveloped, part), xmldsig.ErrForm},
		"enveloped twice":        {head + ref("", enveloped+enveloped, part), xmldsig.ErrForm},
		"xpointer":               {head + ref("#xpointer(/)", "", part), xmldsig.ErrForm},
		"nothing by that name":   {head + ref("#q", "", part), xmldsig.ErrForm},
		"a transform of a file":  {head + ref("p.xml", transform(xmldsig.C14N, ""), part), xmldsig.ErrForm},
		"no URI":                 {head + strings.Replace(ref("#p", "", part), ` URI="#p"`, "", 1), xmldsig.ErrForm},
		"short HMAC":             {c14nMethod + `<SignatureMethod Algorithm="http://www.w3.org/2000/09/xmldsig#hmac-sha1"><HMACOutputLength>1</HMACOutputLength></SignatureMethod>` + ref("#p", "", part), xmldsig.ErrAlgorithm},
		"SHA-1 in a reference":   {head + strings.Replace(ref("#p", "", part), sha256URI, "http://www.w3.org/2000/09/xmldsig#sha1", 1), xmldsig.ErrAlgorithm},
		"MD5":                    {head + strings.Replace(ref("#p", "", part), sha256URI, "http://www.w3.org/2001/04/xmldsig-more#md5", 1), xmldsig.ErrAlgorithm},
		"another canonical form": {strings.Replace(good, xmldsig.C14N, "http://www.w3.org/2006/12/xml-c14n11", 1), xmldsig.ErrAlgorithm},
		"elements in a digest":   {head + strings.Replace(ref("#p", "", part), "<DigestValue>", "<DigestValue><x></x>", 1), xmldsig.ErrForm},
		"methods swapped":        {sigMethod + c14nMethod + ref("#p", "", part), xmldsig.ErrForm},
		"EC method, RSA key":     {strings.Replace(good, "rsa-sha256", "ecdsa-sha256", 1), xmldsig.ErrAlgorithm},
		"too many":               {head + strings.Repeat(ref("#p", "", part), 1025), xmldsig.ErrTooLarge},
		"another text":           {head + ref("#p", "", part+" "), xmldsig.ErrDigest},
	} {
		if r := judge(t, forge(t, before, after, c.info)); !errors.Is(r.Err, c.want) || r.Complete() {
			t.Errorf("%s: %v (%v), want %v", name, r.Err, errors.Unwrap(r.Err), c.want)
		}
	}
	// Two elements of one name: which is meant is nobody's choice.
	if r := judge(t, forge(t, before+`<evil id="p">900</evil>`, after, good)); !errors.Is(r.Err, xmldsig.ErrForm) {
		t.Errorf("an ambiguous name: %v", r.Err)
	}
	// A comment splits a text for readers who take its first part only.
	if r := judge(t, forge(t, `<r><part Id="p">1<!-- -->00</part>`, after, good)); r.Err != nil || r.References[0].Element.Text() != "100" {
		t.Errorf("a comment: %v", r.Err)
	}
	// Parts of a signature that do not belong there.
	xml := string(forge(t, before, after, good))
	for from, to := range map[string]string{
		"<KeyInfo>": "<SignedInfo></SignedInfo><KeyInfo>", "</KeyInfo>": "</KeyInfo><KeyInfo></KeyInfo>",
		"<SignatureValue>": "<SignatureValue></SignatureValue><SignatureValue>", "<X509Data>": "<X509Data><X509Certificate>AAAA</X509Certificate>",
	} {
		if r := judge(t, []byte(strings.Replace(xml, from, to, 1))); r.Err == nil {
			t.Errorf("%s instead of %s was taken", to, from)
		}
	}
	noKey := xml[:strings.Index(xml, "<KeyInfo>")] + xml[strings.Index(xml, "</KeyInfo>")+len("</KeyInfo>"):]
	if r := judge(t, []byte(noKey)); !errors.Is(r.Err, xmldsig.ErrNoCertificate) {
		t.Errorf("without a key: %v", r.Err)
	}
}

// Signed parts of a record are moved, doubled or replaced.
func TestWrappedPoints(t *testing.T) {
	xml := string(chain(t))
	cut := func(s, from, to string) string {
		i := strings.Index(s, from)
		return s[i : i+strings.Index(s[i:], to)+len(to)]
	}
	first := cut(xml, `<簽核點定義 Id="P1"`, "</簽核點定義>\n")
	second := cut(xml, `<簽核點定義 Id="P2"`, "</簽核點定義>\n")
	object := cut(first, "<Object ", "</Object>")
	evil := strings.Replace(strings.Replace(object, "承辦", "決行", 1), `"P1-object"`, `"P1-other"`, 1)
	for name, forged := range map[string]string{
		"a point taken out":            strings.Replace(xml, first, "", 1),
		"points in another order":      strings.Replace(strings.Replace(xml, second, "", 1), first, second+first, 1),
		"a point twice":                strings.Replace(xml, first, first+first, 1),
		"its object elsewhere":         strings.Replace(strings.Replace(xml, object, evil, 1), "<線上簽核流程>", "<線上簽核流程>"+object, 1),
		"two objects":                  strings.Replace(xml, object, evil+object, 1),
		"an object in the signature":   strings.Replace(strings.Replace(xml, object, evil, 1), "</KeyInfo></Signature>", "</KeyInfo>"+object+"</Signature>", 1),
		"the list twice":               strings.Replace(xml, "</線上簽核資訊>", "</線上簽核資訊><線上簽核資訊></線上簽核資訊>", 1),
		"a signature beside":           strings.Replace(xml, "<線上簽核流程>", cut(first, "<Signature ", "</Signature>")+"<線上簽核流程>", 1),
		"a point in a point":           strings.Replace(xml, object, object+second, 1),
		"a signature from another one": strings.Replace(xml, cut(first, "<Signature ", "</Signature>"), cut(second, "<Signature ", "</Signature>"), 1),
	} {
		if forged == xml {
			t.Fatalf("%s: nothing was forged", name)
		}
		f, err := xmldsig.ParseSI([]byte(forged))
		if err != nil {
			continue
		}
		all := must(f.Verify(context.Background(), everything))
		bad := false
		for _, r := range all {
			bad = bad || r.Err != nil
			if r.Err == nil && r.Point.Action == "決行" && r.Point.ID == "P1" {
				t.Errorf("%s: what was not signed is told as signed", name)
			}
		}
		if !bad {
			t.Errorf("%s: all points are good", name)
		}
	}
	// Without the last point the rest is whole: only who counts them knows.
	third := cut(xml, `<簽核點定義 Id="P3"`, "</簽核點定義>\n")
	for _, r := range verify(t, []byte(strings.Replace(xml, third, "", 1)), everything) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
}

// A small document must not keep us busy for long.
func TestWorkIsBounded(t *testing.T) {
	ns := "<r"
	for i := range 100 {
		ns += fmt.Sprintf(` xmlns:p%d="urn:%s"`, i, strings.Repeat("x", 1000))
	}
	big := ns + `><part Id="p">` + strings.Repeat("<b/>", 30_000) + "</part>"
	var refs strings.Builder
	for i := range 1000 {
		refs.WriteString(ref("#p", transform(xmldsig.ExclusiveC14N, fmt.Sprintf(`<InclusiveNamespaces xmlns="%s" PrefixList="p%d"></InclusiveNamespaces>`, xmldsig.ExclusiveC14N, i)), ""))
	}
	if r := judge(t, forge(t, big, "</r>", c14nMethod+sigMethod+refs.String())); !errors.Is(r.Err, xmldsig.ErrTooLarge) {
		t.Errorf("%v", r.Err)
	}
}

func FuzzSI(f *testing.F) {
	f.Add(chain(f))
	f.Add(must(xmldsig.NewSI("f")).XML())
	f.Add(forge(f, `<線上簽核><線上簽核資訊><簽核點定義 Id="a"><Object Id="b"></Object>`, `</簽核點定義></線上簽核資訊></線上簽核>`, c14nMethod+sigMethod+ref("#b", "", "")))
	id := ec()
	f.Fuzz(func(t *testing.T, xml []byte) {
		si, err := xmldsig.ParseSI(xml)
		if err != nil {
			return
		}
		if _, err := si.Verify(context.Background(), everything); err != nil {
			t.Fatal(err)
		}
		tbs, err := si.AddPoint(xmldsig.Point{Action: "a"}, xmldsig.PointOptions{Certificate: id.cert, Covers: []string{}})
		if err != nil {
			return
		}
		done, err := xmldsig.Attach(tbs.XML, tbs.Point, value(id, tbs))
		if err != nil {
			t.Fatalf("%v (%v)", err, errors.Unwrap(err))
		}
		all := must(must(xmldsig.ParseSI(done)).Verify(context.Background(), everything))
		if last := all[len(all)-1]; last.Err != nil {
			t.Fatalf("%v (%v)", last.Err, errors.Unwrap(last.Err))
		}
	})
}
