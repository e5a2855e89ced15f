package sigverify

import (
	"bytes"
	"testing"
	"time"

	"sealgate/internal/certpath"
)

// However often certificates are judged, the answers read for them are bounded,
// and the newest come first: what was asked for now outweighs what came along.
func TestPoolIsBounded(t *testing.T) {
	p := &pool{seen: map[Object]bool{}, work: 1000}
	for i := range 100 {
		p.add(FromSignature, certpath.StoredEvidence{Raw: bytes.Repeat([]byte{byte(i)}, 10)})
	}
	p.add(FromOnline, certpath.StoredEvidence{Raw: []byte("online")}, certpath.StoredEvidence{Raw: []byte("online")})
	if len(p.pieces) != 101 {
		t.Errorf("%d pieces", len(p.pieces))
	}
	got := p.choose(nil)
	if len(got) != maxEvidence || string(got[0].Raw) != "online" || p.from(ObjectOf(got[0].Raw)) != FromOnline {
		t.Errorf("%d answers, the first %q", len(got), got[0].Raw)
	}
	if got = p.choose([]Object{ObjectOf([]byte("online"))}); len(got) == 0 || string(got[0].Raw) == "online" {
		t.Errorf("%d answers", len(got))
	}
	for range 3 {
		p.choose(nil)
	}
	if len(p.choose(nil)) != 0 || p.work < 0 {
		t.Errorf("work left: %d", p.work)
	}
}

func TestExistence(t *testing.T) {
	now := time.Now()
	e := &existence{now: now, at: map[Object]time.Time{}}
	o := ObjectOf([]byte("a"))
	e.prove(o, now.Add(time.Hour)) // a proof from the future proves nothing
	if !e.of(o).Equal(now) {
		t.Error(e.of(o))
	}
	e.prove(o, now.Add(-time.Hour))
	e.prove(o, now.Add(-time.Minute))
	if !e.of(o).Equal(now.Add(-time.Hour)) || !e.of(ObjectOf([]byte("b"))).Equal(now) {
		t.Error(e.of(o))
	}
}
