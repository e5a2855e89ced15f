// Package sigverify judges digital signatures, ours and anybody's, by the model
// of ETSI EN 319 102-1: TOTAL-PASSED, TOTAL-FAILED or INDETERMINATE, why, for
// what time, by whom, over what, on which trust anchor and revocation data.
//
//	v, err := sigverify.New(sigverify.Config{Signers: validator})
//	need, err := sigverify.Needs(p7s)                       // which digests to make
//	report, err := v.Verify(ctx, sigverify.Request{Signature: p7s,
//		Content: sigverify.Content{Digests: digests}})  // the file stays where it is
//	simple := report.Simple(texts, i18n.ZhHant)             // a sentence for people
//
// A format's own reader finds signatures and checks hash and value (Found); one
// judge, the same for all formats, decides about time, certificate and
// algorithms. CMS is built in; others come in as Containers.
//
// Time is the core. Everything is known to exist at the time of validation.
// Time-stamps that hold prove that what they cover existed earlier; they are
// judged from the newest to the oldest, each for the time at which itself is
// proven to have existed, and the signing certificate is judged for the earliest
// time proven of the signature (past signature validation, EN 319 102-1 §5.6).
// What the signer claims proves nothing.
//
// Differences from the letter of the standard: hash and signature value are
// always checked and their failure is told first, so that a changed document is
// never reported as a missing certificate; and a signature over no attributes is
// judged only where the whole content was seen (see CheckAttributes).
package sigverify
