package enrolment

import "sealgate/internal/console"

// ProofKind says how the person agrees to a binding. It is fixed when the
// binding begins and kept with it (enrolments.proof_kind), and evidence files
// name it (evidence.Kind…). What all kinds have in common: a statement that
// names the new passkey is fixed when the phone has made it, a proof over
// exactly these bytes is checked, and Service.bind writes what follows from it.
// A further kind has a beginning and a completing method of its own, makes an
// agreement, and calls bind.
type ProofKind string

// The kinds.
const (
	ProofCard   ProofKind = "card"   // the citizen's card signs the statement (Begin, Complete)
	ProofDevice ProofKind = "device" // an earlier phone of the same person does (BeginByPhone, CompleteByPhone)
	// two registrars do, who have seen the person (BeginInPerson, CompleteInPerson)
	ProofRegistrar ProofKind = "registrar"
)

// agreement is a proof that was checked.
type agreement struct {
	kind ProofKind
	// card is the citizen certificate behind the binding, found good now.
	card       *card
	cardNumber string
	proof      []byte   // as it is kept: CMS; PhoneProof, or two console.Signed, as JSON
	revocation []byte   // RevocationRecords as JSON
	by         *AddedBy // with ProofDevice
	// confirmed is the second registrar's confirmation, with ProofRegistrar.
	confirmed *console.Confirmation
}
