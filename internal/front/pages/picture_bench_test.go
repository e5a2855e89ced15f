package pages_test

import (
	"crypto/sha256"
	"encoding/base64"
	"testing"

	"github.com/skip2/go-qrcode"
)

// What a waiting browser would cost if the server drew each frame, against what
// it costs to send the frame's text: one HMAC and a line of an event stream.
// Ten thousand browsers need five thousand frames a second.
func BenchmarkFrame(b *testing.B) {
	link := "https://id.gov.tw/q/" + base64.RawURLEncoding.EncodeToString(make([]byte, 16)) + ".123.AAAAAAAAAAA"
	b.Run("drawn here as PNG", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := qrcode.Encode(link, qrcode.Medium, 320); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("modules only", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			code, err := qrcode.New(link, qrcode.Medium)
			if err != nil {
				b.Fatal(err)
			}
			_ = code.Bitmap()
		}
	})
	b.Run("sent as text", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sum := sha256.Sum256([]byte(link))
			_ = "event: frame\ndata: " + link + base64.RawURLEncoding.EncodeToString(sum[:8]) + "\n\n"
		}
	})
}
