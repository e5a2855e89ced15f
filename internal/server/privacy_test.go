package server_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/cmd/sealctl/softcard"
	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/postgres"
)

// certificateColumns hold X.509 certificates, or CMS with certificates inside.
// A certificate says the holder's name and the last four digits of the national
// ID in clear: evidence would be none without it. The whole ID is in none of them.
var certificateColumns = map[string]bool{
	"citizen_certificates.der": true, "enrolments.certificate": true, "enrolments.proof": true,
	"mobile_certificates.der": true, "signatures.der": true,
}

// partition is the end of a partition's name.
var partition = regexp.MustCompile(`_p[0-9]{8}$|_default$`)

// secret is a value that must stay where it belongs.
type secret struct {
	what, value string
	certificate bool   // certificates may say it
	home        string // the table it belongs to; "" for none
}

// spellings are the forms in which a value could have got somewhere.
func (s secret) spellings() []string {
	raw := []byte(s.value)
	return []string{s.value, strings.ToLower(s.value), hex.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
		base64.RawURLEncoding.EncodeToString(raw), strings.Trim(fmt.Sprintf("%+q", s.value), `"`)}
}

func (s secret) in(text string) bool {
	for _, spelling := range s.spellings() {
		if strings.Contains(text, spelling) {
			return true
		}
	}
	return false
}

// everything reads every text, bytea, json and array column of every table, as
// "table.column" to the values, byte strings as they are.
func (w *world) everything(t testing.TB) map[string]string {
	t.Helper()
	rows, err := w.pool.Query(w.ctx, `SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c
		JOIN information_schema.tables t USING (table_schema, table_name)
		WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'
		AND c.data_type IN ('text', 'character varying', 'bytea', 'jsonb', 'json', 'ARRAY', 'inet')`)
	if err != nil {
		t.Fatal(err)
	}
	type column struct{ table, name, kind string }
	var columns []column
	for rows.Next() {
		var c column
		if err := rows.Scan(&c.table, &c.name, &c.kind); err != nil {
			t.Fatal(err)
		}
		columns = append(columns, c)
	}
	out := map[string]string{}
	for _, c := range columns {
		value := fmt.Sprintf("convert_to(%q::text, 'UTF8')", c.name)
		if c.kind == "bytea" {
			value = fmt.Sprintf("%q", c.name)
		}
		var all []byte
		query := fmt.Sprintf(`SELECT coalesce(string_agg(%s, '\x0a'::bytea), ''::bytea) FROM %q WHERE %q IS NOT NULL`, value, c.table, c.name)
		if err := w.pool.QueryRow(w.ctx, query).Scan(&all); err != nil {
			t.Fatalf("%s.%s: %v", c.table, c.name, err)
		}
		out[partition.ReplaceAllString(c.table, "")+"."+c.name] += string(all)
	}
	return out
}

// walkOfTrouble is the main road with what goes wrong on it.
func (w *world) walkOfTrouble(t testing.TB) (secrets []secret) {
	t.Helper()
	holder, other := w.cards[0], w.cards[1]
	wrong := w.enrolment(0)
	wrong.Card = softphone.Card{Component: w.reader, Number: holder.Number, PIN: "87654321"}
	if _, err := wrong.Run(w.ctx); err == nil {
		t.Fatal("bound with a wrong PIN")
	}
	mistaken := w.enrolment(0)
	mistaken.NationalID = other.NationalID
	if _, err := mistaken.Run(w.ctx); err == nil {
		t.Fatal("bound with another's ID")
	}
	for _, bad := range []softcard.State{softcard.Expired, softcard.Revoked} {
		for i, c := range w.cards {
			if c.State == bad {
				e := w.enrolment(i)
				if _, err := e.Run(w.ctx); err == nil {
					t.Fatalf("bound with a card that is %s", bad)
				}
			}
		}
	}
	phone := w.enrol(0)
	rp := w.relyingParty("profile", "national_id")
	a, desk := rp.begin(), w.browser()
	id := w.approved(t, a, desk, phone)
	back := must(desk.Return(w.ctx, id))(t)
	code := must(a.code(back))(t)
	who := must(a.redeem(code))(t)
	if who.NationalID != holder.NationalID || who.Name != holder.Name {
		t.Fatal("control: the client with the scopes is not told")
	}
	if _, err := a.redeem(code); err == nil {
		t.Fatal("a code was used twice")
	}
	idToken, _ := who.token.Extra("id_token").(string)
	again, desk := rp.begin(), w.browser()
	id = must(desk.Follow(w.ctx, again.url))(t)
	claim := w.scan(t, desk, phone, id)
	if err := phone.Reject(w.ctx, claim, "not_me"); err != nil {
		t.Fatal(err)
	}
	client := w.api()
	o := must(client.create(map[string]any{"text": "請簽核", "documents": []any{document("一.pdf", []byte("x"))}}))(t)
	desk = w.browser()
	id = must(desk.Open(w.ctx, o.StartURL))(t)
	if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, id), softphone.Answer{}); err != nil {
		t.Fatal(err)
	}
	client.completed(t, id)
	// Requests that make errors, with personal values where none belong.
	for _, path := range []string{"/o/" + holder.NationalID, "/q/" + holder.NationalID, "/nowhere?id=" + holder.NationalID} {
		_, _ = w.browser().Get(w.ctx, path)
	}
	body := map[string]any{"national_id": holder.NationalID, "certificate": "!", "component_version": "1", "card_number": holder.NationalID}
	if req, err := jsonRequest(w.ctx, http.MethodPost, w.origin+"/enrol/card", body); err == nil {
		_ = answer(http.DefaultClient, req, nil)
	}
	master := must(os.ReadFile(filepath.Join(w.config.Dir, "master.key")))(t)
	return []secret{
		{what: "national ID", value: holder.NationalID, certificate: false}, {what: "another's national ID", value: other.NationalID, certificate: false},
		{what: "name", value: holder.Name, certificate: true}, {what: "PIN", value: holder.PIN, certificate: false}, {what: "wrong PIN", value: "87654321", certificate: false},
		{what: "client secret", value: w.config.Secret, certificate: false}, {what: "access token", value: who.token.AccessToken, certificate: false}, {what: "ID token", value: idToken, certificate: false},
		{what: "authorization code", value: code, certificate: false}, {what: "claim token", value: claim.Token, certificate: false}, {what: "PKCE verifier", value: a.verifier, certificate: false},
		{what: "master key", value: strings.TrimSpace(string(master)), certificate: false},
	}
}

