// Package audit has the words of the audit log: one Entry a security-relevant
// act, written in the same transaction as the act (or alone, for a refusal).
//
// An entry says who did what to which order, citizen and device, when, from
// where, and with which result. It holds no personal data: people appear as
// our own identifiers, and Detail takes only short values under the fixed
// keys of this package. Names, national IDs, assertions and secrets have no
// place here.
package audit

import (
	"context"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Result says how an act ended.
type Result string

// The results.
const (
	OK      Result = "ok"      // the act took effect
	Refused Result = "refused" // the act was not allowed and changed nothing
	Failed  Result = "failed"  // the act was allowed and could not be carried out
)

// ActorKind says what kind of party acted; Entry.Actor then names it.
type ActorKind string

// The kinds of actors.
const (
	ActorCitizen  ActorKind = "citizen"  // a person with a bound phone; Actor is the citizen's id
	ActorClient   ActorKind = "client"   // an agency's system; Actor is its client_id
	ActorBrowser  ActorKind = "browser"  // a browser nobody has identified yet; Actor is empty
	ActorOperator ActorKind = "operator" // somebody who runs this service
	ActorSystem   ActorKind = "system"   // the service itself: jobs, first start
)

// Key is a name that Detail may use. Only the constants below exist, so that
// nobody invents a place for personal data.
type Key string

// The keys of Detail.
const (
	KeyCode        Key = "code"         // stable fault code of a refusal
	KeyReason      Key = "reason"       // reason as a fixed word: not_me, changed_mind, key_destroyed…
	KeyKind        Key = "kind"         // order kind: login, sign, enrol
	KeySource      Key = "source"       // how the phone got the order: scanner, link, same_device…
	KeyACR         Key = "acr"          // authentication context class reached
	KeyDocument    Key = "document"     // place of one document in the order, from 0
	KeyDocuments   Key = "documents"    // number of documents in the order
	KeySigned      Key = "signed"       // number of documents signed
	KeyFailed      Key = "failed"       // number of documents that could not be signed
	KeyLeftOut     Key = "left_out"     // number of documents the citizen left out
	KeySerial      Key = "serial"       // certificate serial number, lower-case hex
	KeyAuthority   Key = "authority"    // name of one of our own authorities: root, issuing, ocsp, tsa
	KeyPurpose     Key = "purpose"      // what a key is for
	KeyAlgorithm   Key = "algorithm"    // key or digest algorithm
	KeyKeyID       Key = "key_id"       // id of a key row
	KeyProvider    Key = "provider"     // where a key is kept: sealed, pkcs11
	KeyMasterKey   Key = "master_key"   // public name of a master key
	KeyScopes      Key = "scopes"       // OAuth scopes, space separated
	KeyGrant       Key = "grant"        // OAuth grant type
	KeyFormat      Key = "format"       // attestation statement format
	KeyAAGUID      Key = "aaguid"       // authenticator model
	KeyProof       Key = "proof"        // who agreed to a binding: card, device
	KeyModelStatus Key = "model_status" // what FIDO metadata say against an authenticator model
	KeyRevocation  Key = "revocation"   // how revocation was checked: ocsp, crl
	KeyCount       Key = "count"        // a number of things of the act
	KeyAttempt     Key = "attempt"      // which try this was, from 1
	KeyAgeSeconds  Key = "age_seconds"  // age of a QR frame when it was scanned
	KeyRoute       Key = "route"        // pattern of the route that was asked, never a path
	KeyOfAct       Key = "of_act"       // the act of refusals that are summed
	KeyUntil       Key = "until"        // RFC 3339 time an allowance ends
	KeySecondPhone Key = "second_phone" // true when another phone tried the same order

	KeyDossier Key = "dossier" // id of an official document on its way
	KeyPoint   Key = "point"   // number of one of its points

	KeyRoles         Key = "roles"         // roles of an administrator, space separated
	KeyAdministrator Key = "administrator" // id of an administrator whom an act concerns
	KeyAct           Key = "act"           // id of a two-person act
	KeyFound         Key = "found"         // whether a look-up found somebody
	KeyApproval      Key = "approval"      // id of an administrator's kept assertion
)

// maxDetailString is the greatest length of a Detail string in bytes; longer
// values are cut, because what arrives from outside may be arbitrarily long.
const maxDetailString = 200

// maxActor bounds Entry.Actor in bytes.
const maxActor = 128

// Entry is one row of the audit log.
type Entry struct {
	ID        uuid.UUID // UUIDv7: it carries the time and chooses the partition
	At        time.Time // UTC, microseconds
	Act       Act
	Result    Result
	ActorKind ActorKind
	Actor     string

	// What the act touched; nil where it touched none.
	CitizenID *uuid.UUID
	DeviceID  *uuid.UUID
	ClientID  *uuid.UUID
	OrderID   *uuid.UUID

	// IP is the address the act came from; the zero value where there is none.
	IP netip.Addr

	// Detail has string, int64 and bool values only; fill it with the With methods.
	Detail map[string]any
}

// New starts an entry for an act by the system itself, with the result OK and
// the present time. The methods below return changed copies.
func New(act Act) Entry {
	return Entry{
		ID:        uuid.Must(uuid.NewV7()),
		At:        time.Now().UTC().Truncate(time.Microsecond),
		Act:       act,
		Result:    OK,
		ActorKind: ActorSystem,
	}
}

// By names who acted. Actor is one of our identifiers or a client_id, never a
// person's name.
func (e Entry) By(kind ActorKind, actor string) Entry {
	e.ActorKind, e.Actor = kind, cut(actor, maxActor)
	return e
}

// ByCitizen says that the citizen acted, and that the act concerns that citizen.
func (e Entry) ByCitizen(id uuid.UUID) Entry {
	return e.By(ActorCitizen, id.String()).Citizen(id)
}

// ByClient says that a client acted: its row id and its public client_id.
func (e Entry) ByClient(id uuid.UUID, clientID string) Entry {
	return e.By(ActorClient, clientID).Client(id)
}

// ByBrowser says that a browser acted that nobody has identified.
func (e Entry) ByBrowser() Entry { return e.By(ActorBrowser, "") }

// ByOperator says that an operator acted.
func (e Entry) ByOperator(name string) Entry { return e.By(ActorOperator, name) }

// Citizen says which citizen the act concerns.
func (e Entry) Citizen(id uuid.UUID) Entry { e.CitizenID = present(id); return e }

// Device says which device the act concerns.
func (e Entry) Device(id uuid.UUID) Entry { e.DeviceID = present(id); return e }

// Client says which client the act concerns.
func (e Entry) Client(id uuid.UUID) Entry { e.ClientID = present(id); return e }

// Order says which order the act concerns.
func (e Entry) Order(id uuid.UUID) Entry { e.OrderID = present(id); return e }

// From says which address the act came from; IPv4 inside IPv6 is unmapped.
func (e Entry) From(ip netip.Addr) Entry { e.IP = ip.Unmap().WithZone(""); return e }

// Refuse marks the entry as a refusal and keeps the public fault code.
func (e Entry) Refuse(code string) Entry {
	e.Result = Refused
	return e.With(KeyCode, code)
}

// Fail marks the act as allowed but not carried out, with its fault code.
func (e Entry) Fail(code string) Entry {
	e.Result = Failed
	return e.With(KeyCode, code)
}

// With adds a short string. It is cut at 200 bytes and stripped of what is not UTF-8.
func (e Entry) With(k Key, v string) Entry { return e.detail(k, cut(v, maxDetailString)) }

// WithInt adds a number.
func (e Entry) WithInt(k Key, v int) Entry { return e.detail(k, int64(v)) }

// WithBool adds a truth value.
func (e Entry) WithBool(k Key, v bool) Entry { return e.detail(k, v) }

func (e Entry) detail(k Key, v any) Entry {
	d := make(map[string]any, len(e.Detail)+1)
	for name, value := range e.Detail {
		d[name] = value
	}
	d[string(k)] = v
	e.Detail = d
	return e
}

// Store keeps entries that are not part of another transaction, and lists them.
type Store interface {
	// Append writes one entry in a transaction of its own; for refusals.
	Append(ctx context.Context, e Entry) error
	// ForOrder lists an order's entries, oldest first, at most limit.
	ForOrder(ctx context.Context, order uuid.UUID, limit int) ([]Entry, error)
	// ForCitizen lists entries that concern a citizen, newest first, at most
	// limit, older than the entry before (uuid.Nil: from the newest).
	ForCitizen(ctx context.Context, citizen, before uuid.UUID, limit int) ([]Entry, error)
}

func present(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

// cut bounds a string to max bytes without splitting a character. Zero bytes,
// which Postgres cannot store, and broken UTF-8 are dropped.
func cut(s string, max int) string {
	clean := make([]byte, 0, min(len(s), max))
	for _, r := range s {
		if r == utf8.RuneError || r == 0 {
			continue
		}
		if len(clean)+utf8.RuneLen(r) > max {
			break
		}
		clean = utf8.AppendRune(clean, r)
	}
	return string(clean)
}
