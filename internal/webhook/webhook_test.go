package webhook_test

import (
	"encoding/base64"
	"testing"
	"time"

	"sealgate/internal/webhook"
)

// The example of the Standard Webhooks libraries.
func TestSign(t *testing.T) {
	secret, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := webhook.Sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("%s", got)
	}
}

func TestCheckURL(t *testing.T) {
	for address, want := range map[string]bool{
		"https://agency.example/hook": true, "http://localhost:9/hook": true, "http://127.0.0.1:9/": true,
		"http://agency.example/": false, "https://": false, "": false, "ftp://agency.example/": false, "https://agency.example/#a": false,
		"http://localhost.evil.example/": false, "https://a b/": false,
	} {
		if got := webhook.CheckURL(address, true) == nil; got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
	if webhook.CheckURL("http://localhost:9/", false) == nil {
		t.Error("http outside development")
	}
}
