package server_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/cades"
	"sealgate/internal/dossier"
	"sealgate/internal/order"
	"sealgate/internal/softauthn"
	"sealgate/internal/xmldsig"
)

// official is a document on its way, as the API tells it.
type official struct {
	Dossier, State, Reference, Previous, SI string
	EndReason                               string `json:"end_reason"`
	Revision, Stage                         int
	Points                                  []struct {
		Number, Stage           int
		State, Subject, Failure string
		SignedBy                string `json:"signed_by"`
		Deputy                  bool
		Comment, Signature      string
		Signatures              map[string]string
	}
	Orders []struct {
		Order, State, Failure string
		Point                 int
	}
}

func (o *official) states() string {
	var out []string
	for _, p := range o.Points {
		out = append(out, p.State)
	}
	return o.State + ": " + strings.Join(out, " ")
}

// office is a client with official documents and the people who sign them.
type office struct {
	*world
	t      *testing.T
	api    *api
	keys   []*softauthn.Authenticator
	subs   []string
	number int
}

// contents are the files of every document in these tests.
var contents = map[string][]byte{"函稿.pdf": []byte("%PDF-1 draft"), "附件 1.pdf": []byte("%PDF-2 attachment")}

func newOffice(t *testing.T, people int, settings map[string]string) *office {
	t.Helper()
	w := newWorld(t, settings)
	o := &office{world: w, t: t, api: w.api()}
	for card := range people {
		phone := w.enrol(card)
		a := w.relyingParty().begin()
		desk := w.browser()
		id := w.approved(t, a, desk, phone)
		who := must(a.finish(must(desk.Return(w.ctx, id))(t)))(t)
		o.keys, o.subs = append(o.keys, phone.Keys()), append(o.subs, who.Subject)
	}
	return o
}

type m = map[string]any

func (o *office) point(stage int, title string, who int, more ...m) m {
	p := m{"stage": stage, "title": title, "subject": o.subs[who]}
	for _, one := range more {
		for k, v := range one {
			p[k] = v
		}
	}
	return p
}

func deputy(sub string, from, until time.Duration) m {
	now := time.Now()
	return m{"subject": sub, "reason": "公出", "not_before": now.Add(from).Format(time.RFC3339Nano), "not_after": now.Add(until).Format(time.RFC3339Nano)}
}

func (o *office) body(points ...m) m {
	files := []m{}
	for _, name := range []string{"函稿.pdf", "附件 1.pdf"} {
		files = append(files, document(name, contents[name]))
	}
	return m{"title": "檢送測試計畫一份", "files": files, "points": points}
}

func (o *office) submit(points ...m) *official {
	o.t.Helper()
	o.number++
	body := o.body(points...)
	body["reference"] = fmt.Sprintf("測字第%d號", o.number)
	var out official
	if err := o.api.call(http.MethodPost, "/api/v1/dossiers", body, &out); err != nil {
		o.t.Fatal(err)
	}
	return &out
}

func (o *office) read(id string) *official {
	o.t.Helper()
	var out official
	if err := o.api.call(http.MethodGet, "/api/v1/dossiers/"+id, nil, &out); err != nil {
		o.t.Fatal(err)
	}
	return &out
}

// order takes a point of the document into a sign order.
func (o *office) order(id string, point int, body m) (*restOrder, error) {
	var made restOrder
	return &made, o.api.call(http.MethodPost, fmt.Sprintf("/api/v1/dossiers/%s/points/%d/order", id, point), body, &made)
}

// approve lets a person's phone approve an order.
func (o *office) approve(made *restOrder, who int, answer ...softphone.Answer) {
	o.t.Helper()
	desk := o.browser()
	id := must(desk.Open(o.ctx, made.StartURL))(o.t)
	phone := o.phone(o.keys[who])
	if _, err := phone.Approve(o.ctx, o.scan(o.t, desk, phone, id), answer...); err != nil {
		o.t.Fatal(err)
	}
	if got := o.api.completed(o.t, id); got.State != "completed" {
		o.t.Fatalf("the order is %s", got.State)
	}
}

func (o *office) sign(id string, point, who int, body m, answer ...softphone.Answer) {
	o.t.Helper()
	made, err := o.order(id, point, body)
	if err != nil {
		o.t.Fatal(err)
	}
	o.approve(made, who, answer...)
}

// until waits for a document to come to these states.
func (o *office) until(id, states string) *official {
	o.t.Helper()
	var got *official
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got = o.read(id); got.states() == states {
			return got
		}
	}
	o.t.Fatalf("it is %q, want %q\n%s", got.states(), states, tail(o.log.String()))
	return nil
}

