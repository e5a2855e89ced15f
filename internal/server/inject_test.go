package server_test

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"sealgate/cmd/sealctl/softphone"
)

// evilNames are names that an agency, or a person with a file, could give.
const (
	evilTag    = `<img src=x onerror=alert(1)>`
	evilScript = `</script><script>alert(2)</script>`
	evilQuote  = `" onmouseover="alert(3)' x='`
)

// Names and texts of others are shown as text, on every page they reach.
func TestInjection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	id, secret := w.other(t)
	w.exec(t, "UPDATE clients SET name_zh = $1, name_en = $2, host = $3 WHERE client_id = $4", evilTag+evilScript, evilQuote+evilTag, "evil\".example'<b>", id)
	w.exec(t, "UPDATE agencies SET name_zh = $1, name_en = $2 WHERE code = 'other'", evilScript+evilTag, evilTag+evilQuote)
	client := w.apiOf(id, secret)
	o, err := client.create(map[string]any{"text": evilScript + evilTag + evilQuote, "return_uri": "http://localhost:10/signed",
		"documents": []any{document(evilTag+evilScript+evilQuote, []byte("a")), document(`../../../x".html`, []byte("b"))}})
	if err != nil {
		t.Fatal(err)
	}
	desk := w.browser()
	sign := must(desk.Open(w.ctx, o.StartURL))(t)
	login := must(desk.Follow(w.ctx, w.relyingPartyOf(id, secret, "http://localhost:10/callback", "profile").begin().url))(t)
	own := w.browser()
	if err := own.LogIn(w.ctx, phone); err != nil {
		t.Fatal(err)
	}
	files := must(own.SignFiles(w.ctx, []softphone.Document{{Name: evilTag + evilScript, MediaType: evilQuote, Size: 1, DigestAlgorithm: "SHA-256", Digest: digestOf([]byte("a"))}}))(t)

	look := func(t *testing.T, b *softphone.Browser, path string, shows bool) {
		for _, lang := range []string{"zh-Hant", "en"} {
			page := string(must(b.Get(w.ctx, path+"?lang="+lang))(t).Body)
			for _, bad := range []string{"<img src=x", "<script>alert", "</script><script", `" onmouseover="`, `<b>`} {
				if strings.Contains(page, bad) {
					t.Errorf("%s in %s has %s as markup", path, lang, bad)
				}
			}
			if escaped := strings.Contains(page, "&lt;img src=x") || strings.Contains(page, `\u003cimg src=x`) || strings.Contains(page, "&lt;/script&gt;"); escaped != shows {
				t.Errorf("%s in %s: the name is shown as text: %v", path, lang, escaped)
			}
		}
	}
	for _, step := range []string{"created", "scanned", "completed"} {
		t.Run(step, func(t *testing.T) {
			switch step {
			case "scanned":
				for b, id := range map[*softphone.Browser]string{desk: sign, own: files} {
					w.scan(t, b, phone, id)
				}
				w.scan(t, desk, phone, login)
			case "completed":
				w.exec(t, "UPDATE orders SET state = 'expired', ended_at = now() WHERE state = 'scanned' AND kind = 'login'")
			}
			look(t, desk, "/o/"+sign, true)
			look(t, desk, "/o/"+login, true)
			look(t, own, "/sign/"+files, true)
			look(t, desk, "/start/"+sign, false)
			look(t, desk, "/app/order/"+sign, false)
		})
	}
	t.Run("the phone is told the names as they are", func(t *testing.T) { // its script writes text, never markup
		claim := must(phone.OpenLink(w.ctx, must(own.Frame(w.ctx, must(own.SignFiles(w.ctx, []softphone.Document{{Name: evilTag, MediaType: "a/b", Size: 1, DigestAlgorithm: "SHA-256", Digest: digestOf([]byte("a"))}}))(t)))(t)))(t)
		if claim.Documents[0].Name != evilTag {
			t.Errorf("%q", claim.Documents[0].Name)
		}
	})
	t.Run("names that mislead", func(t *testing.T) {
		for _, name := range []string{"a\nb", "a\r\nb", "a\u202eb", "a\u2066b", "a\u200bb", "a\u2028b", "a\x00b", "a\x1bb", "", "   ", strings.Repeat("字", 201)} {
			w.refused(t, "documents_invalid", func() error {
				return attempted(client.create(map[string]any{"documents": []any{document(name, []byte("a"))}}))
			})
		}
		for _, text := range []string{"a\u202eb", "a\x1bb", strings.Repeat("字", 501)} {
			w.refused(t, "text_invalid", func() error {
				return attempted(client.create(map[string]any{"text": text, "documents": []any{document("a", []byte("a"))}}))
			})
		}
		if _, err := client.create(map[string]any{"text": "第一行\n第二行", "documents": []any{document("公文（二）.pdf", []byte("a"))}}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("downloads", func(t *testing.T) { downloads(t, w, phone) })
}

// downloads saves signatures of documents with hostile names, from both doors.
func downloads(t *testing.T, w *world, phone *softphone.Phone) {
	names := []string{`../../etc/passwd`, `..\..\boot.ini`, `a";filename="evil.exe`, `a;filename*=UTF-8''evil.exe`, `CON`, `.bashrc`, `公文.pdf`, `a%2f..%2fb`, `<b>.html`}
	docs := make([]any, len(names))
	own := make([]softphone.Document, len(names))
	for i, n := range names {
		docs[i] = document(n, []byte(n))
		own[i] = softphone.Document{Name: n, MediaType: "text/html", Size: 1, DigestAlgorithm: "SHA-256", Digest: digestOf([]byte(n))}
	}
	client := w.api()
	o, err := client.create(map[string]any{"documents": docs})
	if err != nil {
		t.Fatal(err)
	}
	desk := w.browser()
	if err := desk.LogIn(w.ctx, phone); err != nil {
		t.Fatal(err)
	}
	rest, files := must(desk.Open(w.ctx, o.StartURL))(t), must(desk.SignFiles(w.ctx, own))(t)
	for _, id := range []string{rest, files} {
		if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, id)); err != nil {
			t.Fatal(err)
		}
		must(desk.WaitFor(w.ctx, id, "completed"))(t)
	}
	token := must(tokenOf(w))(t)
	for i, name := range names {
		n := string(rune('0' + i))
		for path, header := range map[string]http.Header{
			"/o/" + files + "/documents/" + n + ".p7s":                       nil,
			"/api/v1/sign-orders/" + rest + "/documents/" + n + "/signature": {"Authorization": {"Bearer " + token}},
		} {
			res, _ := w.raw(t, desk.Client(), "GET", path, header, "")
			disposition := res.Header.Get("Content-Disposition")
			kind, params, err := mime.ParseMediaType(disposition)
			if res.StatusCode != 200 || err != nil || kind != "attachment" || len(params) != 1 {
				t.Errorf("%q: %d %q %v", name, res.StatusCode, disposition, err)
				continue
			}
			if saved := params["filename"]; strings.ContainsAny(saved, "/\\\"\r\n\x00") || !strings.HasSuffix(saved, ".p7s") || strings.HasPrefix(saved, ".") {
				t.Errorf("%q would be saved as %q (%s)", name, saved, disposition)
			}
			if res.Header.Get("Content-Type") != "application/pkcs7-signature" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: %s", path, res.Header.Get("Content-Type"))
			}
		}
	}
}

