package console

import (
	"encoding/json"
	"net/http"

	domain "sealgate/internal/console"
	"sealgate/internal/front"
)

// Bounds on what the ceremonies' scripts send, in bytes.
const (
	maxSmall    = 4 << 10
	maxCeremony = 128 << 10
)

// raw is JSON that goes through as it is.
type raw = json.RawMessage

// optionsAnswer is what a script needs for a ceremony.
type optionsAnswer struct {
	Ticket    string `json:"ticket"`
	Statement []byte `json:"statement,omitempty"`
	PublicKey raw    `json:"public_key"`
}

func answerOf(p *domain.Prepared) optionsAnswer {
	return optionsAnswer{Ticket: p.Ticket, Statement: p.Statement, PublicKey: p.Options}
}

func (d *Door) signInPage(w http.ResponseWriter, r *http.Request) {
	front.EnsureBrowser(w, r)
	if _, err := d.session(r); err == nil {
		http.Redirect(w, r, "/admin", http.StatusSeeOther)
		return
	}
	_ = d.page(w, r, nil, "sign-in", "", nil)
}

func (d *Door) signInOptions(w http.ResponseWriter, r *http.Request) {
	var in struct{}
	err := front.DecodeJSON(r, &in, maxSmall)
	var p *domain.Prepared
	if err == nil {
		p, err = d.cfg.Console.SignInOptions(d.browser(w, r))
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, answerOf(p))
}

func (d *Door) signIn(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Ticket    string `json:"ticket"`
		Assertion raw    `json:"assertion"`
	}
	err := front.DecodeJSON(r, &in, maxCeremony)
	var token string
	if err == nil {
		token, err = d.cfg.Console.SignIn(r.Context(), d.browser(w, r), in.Ticket, in.Assertion)
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	d.setCookie(w, token)
	front.WriteJSON(w, http.StatusOK, map[string]string{"next": "/admin"})
}

// joinPage knows nothing of the invitation: its secret stands behind the # of
// the link, which browsers send to nobody.
func (d *Door) joinPage(w http.ResponseWriter, r *http.Request) {
	front.EnsureBrowser(w, r)
	_ = d.page(w, r, nil, "join", "", nil)
}

func (d *Door) joinLook(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token string `json:"token"`
	}
	err := front.DecodeJSON(r, &in, maxSmall)
	var i *domain.Invite
	if err == nil {
		i, err = d.cfg.Console.FindInvite(r.Context(), in.Token)
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, struct {
		Name  string        `json:"name"`
		Roles []domain.Role `json:"roles"`
	}{i.Name, i.Roles})
}

func (d *Door) joinOptions(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token string `json:"token"`
		Name  string `json:"name"`
	}
	err := front.DecodeJSON(r, &in, maxSmall)
	var p *domain.Prepared
	if err == nil {
		p, err = d.cfg.Console.JoinOptions(r.Context(), d.browser(w, r), in.Token, in.Name)
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, answerOf(p))
}

func (d *Door) join(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token       string `json:"token"`
		Ticket      string `json:"ticket"`
		Statement   []byte `json:"statement"`
		Credential  raw    `json:"credential"`
		PasskeyName string `json:"passkey_name"`
	}
	err := front.DecodeJSON(r, &in, maxCeremony)
	var token string
	if err == nil {
		token, err = d.cfg.Console.Join(r.Context(), d.browser(w, r), in.Token, in.PasskeyName,
			domain.Answer{Statement: in.Statement, Ticket: in.Ticket, Assertion: in.Credential})
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	d.setCookie(w, token)
	front.WriteJSON(w, http.StatusOK, map[string]string{"next": "/admin"})
}

func (d *Door) signOut(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	if err := d.cfg.Console.SignOut(r.Context(), s); err != nil {
		return err
	}
	d.setCookie(w, "")
	http.Redirect(w, r, "/admin/sign-in?done=signed_out", http.StatusSeeOther)
	return nil
}