// refusedWith wants a problem with a status and a code.
func refusedWith(t *testing.T, err error, status int, code string) {
	t.Helper()
	var p *softphone.Problem
	if !errors.As(err, &p) || p.Status != status || p.Code != code {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

func (o *office) si(id string) []byte {
	o.t.Helper()
	var xml []byte
	if err := o.api.call(http.MethodGet, "/api/v1/dossiers/"+id+"/si", nil, &xml); err != nil {
		o.t.Fatal(err)
	}
	return xml
}

// xmlsec lets xmlsec1 verify so many points of an SI file, and one changed byte
// be refused. further are more files that the points name.
func (o *office) xmlsec(xml []byte, points int, further map[string][]byte) {
	o.t.Helper()
	if _, err := exec.LookPath("xmlsec1"); err != nil {
		o.t.Skip("xmlsec1 is not here")
	}
	dir := o.t.TempDir()
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			o.t.Fatal(err)
		}
	}
	for _, files := range []map[string][]byte{contents, further} {
		for name, b := range files {
			write(name, b)
		}
	}
	args := []string{"--verify", "--id-attr:Id", "簽核點定義", "--id-attr:Id", "Object"}
	n := 0
	for rest := o.box.Server.AnchorsPEM(); ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		write(fmt.Sprintf("ca%d.pem", n), pem.EncodeToMemory(block))
		args = append(args, "--trusted-pem", fmt.Sprintf("ca%d.pem", n))
	}
	verify := func(name string, point int) ([]byte, error) {
		cmd := exec.Command("xmlsec1", append(append([]string{}, args...), "--node-xpath", fmt.Sprintf("(//*[local-name()='Signature'])[%d]", point), name)...)
		cmd.Dir = dir
		return cmd.CombinedOutput()
	}
	write("si.xml", xml)
	write("bad.xml", bytes.ReplaceAll(xml, []byte("<異動時間>20"), []byte("<異動時間>21"))) // of every point
	for point := 1; point <= points; point++ {
		if out, err := verify("si.xml", point); err != nil {
			o.t.Errorf("xmlsec1, point %d: %v %s", point, err, out)
		}
		if _, err := verify("bad.xml", point); err == nil {
			o.t.Errorf("xmlsec1 accepts point %d over a changed record", point)
		}
	}
	write("函稿.pdf", []byte("%PDF-1 drafu"))
	for point := 1; point <= points; point++ {
		if _, err := verify("si.xml", point); err == nil {
			o.t.Errorf("xmlsec1 accepts point %d over a changed file", point)
		}
	}
}

func TestDossierRoad(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 3, nil)
	d := o.submit(o.point(1, "承辦人", 0), o.point(2, "會辦", 1), o.point(2, "會辦", 2), o.point(3, "科長", 2))
	if got := d.states(); got != "open: open waiting waiting waiting" {
		t.Fatal(got)
	}
	_, err := o.order(d.Dossier, 2, nil)
	refusedWith(t, err, 409, "dossier_point_state")
	_, err = o.order(d.Dossier, 1, m{"subject": o.subs[1]})
	refusedWith(t, err, 422, "dossier_signer")
	o.sign(d.Dossier, 1, 0, m{"comment": "擬如擬"})
	o.until(d.Dossier, "open: signed open open waiting")

	// Points beside each other: both orders are made before either is signed.
	second := must(o.order(d.Dossier, 2, nil))(t)
	third := must(o.order(d.Dossier, 3, nil))(t)
	o.approve(third, 2)
	o.until(d.Dossier, "open: signed open signed waiting")
	o.approve(second, 1)
	o.until(d.Dossier, "open: signed signed signed open")
	o.sign(d.Dossier, 4, 2, nil)
	done := o.until(d.Dossier, "completed: signed signed signed signed")
	if done.Points[0].Comment != "擬如擬" || done.Points[0].SignedBy != o.subs[0] {
		t.Errorf("%+v", done.Points[0])
	}
	xml := o.si(d.Dossier)
	o.xmlsec(xml, 4, nil)
	o.ours(xml, "P1:", "P3:P1", "P2:P1", "P4:P1 P3 P2")
	for n, name := range []string{"函稿.pdf", "附件 1.pdf"} {
		var p7s []byte
		if err := o.api.call(http.MethodGet, done.Points[3].Signatures[fmt.Sprint(n+1)], nil, &p7s); err != nil {
			t.Fatal(err)
		}
		o.opensslVerifies(t, p7s, contents[name])
	}
	_, err = o.order(d.Dossier, 4, nil)
	refusedWith(t, err, 409, "dossier_ended")
}

