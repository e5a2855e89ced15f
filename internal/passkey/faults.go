package passkey

import "sealgate/internal/fault"

// The faults of this package, to be compared with errors.Is. Their causes name
// the failed step of the ceremony in our own words; neither the expected
// challenge nor the library's developer texts are ever in them.
var (
	// ErrMalformed: the response cannot be read, or breaks a rule of form.
	ErrMalformed = fault.New(fault.Invalid, "passkey_malformed")
	// ErrTooLarge: the same code, for a response over MaxResponse.
	ErrTooLarge = fault.New(fault.TooLarge, "passkey_malformed")
	// ErrChallenge: the answer is to another challenge.
	ErrChallenge = fault.New(fault.Unprocessable, "passkey_challenge")
	// ErrOrigin: the answer was made on another page, or in a frame.
	ErrOrigin = fault.New(fault.Unprocessable, "passkey_origin")
	// ErrRPID: the authenticator signed for another relying party.
	ErrRPID = fault.New(fault.Unprocessable, "passkey_rpid")
	// ErrUserVerification: no fingerprint, face or PIN was used.
	ErrUserVerification = fault.New(fault.Unprocessable, "passkey_user_verification")
	// ErrUserPresence: nobody touched the authenticator.
	ErrUserPresence = fault.New(fault.Unprocessable, "passkey_user_presence")
	// ErrSignature: the signature is not by the stored key over this answer.
	ErrSignature = fault.New(fault.Unprocessable, "passkey_signature")
	// ErrCounter: the signature is right but the counter did not grow: the key
	// may have been copied. The caller suspends the device.
	ErrCounter = fault.New(fault.Unprocessable, "passkey_counter")
	// ErrOvertaken: the signature is right and the counter did not grow, but the
	// authenticator's own later answer came first. The caller refuses only this
	// answer (Assertion.Overtaken).
	ErrOvertaken = fault.New(fault.Conflict, "passkey_overtaken")
	// ErrBackupChanged: the signature is right but the backup flags cannot be.
	ErrBackupChanged = fault.New(fault.Unprocessable, "passkey_backup_changed")
	// ErrKeyUnsupported: the credential key is of another algorithm, weak or no key at all.
	ErrKeyUnsupported = fault.New(fault.Unprocessable, "passkey_key_unsupported")
	// ErrAttestation: the attestation statement is wrong, or less than the policy asks.
	ErrAttestation = fault.New(fault.Unprocessable, "passkey_attestation")
	// ErrModelCompromised: the metadata say that this model must not be used any more.
	ErrModelCompromised = fault.New(fault.Unprocessable, "passkey_model_compromised")
	// ErrModelRefused: the model is denied or not certified enough.
	ErrModelRefused = fault.New(fault.Unprocessable, "passkey_model_refused")
	// ErrSynced: the passkey would be copied between devices, and that is refused.
	ErrSynced = fault.New(fault.Unprocessable, "passkey_synced")
	// ErrAttachment: a security key where a phone is asked for, or the other way round.
	ErrAttachment = fault.New(fault.Unprocessable, "passkey_attachment")
	// ErrMetadataStale: the metadata are too old to bind new phones by them.
	ErrMetadataStale = fault.New(fault.Unavailable, "passkey_metadata_stale")
	// ErrUnknownCredential: the answer is by another credential than the one given.
	ErrUnknownCredential = fault.New(fault.Unprocessable, "passkey_unknown_credential")
	// ErrUserMismatch: the credential belongs to another user.
	ErrUserMismatch = fault.New(fault.Unprocessable, "passkey_user_mismatch")
)
