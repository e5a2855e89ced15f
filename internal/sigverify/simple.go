package sigverify

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sealgate/internal/i18n"
)

// Outlook is the verdict in the words of people.
type Outlook string

// The outlooks. Empty is a file without a signature.
const (
	Valid   Outlook = "valid"
	Invalid Outlook = "invalid"
	Cannot  Outlook = "unknown" // cannot be told yet
	None    Outlook = "none"    // there is no signature
)

// Outlook translates the indication.
func (r *Report) Outlook() Outlook {
	if r.SubIndication == NoSignature {
		return None
	}
	return outlook(r.Indication)
}

func outlook(i Indication) Outlook {
	switch i {
	case TotalPassed:
		return Valid
	case TotalFailed:
		return Invalid
	}
	return Cannot
}

// Simple is the report for people, in one language: a word, a sentence, what to
// do, and the same for each signature.
type Simple struct {
	Lang       i18n.Lang         `json:"lang"`
	Outlook    Outlook           `json:"outlook"`
	Title      string            `json:"title"`
	Sentence   string            `json:"sentence"`
	Next       string            `json:"next"`
	Facts      []Fact            `json:"facts"`
	Signatures []SimpleSignature `json:"signatures"`
}

// SimpleSignature is one signature in the simple report.
type SimpleSignature struct {
	Outlook  Outlook `json:"outlook"`
	Title    string  `json:"title"`
	Sentence string  `json:"sentence"`
	Next     string  `json:"next"`
	Facts    []Fact  `json:"facts"`
}

// Fact is a line below the sentence.
type Fact struct {
	Key   string `json:"key"`
	Label string `json:"label"`
	Value string `json:"value"`
}

// words are a catalogue in one language.
type words struct {
	c    *i18n.Catalogue
	lang i18n.Lang
}

func (w words) t(key string, params ...string) string { return w.c.T(w.lang, "verify."+key, params...) }

func (w words) time(t time.Time) string { return i18n.DateTime(w.lang, t) }

// Simple renders the report for people.
func (r *Report) Simple(c *i18n.Catalogue, lang i18n.Lang) Simple {
	w := words{c, lang}
	s := Simple{Lang: lang, Outlook: r.Outlook(), Facts: []Fact{}, Signatures: []SimpleSignature{}}
	for _, sig := range r.Signatures {
		s.Signatures = append(s.Signatures, sig.simple(w))
	}
	s.Title = w.t("title." + string(s.Outlook))
	switch first := r.worstSignature(); {
	case first == nil:
		s.Sentence = begin(w.t("why."+key(r.SubIndication), "who", w.t("who.unknown"), "what", w.t("what.detached")))
		s.Next = w.t("next." + key(r.SubIndication))
	case len(r.Signatures) == 1:
		s.Sentence, s.Next, s.Facts = first.sentence(w), first.next(w), first.facts(w)
	case r.Indication == TotalPassed:
		s.Sentence, s.Next = w.t("all_valid", "n", strconv.Itoa(len(r.Signatures))), w.t("next.passed")
	default:
		s.Sentence = w.t("some_not", "n", strconv.Itoa(len(r.Signatures)), "which", strconv.Itoa(first.Index+1)) + " " + first.sentence(w)
		s.Next = first.next(w)
	}
	s.Facts = append(s.Facts, Fact{"validation_time", w.t("fact.validation_time"), w.time(r.ValidationTime)})
	for _, c := range r.Checks {
		if c.Name == CheckEvidence && c.Outcome != Skipped {
			s.Facts = append(s.Facts, Fact{"evidence", w.t("fact.evidence"), w.t("evidence." + string(c.Outcome))})
		}
	}
	return s
}

// worstSignature is the one that the whole outcome comes from.
func (r *Report) worstSignature() *Signature {
	for i := range r.Signatures {
		if r.Signatures[i].SubIndication == r.SubIndication {
			return &r.Signatures[i]
		}
	}
	return nil
}

// key is a sub-indication in the catalogue's keys.
func key(s SubIndication) string {
	if s == "" {
		return "passed"
	}
	return strings.ToLower(string(s))
}

func (s *Signature) simple(w words) SimpleSignature {
	o := outlook(s.Indication)
	return SimpleSignature{Outlook: o, Title: w.t("title." + string(o)), Sentence: s.sentence(w), Next: s.next(w), Facts: s.facts(w)}
}

// begin writes the first letter of a sentence large; a name may come first.
func begin(text string) string {
	r, n := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(r)) + text[n:]
}

// sentence says valid or not, for what time, by whom, of what.
func (s *Signature) sentence(w words) string {
	who, what := s.who(w), w.t("what."+string(s.Scope.Kind))
	if s.Indication != TotalPassed {
		return begin(w.t("why."+key(s.SubIndication), "who", who, "what", what))
	}
	switch {
	case !s.ProvenTime.IsZero():
		return w.t("passed_proven", "who", who, "what", what, "time", w.time(s.ProvenTime))
	case !s.ClaimedTime.IsZero():
		return w.t("passed_claimed", "who", who, "what", what, "time", w.time(s.ClaimedTime))
	}
	return w.t("passed_untimed", "who", who, "what", what)
}

func (s *Signature) next(w words) string { return w.t("next." + key(s.SubIndication)) }

// who names the signer; what the certificate does not say is left out.
func (s *Signature) who(w words) string {
	if s.Signer == nil {
		return w.t("who.unknown")
	}
	name := s.Signer.Name
	if name == "" {
		name = s.Signer.Organization
	}
	if name == "" {
		name = w.t("who.unnamed")
	}
	if s.Signer.Organization != "" && s.Signer.Organization != name {
		name = w.t("who.of", "name", name, "organization", s.Signer.Organization)
	}
	if s.Signer.IDLast4 != "" {
		name = w.t("who.id", "name", name, "last4", s.Signer.IDLast4)
	}
	return name
}

func (s *Signature) facts(w words) []Fact {
	var out []Fact
	add := func(key, value string) {
		if value != "" {
			out = append(out, Fact{key, w.t("fact." + key), value})
		}
	}
	if s.Signer != nil {
		add("signer", s.who(w))
		add("signer_kind", w.t("kind."+s.Signer.Kind))
		add("issuer", s.Signer.Issuer)
	}
	if !s.ProvenTime.IsZero() {
		add("proven_time", w.time(s.ProvenTime))
	}
	for _, p := range s.Proofs {
		if !p.NotBefore {
			add("proof", w.t("proof."+p.Source, "time", w.time(p.Time)))
			break
		}
	}
	if !s.ClaimedTime.IsZero() {
		add("claimed_time", w.time(s.ClaimedTime))
	}
	add("scope", w.t("what."+string(s.Scope.Kind)))
	if !s.Scope.Whole {
		add("coverage", w.t("partial"))
	}
	if s.Level != "" {
		add("level", w.t("level."+s.Level))
	}
	if n := len(s.Chain); n > 0 && s.Chain[n-1].Anchor {
		add("anchor", s.Chain[n-1].Subject)
	}
	if len(s.Revocation) > 0 {
		add("revocation", w.t("revocation."+s.Revocation[0].From, "time", w.time(s.Revocation[0].ThisUpdate)))
	}
	return out
}