// ours lets our own reader say which points each point covers.
func (o *office) ours(xml []byte, want ...string) {
	o.t.Helper()
	si := must(xmldsig.ParseSI(xml))(o.t)
	var got []string
	for _, p := range must(si.Verify(o.ctx, xmldsig.VerifyOptions{}))(o.t) {
		if p.Err != nil {
			o.t.Errorf("point %s: %v", p.Point.ID, p.Err)
		}
		got = append(got, p.Point.ID+":"+strings.Join(p.Covers, " "))
	}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		o.t.Errorf("points cover %q, want %q", got, want)
	}
}

// A deputy signs within the period and not outside it; so also when the period
// ends while the order is out.
func TestDossierDeputy(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 3, nil)
	d := o.submit(
		o.point(1, "承辦人", 0, m{"deputies": []m{deputy(o.subs[1], -time.Hour, time.Hour), deputy(o.subs[2], time.Hour, 2*time.Hour)}}),
		o.point(2, "科長", 0, m{"deputies": []m{deputy(o.subs[1], -time.Hour, time.Hour)}}))
	_, err := o.order(d.Dossier, 1, m{"subject": o.subs[2]})
	refusedWith(t, err, 409, "dossier_deputy_period")
	o.sign(d.Dossier, 1, 1, m{"subject": o.subs[1]})
	got := o.until(d.Dossier, "open: signed open")
	if !got.Points[0].Deputy || got.Points[0].SignedBy != o.subs[1] {
		t.Errorf("%+v", got.Points[0])
	}
	if xml := string(o.si(d.Dossier)); !strings.Contains(xml, "<異動別>代理簽核</異動別>") || !strings.Contains(xml, "<被代理人>承辦人</被代理人>") {
		t.Errorf("the record does not say that a deputy signed:\n%s", xml)
	}
	refusedWith(t, o.api.call("POST", "/api/v1/dossiers/"+d.Dossier+"/points/1/deputies", deputy(o.subs[0], 0, time.Hour), nil), 409, "dossier_point_taken")
	refusedWith(t, o.api.call("POST", "/api/v1/dossiers/"+d.Dossier+"/points/2/deputies", deputy(o.subs[1], 0, time.Hour), nil), 400, "dossier_invalid")
	if err := o.api.call("POST", "/api/v1/dossiers/"+d.Dossier+"/points/2/deputies", deputy(o.subs[2], 0, time.Hour), nil); err != nil {
		t.Error(err)
	}
	// The order is made in time, the approval comes too late.
	made := must(o.order(d.Dossier, 2, m{"subject": o.subs[1]}))(t)
	must(o.pool.Exec(o.ctx, `UPDATE dossier_deputies SET not_after = now() WHERE point = 2`))(t)
	o.approve(made, 1)
	o.failed(d.Dossier, 2, "dossier_deputy_period")
	o.sign(d.Dossier, 2, 0, nil) // the signer still can
	o.until(d.Dossier, "completed: signed signed")
}

// failed waits until a point says why its last order came to nothing.
func (o *office) failed(id string, point int, code string) {
	o.t.Helper()
	var got *official
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got = o.read(id); got.Points[point-1].Failure == code {
			return
		}
	}
	o.t.Fatalf("%+v\n%s", got.Points[point-1], tail(o.log.String()))
}

