package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"sealgate/cmd/sealctl/softphone"
)

// snapshot is a number for the whole content of each table, the audit log apart.
type snapshot map[string]string

// snapshot reads every table of the database in one statement.
func (w *world) snapshot(t testing.TB) snapshot {
	t.Helper()
	rows, err := w.pool.Query(w.ctx, `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
		AND relkind IN ('r', 'p') AND NOT relispartition AND relname NOT IN ('audit_entries', 'goose_db_version')`)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	var name string
	for rows.Next() {
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, fmt.Sprintf(`SELECT '%[1]s', count(*) || '/' || coalesce(sum(hashtextextended(x::text, 0)::numeric), 0) FROM %[1]s x`, name))
	}
	rows.Close()
	if len(parts) < 10 {
		t.Fatalf("only %d tables", len(parts))
	}
	out := snapshot{}
	rows, err = w.pool.Query(w.ctx, strings.Join(parts, " UNION ALL "))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var print string
		if err := rows.Scan(&name, &print); err != nil {
			t.Fatal(err)
		}
		out[name] = print
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// changed lists the tables that differ.
func (s snapshot) changed(after snapshot) []string {
	var out []string
	for table, print := range after {
		if s[table] != print {
			out = append(out, fmt.Sprintf("%s (%s, was %s)", table, print, s[table]))
		}
	}
	slices.Sort(out)
	return out
}

// auditRow is what tests look at of an audit entry.
type auditRow struct{ Act, Result, Code string }

// audit lists the entries since a mark, oldest first. The mark is a number of entries.
func (w *world) audit(t testing.TB, since int) []auditRow {
	t.Helper()
	rows, err := w.pool.Query(w.ctx, `SELECT act, result, coalesce(detail->>'code', '') FROM audit_entries ORDER BY id OFFSET $1`, since)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []auditRow
	for rows.Next() {
		var r auditRow
		if err := rows.Scan(&r.Act, &r.Result, &r.Code); err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// refused says that an attempt is refused with this code, that exactly one
// audit entry says so, and that nothing else in the database has changed. The
// entry's code may differ from the one that the caller is told: unknown and
// wrong are told apart in the log alone.
func (w *world) refused(t testing.TB, code string, attempt func() error, logged ...string) {
	t.Helper()
	before, mark := w.snapshot(t), len(w.audit(t, 0))
	err := attempt()
	if got := refusalCode(err); got != code {
		t.Errorf("refused with %q (%v), want %q", got, err, code)
	}
	if changed := before.changed(w.snapshot(t)); len(changed) > 0 {
		t.Errorf("%s: a refusal changed %s", code, strings.Join(changed, ", "))
	}
	if len(logged) == 0 {
		logged = []string{code}
	}
	entries := w.audit(t, mark)
	if len(entries) != 1 || entries[0].Result != "refused" || entries[0].Code != logged[0] {
		t.Errorf("%s: audit entries %v, want one refusal with %q", code, entries, logged[0])
	}
}

// silent says that an attempt is refused with this code and that nothing
// changed, the audit log included: looking at something is no act.
func (w *world) silent(t testing.TB, code string, attempt func() error) {
	t.Helper()
	before, mark := w.snapshot(t), len(w.audit(t, 0))
	err := attempt()
	if got := refusalCode(err); got != code {
		t.Errorf("refused with %q (%v), want %q", got, err, code)
	}
	if changed := before.changed(w.snapshot(t)); len(changed) > 0 {
		t.Errorf("%s: a refusal changed %s", code, strings.Join(changed, ", "))
	}
	if entries := w.audit(t, mark); len(entries) > 0 {
		t.Errorf("%s: audit entries %v, want none", code, entries)
	}
}

// codeError is a refusal of which only the code is known.
type codeError struct{ code string }

func (e *codeError) Error() string { return e.code }

// refusalCode is the stable code of a refusal: of a problem, or of an OAuth error.
func refusalCode(err error) string {
	if code := softphone.CodeOf(err); code != "" {
		return code
	}
	var plain *codeError
	if errors.As(err, &plain) {
		return plain.code
	}
	var retrieve *oauth2.RetrieveError
	if errors.As(err, &retrieve) {
		code, _, _ := strings.Cut(retrieve.ErrorDescription, ":")
		return code
	}
	return ""
}

// quiet waits until the database's other connections are idle.
func (w *world) quiet(t testing.TB) {
	t.Helper()
	for range 500 {
		if w.count(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'`) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the database does not come to rest")
}

// oidcClient lets the OAuth libraries reach a certain node.
func oidcClient(ctx context.Context, node string) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: through(node), Timeout: time.Minute})
}

// browserLike is the same browser, cookies and all, at the node of this process.
func (w *world) browserLike(t testing.TB, old *softphone.Browser) *softphone.Browser {
	t.Helper()
	b := w.browser()
	u, err := url.Parse(w.origin)
	if err != nil {
		t.Fatal(err)
	}
	b.Client().Jar.SetCookies(u, old.Client().Jar.Cookies(u))
	return b
}
