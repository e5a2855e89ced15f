package signing_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sealgate/internal/signing"
)

func TestChallengeOfLoginsIsAsDocumented(t *testing.T) {
	content := []byte(`{"kind":"login","order":"o1","v":1}`)
	if got, want := signing.Challenge(content, nil), sha256.Sum256([]byte("sealgate/order/v1\x00"+string(content))); got != want {
		t.Error("nothing left out")
	}
	if got, want := signing.Challenge(content, []int{0, 12}), sha256.Sum256([]byte("sealgate/order/v1\x00"+string(content)+"\x00left-out:0,12")); got != want {
		t.Error("two left out")
	}
}

// The tree is computed here by hand, after RFC 6962 §2.1.
func TestChallengeOfDocumentsIsAsDocumented(t *testing.T) {
	content := signContent("o1", "a", "b", "c", "d")
	var parsed struct{ Documents []json.RawMessage }
	if err := json.Unmarshal(content, &parsed); err != nil {
		t.Fatal(err)
	}
	hash := func(i int, mark string) []byte {
		sum := sha256.Sum256([]byte(fmt.Sprintf("\x00%d%s%s", i, mark, parsed.Documents[i])))
		return sum[:]
	}
	leaf, left := func(i int) []byte { return hash(i, "\x00") }, func(i int) []byte { return hash(i, "\x01") }
	node := func(l, r []byte) []byte {
		sum := sha256.Sum256(append(append([]byte{1}, l...), r...))
		return sum[:]
	}
	header := `{"documents":[],"kind":"sign","order":"o1","v":2}`
	for name, c := range map[string]struct {
		leftOut []int
		root    []byte
	}{
		"all":           {nil, node(node(leaf(0), leaf(1)), node(leaf(2), leaf(3)))},
		"one left out":  {[]int{1}, node(node(leaf(0), left(1)), node(leaf(2), leaf(3)))},
		"only one kept": {[]int{0, 1, 2}, node(node(left(0), left(1)), node(left(2), leaf(3)))},
	} {
		want := sha256.Sum256([]byte(fmt.Sprintf("sealgate/order/v2\x00%s\x00documents:4:%s", header, c.root)))
		if got := signing.Challenge(content, c.leftOut); got != want {
			t.Errorf("%s: another challenge", name)
		}
	}
}