// Returned by the signature of a point, submitted again as the next revision,
// whose points sign the record of the one before.
func TestDossierReturned(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 2, nil)
	route := func() []m { return []m{o.point(1, "承辦人", 0), o.point(2, "科長", 1)} }
	d := o.submit(route()...)
	err := o.api.call("POST", "/api/v1/dossiers/"+d.Dossier+"/resubmit", o.body(route()...), nil)
	refusedWith(t, err, 409, "dossier_not_ended")
	o.sign(d.Dossier, 1, 0, nil)
	o.until(d.Dossier, "open: signed open")
	_, err = o.order(d.Dossier, 2, m{"decision": "return"})
	refusedWith(t, err, 400, "dossier_reason")
	o.sign(d.Dossier, 2, 1, m{"decision": "return", "comment": "附件日期有誤"})
	old := o.until(d.Dossier, "returned: signed returned")
	if old.EndReason != "附件日期有誤" || old.Points[1].SignedBy != o.subs[1] {
		t.Errorf("%+v", old)
	}
	before := o.si(d.Dossier)
	if !bytes.Contains(before, []byte("<異動別>退件</異動別>")) || !bytes.Contains(before, []byte("<異動原因>附件日期有誤</異動原因>")) {
		t.Errorf("%s", before)
	}
	o.xmlsec(before, 2, nil)
	again := o.body(route()...)
	again["reference"] = "測字第9號"
	refusedWith(t, o.api.call("POST", "/api/v1/dossiers/"+d.Dossier+"/resubmit", again, nil), 400, "dossier_invalid")
	var next official
	if err := o.api.call("POST", "/api/v1/dossiers/"+d.Dossier+"/resubmit", o.body(route()...), &next); err != nil {
		t.Fatal(err)
	}
	if next.Revision != 2 || next.Previous != d.Dossier || next.Reference != d.Reference {
		t.Fatalf("%+v", next)
	}
	refusedWith(t, o.api.call("POST", "/api/v1/dossiers/"+d.Dossier+"/resubmit", o.body(route()...), nil), 409, "dossier_exists")
	o.sign(next.Dossier, 1, 0, nil)
	o.until(next.Dossier, "open: signed open")
	o.sign(next.Dossier, 2, 1, nil)
	o.until(next.Dossier, "completed: signed signed")
	o.xmlsec(o.si(next.Dossier), 2, map[string][]byte{"SI-1.xml": before})
}

// A point that is to be signed later lets the flow go on, and keeps the document open.
func TestDossierLater(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 2, nil)
	d := o.submit(o.point(1, "承辦人", 0), o.point(2, "科長", 1))
	later := func(point int, reason string) error {
		return o.api.call("POST", fmt.Sprintf("/api/v1/dossiers/%s/points/%d/later", d.Dossier, point), m{"reason": reason}, nil)
	}
	refusedWith(t, later(1, ""), 400, "dossier_reason")
	refusedWith(t, later(2, "公出"), 409, "dossier_point_state")
	refusedWith(t, later(7, "公出"), 404, "dossier_point_not_found")
	early := must(o.order(d.Dossier, 1, nil))(t) // out while the point is passed
	if err := later(1, "憑證未到"); err != nil {
		t.Fatal(err)
	}
	o.until(d.Dossier, "open: later open")
	o.sign(d.Dossier, 2, 1, nil)
	o.until(d.Dossier, "open: later signed")
	_, err := o.order(d.Dossier, 1, m{"decision": "return", "comment": "x"})
	refusedWith(t, err, 409, "dossier_point_state")
	o.sign(d.Dossier, 1, 0, nil)
	o.until(d.Dossier, "completed: signed signed")
	xml := o.si(d.Dossier)
	if !bytes.Contains(xml, []byte("<異動別>補簽</異動別>")) || !bytes.Contains(xml, []byte("憑證未到")) {
		t.Errorf("%s", xml)
	}
	o.ours(xml, "P2:", "P1:P2")
	o.xmlsec(xml, 2, nil)
	o.approve(early, 0) // signed for nothing
	if got := o.si(d.Dossier); !bytes.Equal(got, xml) {
		t.Error("the record of a completed document was changed")
	}
}

// One point in two orders, both signed: the first gets it.
func TestDossierTakenTwice(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 1, nil)
	d := o.submit(o.point(1, "承辦人", 0), o.point(2, "承辦人", 0))
	first, second := must(o.order(d.Dossier, 1, nil))(t), must(o.order(d.Dossier, 1, nil))(t)
	o.approve(first, 0)
	xml := o.si(o.until(d.Dossier, "open: signed open").Dossier)
	o.approve(second, 0)
	var states map[string]string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		states = map[string]string{}
		for _, one := range o.read(d.Dossier).Orders {
			states[one.Order] = one.State + " " + one.Failure
		}
		if states[second.Order] != "out " {
			break
		}
	}
	if states[first.Order] != "attached " || states[second.Order] != "lost dossier_point_taken" {
		t.Errorf("%v", states)
	}
	if !bytes.Equal(o.si(d.Dossier), xml) {
		t.Error("the second order changed the record")
	}
}

