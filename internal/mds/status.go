package mds

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Status is an AuthenticatorStatus (FIDO Metadata Service v3.0 §3.1.4).
type Status string

// The statuses that decide something here. Others are kept and shown.
const (
	NotCertified             Status = "NOT_FIDO_CERTIFIED"
	Certified                Status = "FIDO_CERTIFIED" // the older word for L1
	Revoked                  Status = "REVOKED"
	UserVerificationBypass   Status = "USER_VERIFICATION_BYPASS"
	AttestationKeyCompromise Status = "ATTESTATION_KEY_COMPROMISE"
	RemoteKeyCompromise      Status = "USER_KEY_REMOTE_COMPROMISE"
	PhysicalKeyCompromise    Status = "USER_KEY_PHYSICAL_COMPROMISE"
)

// Bad says that a model with this status must not be used: it is revoked, or
// something that it protects has come out.
func (s Status) Bad() bool {
	return s == Revoked || s == UserVerificationBypass || strings.HasSuffix(string(s), "_COMPROMISE")
}

// Level is a certification level; higher is better. Zero is none.
type Level int

// levels in rising order; the index is the Level.
var levels = []Status{"", "FIDO_CERTIFIED_L1", "FIDO_CERTIFIED_L1plus", "FIDO_CERTIFIED_L2", "FIDO_CERTIFIED_L2plus",
	"FIDO_CERTIFIED_L3", "FIDO_CERTIFIED_L3plus"}

// LevelNames are the words for a level in configuration, "none" first.
func LevelNames() []string {
	names := []string{"none"}
	for _, s := range levels[1:] {
		names = append(names, string(s))
	}
	return names
}

// ParseLevel reads one of LevelNames; "" is none.
func ParseLevel(word string) (Level, error) {
	if word == "" || word == "none" {
		return 0, nil
	}
	if i := slices.Index(levels, Status(word)); i > 0 {
		return Level(i), nil
	}
	return 0, fmt.Errorf("%q is no certification level; one of %s", word, strings.Join(LevelNames(), ", "))
}

// String is the level's word.
func (l Level) String() string {
	if l <= 0 || int(l) >= len(levels) {
		return "none"
	}
	return string(levels[l])
}

// level says whether a status speaks about certification, and of which level.
func (s Status) level() (Level, bool) {
	switch i := slices.Index(levels, s); {
	case s == Certified:
		return 1, true
	case s == NotCertified:
		return 0, true
	case i > 0:
		return Level(i), true
	}
	return 0, false
}

// Certification is the level in force at a time: that of the newest report
// about certification. A model that was never certified, or is no longer, has none.
func (e *Entry) Certification(now time.Time) Level {
	var best Level
	var since time.Time
	for _, r := range e.Reports {
		l, speaks := r.Status.level()
		if !speaks || r.Effective.After(now) || r.Effective.Before(since) {
			continue
		}
		best, since = l, r.Effective
	}
	return best
}

// Compromised gives the report that forbids the model at a time. Nothing
// that comes later lifts it: whether a phone has had the repair cannot be seen
// from here. chain are the SHA-256 of the attestation certificates an
// authenticator has shown: a report about one certificate touches only those
// that carry it, and those of whom no certificate is known.
func (e *Entry) Compromised(now time.Time, chain [][32]byte) (Report, bool) {
	for _, r := range e.Reports {
		if !r.Status.Bad() || r.Effective.After(now) {
			continue
		}
		if r.Certificate == ([32]byte{}) || len(chain) == 0 || slices.Contains(chain, r.Certificate) {
			return r, true
		}
	}
	return Report{}, false
}

// Statuses lists the status words of a time, each once, oldest report first.
func (e *Entry) Statuses(now time.Time) []string {
	var all []string
	for _, r := range e.Reports {
		if !r.Effective.After(now) && !slices.Contains(all, string(r.Status)) {
			all = append(all, string(r.Status))
		}
	}
	return all
}
