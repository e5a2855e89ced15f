package config

import (
	"strings"
	"testing"
	"time"
)

func TestTSAList(t *testing.T) {
	tsa := TSA{Timeout: 10 * time.Second, Authorities: []string{"https://tsa.example.gov.tw/tsr name=first policy=1.2.3 timeout=5s", "http://tsa2.example:3318/", "own"}}
	list, err := tsa.List()
	if err != nil || len(list) != 3 {
		t.Fatalf("%v %v", list, err)
	}
	for i, want := range []TSAAuthority{{"first", "https://tsa.example.gov.tw/tsr", "1.2.3", 5 * time.Second},
		{"tsa2.example:3318", "http://tsa2.example:3318/", "", 10 * time.Second}, {OwnTSA, "", "", 10 * time.Second}} {
		if list[i] != want {
			t.Errorf("%+v", list[i])
		}
	}
	for _, bad := range [][]string{{""}, {"tsa.example"}, {"https://u:p@tsa.example/"}, {"ftp://tsa.example/"}, {"own name=x"}, {"https://a/ policy=x"},
		{"https://a/ timeout=1h"}, {"https://a/ colour=red"}, {"own", "own"}} {
		if _, err := (TSA{Authorities: bad}).List(); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestTSANeedsAnchors(t *testing.T) {
	for key, env := range map[string][]string{
		"":                      nil,
		"tsa.anchors_dir":       {"SEALGATE_TSA_AUTHORITIES=https://tsa.example.gov.tw/"},
		"tsa.authorities":       {"SEALGATE_TSA_AUTHORITIES=nowhere"},
		"signing.level: B-XXL?": {"SEALGATE_SIGNING_LEVEL=B-T", "SEALGATE_TSA_AUTHORITIES=own"},
	} {
		_, err := Load("", append([]string{"SEALGATE_DEV=true"}, env...))
		if good := key == "" || strings.HasSuffix(key, "?"); good != (err == nil) || !good && !strings.Contains(err.Error(), key) {
			t.Errorf("%v: %v", env, err)
		}
	}
}
