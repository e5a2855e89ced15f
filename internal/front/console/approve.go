package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	domain "sealgate/internal/console"
	"sealgate/internal/front"
)

// Fact is one line of a statement in words.
type Fact struct {
	Key   string // of the catalogue, below console.fact.
	Value string
	Word  string // beginning of the catalogue's key for the value, where it is a fixed word
	At    time.Time
}

// ApproveData is the page that shows a statement and asks for an assertion.
type ApproveData struct {
	Purpose string // last part of the statement's purpose: a key of the catalogue
	Facts   []Fact
	Text    string // the statement itself
	Act     string // id of a two-person act that is confirmed, else ""
	Second  bool   // a second person will have to confirm
	Back    string
	script  map[string]any
}

// Page is what the page's script reads.
func (a ApproveData) Page() map[string]any { return a.script }

// shown lists a statement's members in the order in which people read them.
// What is for machines alone stands in the statement's text.
var shown = []string{"name", "person", "roles", "devices", "device_name", "document_kind", "document_tail", "card_state", "reason", "credential_thumbprint", "order", "time"}

// words are members whose values are fixed words.
var words = map[string]string{"document_kind": "console.document.", "roles": "console.role.", "card_state": "console.card."}

func facts(statement []byte) []Fact {
	var all map[string]any
	if json.Unmarshal(statement, &all) != nil {
		return nil
	}
	var out []Fact
	for _, key := range shown {
		switch v := all[key].(type) {
		case string:
			if at, err := time.Parse(time.RFC3339, v); err == nil && key == "time" {
				out = append(out, Fact{Key: key, At: at})
			} else if v != "" {
				out = append(out, Fact{Key: key, Value: v, Word: words[key]})
			}
		case []any:
			for _, item := range v {
				switch item := item.(type) {
				case string:
					out = append(out, Fact{Key: key, Value: item, Word: words[key]})
				case map[string]any:
					out = append(out, Fact{Key: key, Value: fmt.Sprint(item["name"])})
				}
			}
		}
	}
	return out
}

// ask shows a prepared statement.
func (d *Door) ask(w http.ResponseWriter, r *http.Request, s *domain.Session, nav string, p *domain.Prepared, a ApproveData) error {
	purpose, err := domain.Purpose(p.Statement)
	if err != nil {
		return err
	}
	a.Purpose = lastPart(purpose)
	a.Facts, a.Text = facts(p.Statement), string(p.Statement)
	a.script = map[string]any{"ticket": p.Ticket, "statement": p.Statement, "public_key": raw(p.Options), "act": a.Act}
	return d.page(w, r, s, "approve", nav, a)
}

// approve takes an assertion over a statement and does what it says.
func (d *Door) approve(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	var in struct {
		Act       string `json:"act"` // of a two-person act: this confirms it
		Ticket    string `json:"ticket"`
		Statement []byte `json:"statement"`
		Assertion raw    `json:"assertion"`
	}
	if err := front.DecodeJSON(r, &in, maxCeremony); err != nil {
		return err
	}
	answer := domain.Answer{Statement: in.Statement, Ticket: in.Ticket, Assertion: in.Assertion}
	if in.Act != "" {
		return d.confirm(w, r, s, in.Act, answer)
	}
	purpose, err := domain.Purpose(in.Statement)
	if err != nil {
		return err
	}
	ctx, c := r.Context(), d.cfg.Console
	out := map[string]string{}
	switch purpose {
	case domain.PurposeInvite:
		var token string
		token, err = c.Invite(ctx, s, answer)
		out["link"] = JoinLink(d.cfg.Shell.Origin(), token)
	case domain.PurposeRemove:
		err = c.Remove(ctx, s, answer)
		out["next"] = "/admin/administrators?done=removed"
	case domain.PurposeStop:
		_, err = c.Stop(ctx, s, answer)
		out["next"] = "/admin?done=stopped"
	case string(domain.ResumeDevices):
		_, err = c.ProposeResume(ctx, s, answer)
		out["next"] = "/admin/acts?done=proposed"
	case string(domain.BindInPerson):
		out["next"], err = d.proposeInPerson(r, s, answer)
	default:
		err = domain.ErrStatement
	}
	if err != nil {
		return err
	}
	front.WriteJSON(w, http.StatusOK, out)
	return nil
}

func (d *Door) confirm(w http.ResponseWriter, r *http.Request, s *domain.Session, act string, a domain.Answer) error {
	id, err := uuid.Parse(act)
	if err != nil {
		return domain.ErrAct
	}
	if _, err := d.cfg.Console.Confirm(r.Context(), s, id, a); err != nil {
		return err
	}
	front.WriteJSON(w, http.StatusOK, map[string]string{"next": "/admin/acts/" + id.String() + "?done=confirmed"})
	return nil
}

// JoinLink is the one-time link of an invitation.
func JoinLink(origin, token string) string { return origin + "/admin/join#" + token }

// lastPart names a purpose in the catalogue.
func lastPart(purpose string) string { return purpose[strings.LastIndexByte(purpose, '/')+1:] }
