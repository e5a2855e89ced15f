package softphone_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"sealgate/cmd/sealctl/onebox"
	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func start(t *testing.T) (*onebox.Box, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	b, err := onebox.Start(ctx, onebox.Config{Dir: t.TempDir(), Pool: pgtest.Open(t), Cards: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, ctx
}

func browser(t *testing.T, b *onebox.Box) *softphone.Browser {
	t.Helper()
	desk, err := softphone.NewBrowser(b.Origin, nil)
	if err != nil {
		t.Fatal(err)
	}
	return desk
}

func authorizeURL(b *onebox.Box) string {
	challenge := sha256.Sum256([]byte(strings.Repeat("v", 43)))
	return b.Origin + "/oauth2/authorize?" + url.Values{"response_type": {"code"}, "client_id": {b.ClientID}, "scope": {"openid"},
		"redirect_uri": {b.Site + "/callback"}, "state": {"s"}, "nonce": {"n"}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}}.Encode()
}

func TestMainRoad(t *testing.T) {
	b, ctx := start(t)
	phone, err := b.Enrol(ctx, b.Cards[0])
	if err != nil {
		t.Fatal("enrol:", err)
	}
	t.Run("log in by QR code", func(t *testing.T) { logIn(ctx, t, b, phone) })
	t.Run("typed code", func(t *testing.T) { typedCode(ctx, t, b, phone) })
	t.Run("same device", func(t *testing.T) { sameDevice(ctx, t, b, phone) })
	t.Run("reject", func(t *testing.T) { reject(ctx, t, b, phone) })
	t.Run("sign own files", func(t *testing.T) { signFiles(ctx, t, b, phone) })
	t.Run("session", func(t *testing.T) { session(ctx, t, b, phone) })
	t.Run("second phone and replay", func(t *testing.T) { secondPhone(ctx, t, b, phone) })
}

func logIn(ctx context.Context, t *testing.T, b *onebox.Box, phone *softphone.Phone) {
	desk := browser(t, b)
	id, err := desk.Follow(ctx, authorizeURL(b))
	if err != nil {
		t.Fatal(err)
	}
	states := make(chan string, 10)
	go func() {
		defer close(states)
		_ = desk.Events(ctx, id, func(e softphone.Event) bool {
			if e.Name == "state" {
				states <- e.Data
			}
			return !strings.Contains(e.Data, `"approved"`)
		})
	}()
	frame, err := desk.Frame(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := phone.Scan(ctx, frame)
	if err != nil {
		t.Fatal(err)
	}
	if claim.Client.Host != "localhost:9" || claim.Kind != "login" {
		t.Fatalf("claim: %+v", claim)
	}
	if _, err := phone.Resume(ctx, claim.Order, claim.Token); err != nil {
		t.Fatal("resume:", err)
	}
	if _, err := phone.Approve(ctx, claim); err != nil {
		t.Fatal(err)
	}
	var last string
	for s := range states {
		last = s
	}
	if !strings.Contains(last, `"approved"`) {
		t.Fatalf("the page was told %q", last)
	}
	back, err := desk.Return(ctx, id)
	if err != nil || !strings.HasPrefix(back, b.Site+"/callback?") || !strings.Contains(back, "code=") {
		t.Fatalf("%q %v", back, err)
	}
	if _, err := browser(t, b).Order(ctx, id); softphone.CodeOf(err) != "browser_required" {
		t.Fatalf("another browser: %v", err)
	}
}

func typedCode(ctx context.Context, t *testing.T, b *onebox.Box, phone *softphone.Phone) {
	desk := browser(t, b)
	id, err := desk.Follow(ctx, authorizeURL(b))
	if err != nil {
		t.Fatal(err)
	}
	st, err := desk.Step(ctx, id, "code", nil)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := phone.TypeCode(ctx, st.Code)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := phone.Approve(ctx, claim); softphone.CodeOf(err) != "order_check_needed" {
		t.Fatalf("approved without the digits: %v", err)
	}
	if err := desk.Check(ctx, id, claim.Check.Digits); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.Approve(ctx, claim); err != nil {
		t.Fatal(err)
	}
}

func sameDevice(ctx context.Context, t *testing.T, b *onebox.Box, phone *softphone.Phone) {
	desk := browser(t, b)
	id, err := desk.Follow(ctx, authorizeURL(b))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := phone.Here(ctx, id); softphone.CodeOf(err) != "order_wrong_browser" {
		t.Fatalf("a phone without the cookie: %v", err)
	}
	here := desk.Phone(phone.Keys())
	claim, err := here.Here(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	out, err := here.Approve(ctx, claim)
	if err != nil {
		t.Fatal(err)
	}
	if out.ACR != "phr" || out.Next != "/o/"+id+"/return" {
		t.Fatalf("%+v", out)
	}
}

func reject(ctx context.Context, t *testing.T, b *onebox.Box, phone *softphone.Phone) {
	desk := browser(t, b)
	id, err := desk.Follow(ctx, authorizeURL(b))
	if err != nil {
		t.Fatal(err)
	}
	frame, err := desk.Frame(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := phone.OpenLink(ctx, frame)
	if err != nil {
		t.Fatal(err)
	}
	if err := phone.Reject(ctx, claim, "not_me"); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.Approve(ctx, claim); softphone.CodeOf(err) != "order_rejected" {
		t.Fatalf("approved after no: %v", err)
	}
	st, err := phone.Status(ctx, claim, 0)
	if err != nil || st.State != "rejected" {
		t.Fatalf("%+v %v", st, err)
	}
}

func signFiles(ctx context.Context, t *testing.T, b *onebox.Box, phone *softphone.Phone) {
	desk := browser(t, b)
	if err := desk.LogIn(ctx, phone); err != nil {
		t.Fatal(err)
	}
	documents := make([]softphone.Document, 3)
	for i := range documents {
		sum := sha256.Sum256(fmt.Appendf(nil, "file %d", i))
		documents[i] = softphone.Document{Name: fmt.Sprintf("公文 %d.pdf", i), MediaType: "application/pdf", Size: 6,
			DigestAlgorithm: "SHA-256", Digest: base64.StdEncoding.EncodeToString(sum[:])}
	}
	id, err := desk.SignFiles(ctx, documents)
	if err != nil {
		t.Fatal(err)
	}
	frame, err := desk.Frame(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := phone.Scan(ctx, frame)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := phone.Approve(ctx, claim, softphone.Answer{LeftOut: []int{1}}); err != nil {
		t.Fatal(err)
	}
	st, err := desk.WaitFor(ctx, id, "completed", "failed")
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, d := range st.Documents {
		got += d.State + " "
	}
	if got != "signed left_out signed " {
		t.Fatalf("%s: %s", st.State, got)
	}
	page, err := desk.Get(ctx, "/o/"+id+"/documents/2.p7s")
	if err != nil || page.Status != 200 || len(page.Body) < 500 {
		t.Fatalf("%v %+v", err, page)
	}
}

func session(ctx context.Context, t *testing.T, b *onebox.Box, phone *softphone.Phone) {
	desk := browser(t, b)
	here := desk.Phone(phone.Keys())
	var list struct{ Items []map[string]any }
	if err := here.Read(ctx, "history", &list); softphone.CodeOf(err) != "session_required" {
		t.Fatalf("history without a session: %v", err)
	}
	if err := here.OpenSession(ctx); err != nil {
		t.Fatal(err)
	}
	if err := here.Read(ctx, "history", &list); err != nil || len(list.Items) == 0 {
		t.Fatalf("%v %v", list, err)
	}
	if err := here.Read(ctx, "devices", &list); err != nil || len(list.Items) != 1 {
		t.Fatalf("%v %v", list, err)
	}
}

func secondPhone(ctx context.Context, t *testing.T, b *onebox.Box, phone *softphone.Phone) {
	other, err := b.Enrol(ctx, b.Cards[1])
	if err != nil {
		t.Fatal(err)
	}
	desk := browser(t, b)
	id, err := desk.Follow(ctx, authorizeURL(b))
	if err != nil {
		t.Fatal(err)
	}
	frame, err := desk.Frame(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := phone.Scan(ctx, frame)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Scan(ctx, frame); softphone.CodeOf(err) != "order_claimed" {
		t.Fatalf("a second phone: %v", err)
	}
	assertion, err := phone.Assert(claim)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := phone.SendAssertion(ctx, claim, assertion, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.SendAssertion(ctx, claim, assertion, nil); softphone.CodeOf(err) != "order_approved" {
		t.Fatalf("replayed: %v", err)
	}
}

func TestCardRefusals(t *testing.T) {
	b, ctx := start(t)
	for _, c := range []struct {
		name string
		card int
		id   string
		want string
	}{
		{"expired", 4, "", "cert_expired"},
		{"revoked", 5, "", "cert_revoked"},
		{"another national ID", 0, b.Cards[1].NationalID, "enrol_id_mismatch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			card := b.Cards[c.card]
			if c.id != "" {
				card.NationalID = c.id
			}
			if _, err := b.Enrol(ctx, card); softphone.CodeOf(err) != c.want {
				t.Fatalf("got %v, want %s", err, c.want)
			}
		})
	}
	wrong := b.Cards[2]
	wrong.PIN = "00000000"
	_, err := b.Enrol(ctx, wrong)
	var refused *softphone.CardError
	if !errors.As(err, &refused) || refused.TriesLeft == nil || *refused.TriesLeft != 2 {
		t.Fatalf("a wrong PIN: %v", err)
	}
	if _, err := b.Enrol(ctx, b.Cards[2]); err != nil {
		t.Fatalf("the right PIN afterwards: %v", err)
	}
}