// Whatever of a point's documents is left out, the point stays open; others of
// the same order are signed.
func TestDossierLeftOut(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 1, nil)
	a, b := o.submit(o.point(1, "承辦人", 0)), o.submit(o.point(1, "承辦人", 0))
	body := m{"subject": o.subs[0], "points": []m{{"dossier": a.Dossier, "point": 1}, {"dossier": b.Dossier, "point": 1}}}
	for i, leftOut := range []int{1, 2} { // a file of the first, and the first's own record
		var made restOrder
		if err := o.api.call("POST", "/api/v1/dossier-orders", body, &made); err != nil {
			t.Fatal(err)
		}
		if len(made.Documents) != 6 {
			t.Fatalf("%d documents", len(made.Documents))
		}
		o.approve(&made, 0, softphone.Answer{LeftOut: []int{leftOut}})
		o.until(b.Dossier, "completed: signed")
		o.failed(a.Dossier, 1, "dossier_left_out")
		if i == 0 {
			b = o.submit(o.point(1, "承辦人", 0))
			body["points"].([]m)[1]["dossier"] = b.Dossier
		}
	}
	o.sign(a.Dossier, 1, 0, nil)
	if got := o.until(a.Dossier, "completed: signed"); got.Points[0].Failure != "" {
		t.Errorf("%+v", got.Points[0])
	}
	o.xmlsec(o.si(a.Dossier), 1, nil)
}

// Another client's documents do not exist; another person's point cannot be taken.
func TestDossierOthers(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 2, nil)
	d := o.submit(o.point(1, "承辦人", 0))
	must(o.pool.Exec(o.ctx, `INSERT INTO clients (id, client_id, agency_id, name_zh, name_en, host, token_endpoint_auth_method, secret_mac, return_uris,
	  grant_types, scopes, sector_identifier) SELECT gen_random_uuid(), 'other', agency_id, name_zh, name_en, 'other.example', token_endpoint_auth_method, secret_mac,
	  '{}', grant_types, scopes, sector_identifier FROM clients WHERE client_id = 'demo-agency'`))(t)
	stranger := o.apiOf("other", o.config.Secret)
	path := "/api/v1/dossiers/" + d.Dossier
	for _, call := range []struct {
		method, path string
		body         any
	}{
		{"GET", path, nil}, {"GET", path + "/si", nil}, {"POST", path + "/withdraw", nil}, {"POST", path + "/points/1/order", nil},
		{"POST", path + "/points/1/later", m{"reason": "x"}}, {"POST", path + "/resubmit", o.body(o.point(1, "承辦人", 0))},
		{"GET", path + "/points/1/signature", nil}, {"GET", path + "/points/1/files/1/signature", nil},
		{"POST", "/api/v1/dossier-orders", m{"subject": o.subs[0], "points": []m{{"dossier": d.Dossier, "point": 1}}}},
	} {
		refusedWith(t, stranger.call(call.method, call.path, call.body, nil), 404, "dossier_not_found")
	}
	var list struct{ Dossiers []official }
	if err := stranger.call("GET", "/api/v1/dossiers", nil, &list); err != nil || len(list.Dossiers) != 0 {
		t.Errorf("%v %v", list, err)
	}
	if err := o.api.call("GET", "/api/v1/dossiers?state=open", nil, &list); err != nil || len(list.Dossiers) != 1 { // as a control
		t.Errorf("%v %v", list, err)
	}
	// The order names the signer: another person's phone gets nowhere.
	made := must(o.order(d.Dossier, 1, nil))(t)
	desk := o.browser()
	id := must(desk.Open(o.ctx, made.StartURL))(t)
	phone := o.phone(o.keys[1])
	_, err := phone.Approve(o.ctx, o.scan(t, desk, phone, id))
	if code := softphone.CodeOf(err); code != "order_wrong_citizen" {
		t.Errorf("another person: %v", err)
	}
	o.until(d.Dossier, "open: open")
	if err := o.api.call("POST", path+"/withdraw", m{"reason": "改以紙本"}, nil); err != nil {
		t.Fatal(err)
	}
	_, err = o.order(d.Dossier, 1, nil)
	refusedWith(t, err, 409, "dossier_ended")
	body := o.body(o.point(1, "承辦人", 0))
	body["reference"] = d.Reference
	refusedWith(t, o.api.call("POST", "/api/v1/dossiers", body, nil), 409, "dossier_exists")
	body["reference"], body["level"] = "y", "B-X"
	refusedWith(t, o.api.call("POST", "/api/v1/dossiers", body, nil), 400, "dossier_invalid")
	delete(body, "level")
	body["reference"], body["points"] = "x", []m{o.point(2, "承辦人", 0)}
	refusedWith(t, o.api.call("POST", "/api/v1/dossiers", body, nil), 400, "dossier_invalid")
}