// Orders cannot be found by trying: ids, codes and tokens that are not known
// tell nothing, and what is somebody else's looks like what is not there to an
// agency's system.
func TestNothingToEnumerate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	id, secret := w.other(t)
	o, err := w.api().create(map[string]any{"documents": []any{document("a", []byte("a"))}})
	if err != nil {
		t.Fatal(err)
	}
	stranger := must(tokenFor(w, id, secret))(t)
	ask := func(order string) string {
		res, body := w.raw(t, phoneClient, "GET", "/api/v1/sign-orders/"+order, http.Header{"Authorization": {"Bearer " + stranger}}, "")
		var p map[string]any
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatal(err)
		}
		delete(p, "instance")
		text, _ := json.Marshal(p)
		return res.Status + string(text)
	}
	if there, not := ask(o.Order), ask("AZ8AAAAAcAAAAAAAAAAAAA"); there != not {
		t.Errorf("somebody else's order: %s\nno order: %s", there, not)
	}
	if tokenErr := func(id, secret string) string {
		_, err := tokenFor(w, id, secret)
		return err.Error()
	}; tokenErr("nobody", secret) != tokenErr("demo-agency", secret+"x") {
		t.Error("an unknown client and a wrong secret are told apart")
	}
	// Typed codes: eight digits that nobody was shown.
	for _, code := range []string{"00000000", "12345678", "１２３４５６７８", "1234567", "123456789", "-1234567"} {
		w.refused(t, "code_unknown", func() error {
			return w.post(phoneClient, "/api/device/v1/claims", map[string]string{"code": code, "source": "code"}, nil)
		})
	}
	// Whoever goes on is braked, also with the right code, and on this road alone.
	phone := w.enrol(0)
	_, desk, shown := w.started(t)
	code := must(desk.Step(w.ctx, shown, "code", nil))(t).Code
	for range 4 {
		if _, err := phone.TypeCode(w.ctx, "00000000"); refusalCode(err) != "code_unknown" {
			t.Fatal(err)
		}
	}
	w.silent(t, "rate_limited", func() error { return attempted(phone.TypeCode(w.ctx, "00000000")) })
	w.silent(t, "rate_limited", func() error { return attempted(phone.TypeCode(w.ctx, code)) })
	w.scan(t, desk, phone, shown)
}

func tokenFor(w *world, id, secret string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"sign"}}
	req, err := http.NewRequestWithContext(w.ctx, http.MethodPost, w.origin+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(id, secret)
	var out struct {
		Token string `json:"access_token"`
	}
	err = answer(http.DefaultClient, req, &out)
	return out.Token, err
}
