package evidence

import (
	"slices"
	"time"
)

// Status is the outcome of one link, or of all.
type Status string

// The outcomes.
const (
	Passed        Status = "passed"
	Failed        Status = "failed"
	Indeterminate Status = "indeterminate" // something that is needed was not given
)

// The links of the chain, in its order.
const (
	LinkForm         = "form"                    // the file is a bundle, and whole
	LinkCardChain    = "card-chain"              // the citizen certificate leads to an anchor, at that time
	LinkRevocation   = "card-revocation"         // nobody in that path was revoked, by kept answers
	LinkStatement    = "card-statement"          // the card signed a statement naming this credential
	LinkRegistration = "credential-registration" // the credential was made by a passkey registration for this relying party
	LinkDeviceProof  = "device-statement"        // an earlier phone signed a statement naming this credential
	LinkRegistrars   = "registrars-statement"    // two accepted registrars signed a statement naming this credential; the card did not
	LinkApproval     = "device-approval"         // the credential signed, with user verification
	LinkContent      = "content"                 // what it signed is this content
	LinkDocuments    = "documents"               // the content names these documents
	LinkMobile       = "mobile-certificate"      // the signing certificate leads to a service anchor and names the same person
	LinkSignatures   = "signatures"              // its key signed each document that was not left out
)

// AddedBy goes before the names of the links of the phone that added this one,
// once more for each further phone.
const AddedBy = "added-by/"

// Link is one step of the chain.
type Link struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Reason says in English what was found. It names no person.
	Reason string `json:"reason"`
}

// Report is what Verify found.
type Report struct {
	Verdict Status `json:"verdict"`
	Order   string `json:"order,omitempty"` // as in the content
	Kind    string `json:"kind,omitempty"`
	// BoundAt is the time of the card's statement, for which its chain was
	// judged unless Options.At says otherwise.
	BoundAt time.Time `json:"bound_at,omitzero"`
	Anchor  string    `json:"anchor,omitempty"` // SHA-256 of the card's anchor, hex
	Links   []Link    `json:"links"`
}

func (r *Report) add(name string, status Status, reason string) {
	r.Links = append(r.Links, Link{name, status, reason})
}

// judge adds a link that passed unless err says otherwise.
func (r *Report) judge(name, reason string, err error) {
	switch e := err.(type) {
	case nil:
		r.add(name, Passed, reason)
	case missing:
		r.add(name, Indeterminate, string(e))
	default:
		r.add(name, Failed, err.Error())
	}
}

// missing is an error that says what was not given.
type missing string

func (m missing) Error() string { return string(m) }

// Broken names the links that did not pass.
func (r *Report) Broken() []string {
	var names []string
	for _, l := range r.Links {
		if l.Status != Passed {
			names = append(names, l.Name)
		}
	}
	return names
}

// finish sets the verdict: failed if a link is, passed if all are.
func (r *Report) finish() *Report {
	has := func(s Status) bool { return slices.ContainsFunc(r.Links, func(l Link) bool { return l.Status == s }) }
	switch {
	case has(Failed):
		r.Verdict = Failed
	case has(Indeterminate):
		r.Verdict = Indeterminate
	default:
		r.Verdict = Passed
	}
	return r
}