// A node dies between the end of an order and what follows for the document;
// the other one goes on, also with what the dead one had begun.
func TestDossierKilledNode(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 1, nil)
	victim := o.process()
	d := o.submit(o.point(1, "承辦人", 0), o.point(2, "承辦人", 0))
	made := must(o.order(d.Dossier, 1, nil))(t)
	desk := o.browser(victim.address)
	id := must(desk.Open(o.ctx, made.StartURL))(t)
	phone := o.phone(o.keys[0], victim.address)
	claim := o.scan(t, desk, phone, id)
	// Whoever attaches now waits, in the middle of its transaction.
	release := o.hold(t, "LOCK TABLE dossier_signatures IN EXCLUSIVE MODE")
	if _, err := phone.Approve(o.ctx, claim); err != nil {
		t.Fatal(err)
	}
	if got := o.api.completed(t, id); got.State != "completed" {
		t.Fatal(got.State)
	}
	o.blocked(t)
	victim.kill()
	release()
	o.until(d.Dossier, "open: signed open")
	o.sign(d.Dossier, 2, 0, nil)
	o.until(d.Dossier, "completed: signed signed")
	if n := o.count(t, "SELECT count(*) FROM dossier_signatures"); n != 6 {
		t.Errorf("%d signatures", n)
	}
	o.xmlsec(o.si(d.Dossier), 2, nil)
}

// RSA keys; two nodes.
func TestDossierRSA(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 2, map[string]string{"mobile.key_algorithm": "RSA-2048"})
	far := o.process().address
	d := o.submit(o.point(1, "承辦人", 0), o.point(1, "承辦人", 1), o.point(2, "科長", 1))
	first, second := must(o.order(d.Dossier, 1, nil))(t), must(o.order(d.Dossier, 2, nil))(t)
	done := make(chan error, 2)
	for who, made := range []*restOrder{first, second} { // at once, on different nodes
		node := []string{o.node, far}[who]
		desk := o.browser(node)
		id := must(desk.Open(o.ctx, made.StartURL))(t)
		phone := o.phone(o.keys[who], node)
		claim := o.scan(t, desk, phone, id)
		go func() {
			_, err := phone.Approve(o.ctx, claim)
			done <- err
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	o.until(d.Dossier, "open: signed signed open")
	o.sign(d.Dossier, 3, 1, nil)
	o.until(d.Dossier, "completed: signed signed signed")
	xml := o.si(d.Dossier)
	if !bytes.Contains(xml, []byte("rsa-sha256")) {
		t.Error("not RSA")
	}
	o.xmlsec(xml, 3, nil)
}

// A document whose time has run out takes nothing any more, whether or not the
// job has marked it; orders that come to nothing let the point go.
func TestDossierEnds(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 1, nil)
	d := o.submit(o.point(1, "承辦人", 0))
	rejected, left := must(o.order(d.Dossier, 1, nil))(t), must(o.order(d.Dossier, 1, nil))(t)
	desk := o.browser()
	id := must(desk.Open(o.ctx, rejected.StartURL))(t)
	phone := o.phone(o.keys[0])
	if err := phone.Reject(o.ctx, o.scan(t, desk, phone, id), "changed_mind"); err != nil {
		t.Fatal(err)
	}
	o.failed(d.Dossier, 1, "order_rejected")
	must(o.pool.Exec(o.ctx, `UPDATE orders SET expires_at = now() WHERE state = 'created'`))(t)
	o.failed(d.Dossier, 1, "order_expired")
	// Its maker died before the order was made.
	must(o.pool.Exec(o.ctx, `INSERT INTO dossier_claims (order_id, dossier_id, point, decision, citizen_id, deputy, later, made_at, covers, digest, first, document)
	  SELECT gen_random_uuid(), dossier_id, point, decision, citizen_id, deputy, later, now() - interval '2 minutes', covers, digest, first, document FROM dossier_claims LIMIT 1`))(t)
	o.failed(d.Dossier, 1, "dossier_order_ended")
	for _, one := range o.read(d.Dossier).Orders {
		if one.State != "void" {
			t.Errorf("%+v, the other being %s", one, left.Order)
		}
	}
	late := must(o.order(d.Dossier, 1, nil))(t) // approved when it is too late
	must(o.pool.Exec(o.ctx, `UPDATE dossiers SET expires_at = now()`))(t)
	if got := o.read(d.Dossier).State; got != "expired" {
		t.Errorf("state %s", got)
	}
	_, err := o.order(d.Dossier, 1, nil)
	refusedWith(t, err, 409, "dossier_ended")
	xml := o.si(d.Dossier)
	var next official
	if err := o.api.call("POST", "/api/v1/dossiers/"+d.Dossier+"/resubmit", o.body(o.point(1, "承辦人", 0)), &next); err != nil || next.Revision != 2 {
		t.Fatalf("%+v %v", next, err)
	}
	o.approve(late, 0)
	for end := time.Now().Add(20 * time.Second); o.count(t, "SELECT count(*) FROM dossier_claims WHERE state = 'lost' AND failure = 'dossier_ended'") == 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the late signature is not settled")
		}
	}
	if !bytes.Equal(o.si(d.Dossier), xml) {
		t.Error("a late signature was attached")
	}
	if n := o.count(t, "SELECT count(*) FROM audit_entries WHERE act = 'dossier.expired'"); n != 1 {
		t.Errorf("%d entries of the end", n)
	}
}

