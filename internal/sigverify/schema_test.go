package sigverify_test

import (
	"bytes"
	"testing"

	"github.com/pb33f/jsonschema/v6"

	"os"

	"sealgate/internal/sigverify"
)

// The JSON is what api/verify.schema.json promises, for good and bad.
func TestReportsKeepTheSchema(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(must(os.ReadFile("../../api/verify.schema.json"))))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("verify.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("verify.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	l := newLab()
	good := stamped(t, l.sign(t, years(1)), l.tsa, years(0.9))
	check := func(raw []byte) error {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			return err
		}
		return schema.Validate(value)
	}
	for name, r := range map[string]*sigverify.Report{
		"good":         l.judge(t, good, whole(document)),
		"wrong":        l.judge(t, good, whole(other)),
		"no content":   l.judge(t, good, sigverify.Content{}),
		"no signature": l.judge(t, []byte("hello"), sigverify.Content{}),
		"recorded":     l.verify(t, sigverify.Request{Signature: good, At: years(3), Proofs: []sigverify.KnownProof{{Time: years(1.1), Note: "x"}}}),
		"revoked": l.verify(t, sigverify.Request{Signature: good, At: years(1),
			Evidence: evidenceOf(crl(l.ca, years(1), revoked{l.signer.Certificate, years(0.5), 1}))}),
	} {
		if err := check(must(r.JSON())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if check(bytes.Replace(must(l.judge(t, good, whole(document)).JSON()), []byte("TOTAL-PASSED"), []byte("FINE"), 1)) == nil {
		t.Error("the schema takes anything")
	}
}
