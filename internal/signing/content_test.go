package signing_test

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"sealgate/internal/signing"
)

func TestChallengeIsAsDocumented(t *testing.T) {
	content := signContent("o1", "a", "b", "c")
	if got, want := signing.Challenge(content, nil), sha256.Sum256([]byte("sealgate/order/v1\x00"+string(content))); got != want {
		t.Error("nothing left out")
	}
	if got, want := signing.Challenge(content, []int{0, 12}), sha256.Sum256([]byte("sealgate/order/v1\x00"+string(content)+"\x00left-out:0,12")); got != want {
		t.Error("two left out")
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
		// "without last" and "two documents" allow the same signatures for the
		// same order; every other pair must differ.
		if other, ok := seen[hash]; ok && !(strings.Contains(name+other, "without last") && strings.Contains(name+other, "two documents")) {
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
		"version":          {strings.Replace(good, `"v":1`, `"v":2`, 1), nil},
		"no documents":     {`{"v":1,"kind":"sign","order":"o1"}`, nil},
		"not JSON":         {"{", nil},
		"SHA-1":            {strings.Replace(good, "SHA-256", "SHA-1", 1), nil},
		"wrong length":     {strings.Replace(good, "SHA-256", "SHA-512", 1), nil},
		"all left out":     {good, []int{0, 1}},
		"twice left out":   {good, []int{0, 0}},
		"falling":          {good, []int{1, 0}},
		"out of range":     {good, []int{2}},
		"negative":         {good, []int{-1}},
		"more than it has": {good, []int{0, 1, 2}},
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
	f.Add([]byte(`{"v":1,"kind":"sign","documents":[{}]}`), 0)
	f.Fuzz(func(t *testing.T, content []byte, out int) {
		a, errA := signing.DigestsHash(content, []int{out})
		b, errB := signing.DigestsHash(content, nil)
		if errA == nil && errB == nil && a == b {
			t.Error("leaving one out changes nothing")
		}
	})
}