// A phone whose key is of another kind than was expected: the point stays open
// and says why; nothing wrong gets into the record.
func TestDossierKeyKind(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 1, nil)
	d := o.submit(o.point(1, "承辦人", 0))
	made := must(o.order(d.Dossier, 1, nil))(t)
	must(o.pool.Exec(o.ctx, `UPDATE dossier_claims SET digest = sha256('another algorithm')`))(t)
	xml := o.si(d.Dossier)
	o.approve(made, 0)
	o.failed(d.Dossier, 1, "dossier_key_kind")
	if !bytes.Equal(o.si(d.Dossier), xml) {
		t.Error("the record was changed")
	}
	o.sign(d.Dossier, 1, 0, nil)
	o.until(d.Dossier, "completed: signed")
}

// Many points of many documents with one gesture.
func TestDossierDay(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 1, nil)
	const many = 66 // two files and a point each: 198 documents
	body := m{"subject": o.subs[0], "comment": "如擬"}
	var points []m
	for range many {
		points = append(points, m{"dossier": o.submit(o.point(1, "承辦人", 0), o.point(2, "承辦人", 0)).Dossier, "point": 1})
	}
	body["points"] = append(points, m{"dossier": points[0]["dossier"], "point": 1})
	refusedWith(t, o.api.call("POST", "/api/v1/dossier-orders", body, nil), 400, "dossier_invalid")
	body["points"] = append(points, m{"dossier": o.submit(o.point(1, "承辦人", 0)).Dossier, "point": 1})
	refusedWith(t, o.api.call("POST", "/api/v1/dossier-orders", body, nil), 413, "documents_too_many")
	body["points"] = points
	var made restOrder
	if err := o.api.call("POST", "/api/v1/dossier-orders", body, &made); err != nil {
		t.Fatal(err)
	}
	o.approve(&made, 0)
	began := time.Now()
	for _, p := range points {
		o.until(p["dossier"].(string), "open: signed open")
	}
	t.Logf("%d points of %d documents settled within %v of the signatures", many, len(made.Documents), time.Since(began))
	o.xmlsec(o.si(points[many-1]["dossier"].(string)), 1, nil)
}

// The files' signatures have the document's level. While the time-stamp
// authority is down the order waits, and so does the point.
func TestDossierLevel(t *testing.T) {
	t.Parallel()
	lab := newStampLab(t)
	o := newOffice(t, 1, stampSettings(t, lab.URL+"/tsr name=lab", lab))
	body := o.body(o.point(1, "承辦人", 0))
	body["reference"], body["level"] = "測字第1號", "B-T"
	var d official
	if err := o.api.call("POST", "/api/v1/dossiers", body, &d); err != nil {
		t.Fatal(err)
	}
	lab.mode.Store("down")
	made := must(o.order(d.Dossier, 1, nil))(t)
	desk := o.browser()
	id := must(desk.Open(o.ctx, made.StartURL))(t)
	phone := o.phone(o.keys[0])
	if _, err := phone.Approve(o.ctx, o.scan(t, desk, phone, id)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); o.count(t, "SELECT count(*) FROM orders WHERE wait_reason <> ''") == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not wait")
		}
	}
	if got := o.read(d.Dossier).states(); got != "open: open" {
		t.Error(got)
	}
	lab.mode.Store("good")
	got := o.until(d.Dossier, "completed: signed")
	var p7s []byte
	if err := o.api.call("GET", got.Points[0].Signatures["1"], nil, &p7s); err != nil || levelOf(t, p7s) != cades.LevelT {
		t.Errorf("no time-stamp: %v", err)
	}
	o.xmlsec(o.si(d.Dossier), 1, nil)
}

