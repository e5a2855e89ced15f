package xmldsig_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sealgate/internal/xmldsig"
)

func needTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed: this counterpart was not asked", name)
}

func canonical(t testing.TB, xml, algorithm string) string {
	t.Helper()
	d, err := xmldsig.Parse([]byte(xml))
	if err != nil {
		t.Fatalf("%v (%v): %s", err, errors.Unwrap(err), xml)
	}
	var b bytes.Buffer
	if err := d.Canonicalize(&b, algorithm); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// documents show what canonical form is about; each is compared with xmllint too.
var documents = []string{
	`<?xml version="1.0"?><?a  b ?><!-- c --><doc/><!-- d --><?e?>`,
	"\ufeff<doc>\r\n x\ry \t</doc>\n",
	`<doc a='1' b = "2"   z="'&quot;&#9;&#10;&#13;&lt;>&amp;" c="a	b
c"/>`,
	`<doc>&lt;&gt;&amp;&quot;&apos;&#xD;&#x4e2d;<![CDATA[<&>"]]></doc>`,
	`<a xmlns="urn:a"><b xmlns=""><c xmlns="urn:a"/><d xmlns=""/></b></a>`,
	`<a xmlns:x="urn:x" xmlns:y="urn:y" y:k="1" x:k="2" k="0" xmlns:b="urn:0" b:z="3"><x:b xmlns:x="urn:x"/><x:c xmlns:x="urn:other"/></a>`,
	`<z:a xmlns:z="urn:a" xmlns:n="urn:b" xmlns:m="urn:c" m:b="" n:c=""/>`,
	`<a xml:lang="zh-Hant" xml:space="preserve" xmlns:u="urn:unused"> <b xml:lang="en" u:i="1"/> </a>`,
	`<線上簽核 編號="１"><簽核·點>文</簽核·點></線上簽核>`,
	`<a><!-- x --><?pi  d?><b/><!----></a>`,
	`<a xmlns="urn:a" xmlns:p="urn:a" p:x="1" x="2"><p:b/><b/></a>`,
	`<e xmlns:xml="http://www.w3.org/XML/1998/namespace" xml:id="1"/>`,
	`<a>𠮷😀&#x20bb7;</a >`,
}

func TestCanonicalForm(t *testing.T) {
	for _, c := range []struct{ in, algorithm, out string }{
		{documents[0], xmldsig.C14N, "<?a b ?>\n<doc></doc>\n<?e?>"},
		{documents[0], xmldsig.C14NComments, "<?a b ?>\n<!-- c -->\n<doc></doc>\n<!-- d -->\n<?e?>"},
		{documents[1], xmldsig.C14N, "<doc>\n x\ny \t</doc>"},
		{documents[2], xmldsig.C14N, `<doc a="1" b="2" c="a b c" z="'&quot;&#x9;&#xA;&#xD;&lt;>&amp;"></doc>`},
		{documents[3], xmldsig.C14N, `<doc>&lt;&gt;&amp;"'&#xD;中&lt;&amp;&gt;"</doc>`},
		{documents[4], xmldsig.C14N, `<a xmlns="urn:a"><b xmlns=""><c xmlns="urn:a"></c><d></d></b></a>`},
		{documents[5], xmldsig.C14N, `<a xmlns:b="urn:0" xmlns:x="urn:x" xmlns:y="urn:y" k="0" b:z="3" x:k="2" y:k="1"><x:b></x:b><x:c xmlns:x="urn:other"></x:c></a>`},
		{documents[7], xmldsig.ExclusiveC14N, `<a xml:lang="zh-Hant" xml:space="preserve"> <b xmlns:u="urn:unused" xml:lang="en" u:i="1"></b> </a>`},
	} {
		if got := canonical(t, c.in, c.algorithm); got != c.out {
			t.Errorf("%s\n%q, want\n%q", c.in, got, c.out)
		}
	}
}

// An element inside inherits what is declared around it: the nearest declaration,
// and in exclusive form only what it uses.
func TestCanonicalPart(t *testing.T) {
	d := must(xmldsig.Parse([]byte(`<r xmlns="urn:d" xmlns:p="urn:far" xmlns:q="urn:q" xml:lang="zh" xml:space="default"><m xmlns:p="urn:near" xml:lang="en"><e Id="x" q:a="1"><p:f/></e></m></r>`)))
	for _, c := range []struct {
		algorithm string
		prefixes  []string
		want      string
	}{
		{xmldsig.C14N, nil, `<e xmlns="urn:d" xmlns:p="urn:near" xmlns:q="urn:q" Id="x" xml:lang="en" xml:space="default" q:a="1"><p:f></p:f></e>`},
		{xmldsig.ExclusiveC14N, nil, `<e xmlns="urn:d" xmlns:q="urn:q" Id="x" q:a="1"><p:f xmlns:p="urn:near"></p:f></e>`},
		{xmldsig.ExclusiveC14N, []string{"p", "#default"}, `<e xmlns="urn:d" xmlns:p="urn:near" xmlns:q="urn:q" Id="x" q:a="1"><p:f></p:f></e>`},
	} {
		var b bytes.Buffer
		if err := d.ByID("x").Canonicalize(&b, c.algorithm, c.prefixes...); err != nil || b.String() != c.want {
			t.Errorf("%s %v: %v\n%s, want\n%s", c.algorithm, c.prefixes, err, b.String(), c.want)
		}
	}
}

func TestXmllintAgrees(t *testing.T) {
	needTool(t, "xmllint")
	all := append([]string{string(chain(t))}, documents...)
	for _, xml := range all {
		path := filepath.Join(t.TempDir(), "doc.xml")
		if err := os.WriteFile(path, []byte(xml), 0o600); err != nil {
			t.Fatal(err)
		}
		for flag, algorithm := range map[string]string{"--c14n": xmldsig.C14NComments, "--exc-c14n": xmldsig.ExclusiveC14NComments} {
			out, err := exec.Command("xmllint", "--nonet", flag, path).Output()
			if err != nil {
				t.Fatalf("%v: %s", err, xml)
			}
			if got := canonical(t, xml, algorithm); got != string(out) {
				t.Errorf("%s\n%q, xmllint:\n%q", flag, got, out)
			}
		}
	}
}

func TestRefusedXML(t *testing.T) {
	deep := strings.Repeat("<a>", 101) + strings.Repeat("</a>", 101)
	if _, err := xmldsig.Parse([]byte(deep[3 : len(deep)-4])); err != nil {
		t.Error(err)
	}
	many := "<a" + strings.Repeat(" x", 1)
	for i := range 300 {
		many += " xmlns:p" + strings.Repeat("x", i) + "='u'"
	}
	for _, c := range []struct {
		xml  string
		want error
	}{
		{"", xmldsig.ErrMalformed}, {"text", xmldsig.ErrMalformed}, {"<a>", xmldsig.ErrMalformed}, {"<a></b>", xmldsig.ErrMalformed},
		{"<a/><b/>", xmldsig.ErrMalformed}, {"<a/>x", xmldsig.ErrMalformed}, {"<a b=1/>", xmldsig.ErrMalformed}, {"<a b='1'c='2'/>", xmldsig.ErrMalformed},
		{"<!DOCTYPE a><a/>", xmldsig.ErrMalformed}, {"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>", xmldsig.ErrMalformed},
		{"<a>&x;</a>", xmldsig.ErrMalformed}, {"<a>&#0;</a>", xmldsig.ErrMalformed}, {"<a>&#xd800;</a>", xmldsig.ErrMalformed}, {"<a>&</a>", xmldsig.ErrMalformed},
		{"<a>]]></a>", xmldsig.ErrMalformed}, {"<a b='<'/>", xmldsig.ErrMalformed}, {"<a b='1' b='2'/>", xmldsig.ErrMalformed},
		{"<a xmlns:x='u' xmlns:y='u' x:b='1' y:b='2'/>", xmldsig.ErrMalformed}, {"<x:a/>", xmldsig.ErrMalformed}, {"<a x:b='1'/>", xmldsig.ErrMalformed},
		{"<a xmlns:x=''/>", xmldsig.ErrMalformed}, {"<a xmlns:xml='u'/>", xmldsig.ErrMalformed}, {"<a xmlns:xmlns='u'/>", xmldsig.ErrMalformed},
		{"<xmlns:a/>", xmldsig.ErrMalformed}, {"<a:b:c xmlns:a='u'/>", xmldsig.ErrMalformed}, {"<1a/>", xmldsig.ErrMalformed},
		{"<a><!-- -- --></a>", xmldsig.ErrMalformed}, {"<a><?xml x?></a>", xmldsig.ErrMalformed}, {" <?xml version='1.0'?><a/>", xmldsig.ErrMalformed},
		{"<?xml version='1.1'?><a/>", xmldsig.ErrMalformed}, {"<?xml version='1.0' encoding='big5'?><a/>", xmldsig.ErrMalformed},
		{"<a>\x00</a>", xmldsig.ErrMalformed}, {"<a>\xff</a>", xmldsig.ErrMalformed}, {"<a><![CDATA[x</a>", xmldsig.ErrMalformed},
		{deep, xmldsig.ErrTooLarge}, {many + "/>", xmldsig.ErrMalformed}, {strings.Replace(many, " x", "", 1) + "/>", xmldsig.ErrTooLarge},
		{"<a>" + strings.Repeat("<b/>", 300_001) + "</a>", xmldsig.ErrTooLarge},
	} {
		if _, err := xmldsig.Parse([]byte(c.xml)); !errors.Is(err, c.want) {
			t.Errorf("%.80s: %v, want %v", c.xml, err, c.want)
		}
	}
}

// What is canonical stays as it is, and means the same.
func FuzzCanonical(f *testing.F) {
	for _, d := range documents {
		f.Add([]byte(d))
	}
	f.Fuzz(func(t *testing.T, xml []byte) {
		d, err := xmldsig.Parse(xml)
		if err != nil {
			return
		}
		for _, algorithm := range []string{xmldsig.C14NComments, xmldsig.ExclusiveC14NComments} {
			var once, twice bytes.Buffer
			if d.Canonicalize(&once, algorithm) != nil {
				return
			}
			again, err := xmldsig.Parse(once.Bytes())
			if err != nil {
				t.Fatalf("%v (%v): %q", err, errors.Unwrap(err), once.Bytes())
			}
			if err := again.Canonicalize(&twice, algorithm); err != nil || !bytes.Equal(once.Bytes(), twice.Bytes()) {
				t.Fatalf("%v: %q, then %q", err, once.Bytes(), twice.Bytes())
			}
		}
	})
}