func TestInclusionProvesOneDocument(t *testing.T) {
	for n := 1; n <= 9; n++ {
		texts := make([]string, n)
		for i := range texts {
			texts[i] = fmt.Sprint("document ", i)
		}
		content := signContent("o1", texts...)
		for _, leftOut := range [][]int{nil, {0}, {n - 1}} {
			if len(leftOut) >= n {
				continue
			}
			for i := range n {
				proof, err := signing.Prove(content, leftOut, i)
				if slices.Contains(leftOut, i) {
					if err == nil {
						t.Errorf("%d of %d: a proof for a document that was left out", i, n)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if d, got, err := proof.Verify(); err != nil || d.Index != i || got != signing.Challenge(content, leftOut) {
					t.Errorf("%d of %d without %v: %v", i, n, leftOut, err)
				}
			}
		}
	}
}

func TestInclusionRefusesWhatWasNotApproved(t *testing.T) {
	content := signContent("o1", "a", "b", "c", "d", "e")
	want := signing.Challenge(content, []int{1})
	for name, change := range map[string]func(p *signing.Inclusion){
		"control": func(*signing.Inclusion) {},
		"another document": func(p *signing.Inclusion) {
			p.Document = bytes.Replace(p.Document, []byte("SHA-256"), []byte("SHA-255"), 1)
		},
		"another name": func(p *signing.Inclusion) {
			p.Document = bytes.Replace(p.Document, []byte("文件"), []byte("文書"), 1)
		},
		"another place":    func(p *signing.Inclusion) { p.Index++ },
		"more documents":   func(p *signing.Inclusion) { p.Documents += 3 },
		"another header":   func(p *signing.Inclusion) { p.Header = bytes.Replace(p.Header, []byte("o1"), []byte("o2"), 1) },
		"a login's header": func(p *signing.Inclusion) { p.Header = bytes.Replace(p.Header, []byte("sign"), []byte("login"), 1) },
		"documents inside": func(p *signing.Inclusion) { p.Header = content },
		"another root":     func(p *signing.Inclusion) { p.Root[0] ^= 1 },
		"a shorter path":   func(p *signing.Inclusion) { p.Path = p.Path[1:] },
		"a longer path":    func(p *signing.Inclusion) { p.Path = append(p.Path, p.Root) },
		"no path":          func(p *signing.Inclusion) { p.Path = nil },
	} {
		p, err := signing.Prove(content, []int{1}, 2)
		if err != nil {
			t.Fatal(err)
		}
		change(p)
		_, got, err := p.Verify()
		if good := err == nil && got == want; good != (name == "control") {
			t.Errorf("%s: accepted %v, %v", name, good, err)
		}
	}
}

func TestDigestsHashNamesOrderAndDocuments(t *testing.T) {
	seen := map[[32]byte]string{}
	for name, c := range map[string]struct {
		content []byte
		leftOut []int
	}{
		"all":            {signContent("o1", "a", "b", "c"), nil},
		"without first":  {signContent("o1", "a", "b", "c"), []int{0}},
		"without last":   {signContent("o1", "a", "b", "c"), []int{2}},
		"two documents":  {signContent("o1", "a", "b"), nil},
		"another order":  {signContent("o2", "a", "b", "c"), nil},
		"other sequence": {signContent("o1", "b", "a", "c"), nil},
	} {
		hash, err := signing.DigestsHash(c.content, c.leftOut)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if other, ok := seen[hash]; ok {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[hash] = name
	}
}

func TestDigestsHashRefusesWhatIsNotASignOrder(t *testing.T) {
	good := string(signContent("o1", "a", "b"))
	for name, c := range map[string]struct {
		content string
		leftOut []int
	}{
		"login":            {strings.Replace(good, `"sign"`, `"login"`, 1), nil},
		"version":          {strings.Replace(good, `"v":2`, `"v":3`, 1), nil},
		"no documents":     {`{"kind":"sign","order":"o1","v":2}`, nil},
		"not JSON":         {"{", nil},
		"SHA-1":            {strings.Replace(good, "SHA-256", "SHA-1", 1), nil},
		"wrong length":     {strings.Replace(good, "SHA-256", "SHA-512", 1), nil},
		"all left out":     {good, []int{0, 1}},
		"twice left out":   {good, []int{0, 0}},
		"falling":          {good, []int{1, 0}},
		"out of range":     {good, []int{2}},
		"negative":         {good, []int{-1}},
		"more than it has": {good, []int{0, 1, 2}},
		"documents twice":  {strings.Replace(good, `"kind"`, `"documents":[],"kind"`, 1), nil},
		"unknown form":     {strings.Replace(good, `"name"`, `"form":"xades","name"`, 1), nil},
		"raw with PSS":     {strings.Replace(good, `"name"`, `"form":"raw","signature_algorithm":"RSASSA-PSS","name"`, 1), nil},
		"version not last": {strings.Replace(strings.Replace(good, `,"v":2}`, `}`, 1), `{`, `{"v":2,`, 1), nil},
	} {
		if _, err := signing.DigestsHash([]byte(c.content), c.leftOut); !errors.Is(err, signing.ErrContent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := signing.DigestsHash([]byte(good), []int{1}); err != nil {
		t.Errorf("control: %v", err)
	}
}

func FuzzDigestsHash(f *testing.F) {
	f.Add(signContent("o1", "a", "b"), 1)
	f.Add([]byte(`{"documents":[{}],"kind":"sign","v":2}`), 0)
	f.Fuzz(func(t *testing.T, content []byte, out int) {
		a, errA := signing.DigestsHash(content, []int{out})
		b, errB := signing.DigestsHash(content, nil)
		if errA == nil && errB == nil && a == b {
			t.Error("leaving one out changes nothing")
		}
	})
}