// What a person's own pages use: their list, an order over it, how it went.
func TestDossierInbox(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 3, nil)
	people := make([]uuid.UUID, 3)
	a := o.submit(o.point(1, "承辦人", 0, m{"deputies": []m{deputy(o.subs[1], -time.Hour, time.Hour), deputy(o.subs[2], time.Hour, 2*time.Hour)}}), o.point(2, "科長", 1))
	b := o.submit(o.point(1, "承辦人", 1))
	for i, sub := range o.subs {
		d := o.submit(o.point(1, "x", i))
		if err := o.pool.QueryRow(o.ctx, `SELECT p.citizen_id FROM dossier_points p JOIN dossiers d ON d.id = p.dossier_id WHERE d.reference = $1`, d.Reference).Scan(&people[i]); err != nil {
			t.Fatal(sub, err)
		}
		if err := o.api.call("POST", "/api/v1/dossiers/"+d.Dossier+"/withdraw", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	service := o.box.Server.Dossiers()
	inbox := func(who int) (out []string) {
		for _, one := range must(service.Inbox(o.ctx, people[who]))(t) {
			out = append(out, fmt.Sprintf("%s/%d deputy %v of %s", one.Dossier.Reference, one.Point.Number, one.Deputy != nil, one.Client.Name["zh-Hant"]))
		}
		return out
	}
	name := must(service.Inbox(o.ctx, people[0]))(t)[0].Client.Name["zh-Hant"]
	for who, want := range [][]string{
		{a.Reference + "/1 deputy false of " + name},
		{a.Reference + "/1 deputy true of " + name, b.Reference + "/1 deputy false of " + name},
		nil, // the deputyship is to come
	} {
		if got := inbox(who); !slices.Equal(got, want) {
			t.Errorf("person %d has %q, want %q", who, got, want)
		}
	}
	id := func(d *official) dossier.ID { return must(dossier.ParseID(d.Dossier))(t) }
	both := []dossier.PointRef{{Dossier: id(a), Point: 1}, {Dossier: id(b), Point: 1}}
	take := func(who int, points []dossier.PointRef) (*order.Order, string, error) {
		return service.Take(o.ctx, dossier.TakeRequest{Citizen: people[who], Points: points})
	}
	refused := o.count(t, "SELECT count(*) FROM audit_entries WHERE act = 'dossier.refused'")
	for _, c := range []struct {
		who    int
		points []dossier.PointRef
		want   error
	}{
		{0, both, dossier.ErrPointNotFound},    // the second is somebody else's
		{2, both[:1], dossier.ErrDeputyPeriod}, // not yet
		{1, []dossier.PointRef{{Dossier: id(a), Point: 2}}, dossier.ErrPointState},
		{1, []dossier.PointRef{{Dossier: id(a), Point: 9}}, dossier.ErrPointNotFound},
		{1, []dossier.PointRef{{}}, dossier.ErrNotFound},
		{1, append(both, both[0]), dossier.ErrInvalid},
	} {
		if _, _, err := take(c.who, c.points); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if n := o.count(t, "SELECT count(*) FROM audit_entries WHERE act = 'dossier.refused'") - refused; n != 6 {
		t.Errorf("%d entries of 6 refusals", n)
	}
	made, token, err := take(1, both)
	if err != nil {
		t.Fatal(err)
	}
	o.approve(&restOrder{StartURL: o.origin + "/start/" + made.ID.String() + "#" + token}, 1)
	o.until(a.Dossier, "open: signed open")
	o.until(b.Dossier, "completed: signed")
	done := must(service.Progress(o.ctx, people[1], made.ID))(t)
	if len(done) != 2 || done[0].State != dossier.ClaimAttached || done[1].Reference != b.Reference {
		t.Errorf("%+v", done)
	}
	if _, err := service.Progress(o.ctx, people[0], made.ID); !errors.Is(err, dossier.ErrNotFound) {
		t.Errorf("somebody else's order: %v", err)
	}
	if signed := must(service.Signed(o.ctx, people[1]))(t); len(signed) != 2 {
		t.Errorf("%d signed", len(signed))
	}
	if got := inbox(1); !slices.Equal(got, []string{a.Reference + "/2 deputy false of " + name}) {
		t.Errorf("afterwards: %q", got)
	}
}