// Nothing personal and no secret reaches a log, the metrics, or a column that
// is not made for it; with the log at its finest.
func TestNothingPersonalLeaks(t *testing.T) {
	t.Parallel()
	metrics := freeAddress(t)
	w := newWorld(t, map[string]string{"log.level": "debug", "metrics.listen": metrics})
	w.databaseLogsNoValues(t)
	secrets := w.walkOfTrouble(t)
	for _, column := range []string{"signature", "client_data_json"} {
		var value []byte
		if err := w.pool.QueryRow(w.ctx, `SELECT `+column+` FROM approvals LIMIT 1`).Scan(&value); err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret{what: "assertion's " + column, value: string(value), home: "approvals"})
	}
	places := w.everything(t)
	if len(places) < 100 {
		t.Fatalf("only %d columns were read", len(places))
	}
	page := must(http.Get("http://" + metrics + "/metrics"))(t)
	defer page.Body.Close()
	text := new(strings.Builder)
	if _, err := fmt.Fprint(text, readAll(t, page)); err != nil || !strings.Contains(text.String(), "sealgate_") {
		t.Fatal("control: no metrics")
	}
	places["the metrics page"] = text.String()
	places["the server's log"] = w.log.String()
	if len(w.log.String()) < 1000 {
		t.Fatal("control: hardly any log")
	}
	for place, text := range places {
		for _, s := range secrets {
			if s.certificate && certificateColumns[place] || s.home != "" && strings.HasPrefix(place, s.home+".") {
				continue
			}
			if s.in(text) {
				t.Errorf("%s: the %s is there in clear", place, s.what)
			}
		}
	}
	// Controls: the scan finds what is there.
	name := secret{what: "name", value: w.cards[0].Name, certificate: true}
	for place := range certificateColumns {
		if !name.in(places[place]) {
			t.Errorf("control: %s should hold a certificate with the name", place)
		}
	}
	if !(secret{what: "file", value: "一.pdf", certificate: false}).in(places["orders.content"]) {
		t.Error("control: the document's name is not found in orders' contents")
	}
}

// Postgres writes no statement with its values into its own log, also when one
// fails: values travel apart from the statement.
func (w *world) databaseLogsNoValues(t testing.TB) {
	t.Helper()
	for name, want := range map[string]string{"log_statement": "none", "log_parameter_max_length_on_error": "0", "log_min_duration_statement": "-1"} {
		var got string
		if err := w.pool.QueryRow(w.ctx, `SELECT current_setting($1)`, name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
}

// tracer notes the statements of a pool.
type tracer struct{ statements []string }

func (r *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	r.statements = append(r.statements, q.SQL)
	return ctx
}

func (r *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A national ID that is known and one that is not are looked up by the same
// statements: what the database is asked tells nobody which it was.
func TestLookUpHasOneShape(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.enrol(0)
	cfg := must(postgres.Configure(w.config.URL))(t)
	seen := &tracer{}
	cfg.ConnConfig.Tracer = seen
	cfg.MaxConns = 1
	pool := must(pgxpool.NewWithConfig(w.ctx, cfg))(t)
	defer pool.Close()
	var mac []byte
	var serial string
	if err := w.pool.QueryRow(w.ctx, `SELECT national_id_mac, subject_serial FROM citizens`).Scan(&mac, &serial); err != nil {
		t.Fatal(err)
	}
	store := postgres.New(pool).Enrolments()
	ask := func(mac []byte, serial string) (known bool, statements string) {
		seen.statements = nil
		st := must(store.Standing(w.ctx, mac, serial))(t)
		return st.Known, strings.Join(seen.statements, "\n")
	}
	_, _ = ask(mac, serial) // the connection's own first statements
	known, first := ask(mac, serial)
	unknown, second := ask(make([]byte, 32), "0000000000000000")
	if !known || unknown {
		t.Fatal("control: the citizen is not found, or a stranger is")
	}
	if first == "" || first != second {
		t.Errorf("known:\n%s\nunknown:\n%s", first, second)
	}
}

func readAll(t testing.TB, res *http.Response) string {
	t.Helper()
	raw := new(strings.Builder)
	buf := make([]byte, 64<<10)
	for {
		n, err := res.Body.Read(buf)
		raw.Write(buf[:n])
		if err != nil {
			return raw.String()
		}
	}
}
