package audit

// Act names what was done: "noun.verb in the past".
type Act string

// Orders.
const (
	OrderCreated    Act = "order.created"
	OrderOpened     Act = "order.opened" // an order made over the API met its first browser
	OrderScanned    Act = "order.scanned"
	OrderSecondScan Act = "order.second_scan" // another phone tried a claimed order
	OrderExtended   Act = "order.extended"
	OrderFrozen     Act = "order.frozen" // the changing QR code was held still for a person who needs time
	OrderCode       Act = "order.code"   // an eight-digit code was shown instead of the QR code
	OrderChecked    Act = "order.checked"
	OrderApproved   Act = "order.approved"
	OrderWaiting    Act = "order.waiting" // an approved order waits for something outside; the code says for what
	OrderCompleted  Act = "order.completed"
	OrderCollected  Act = "order.collected"
	OrderRejected   Act = "order.rejected"
	OrderCancelled  Act = "order.cancelled"
	OrderExpired    Act = "order.expired"
	OrderFailed     Act = "order.failed"
	OrderRefused    Act = "order.refused" // a step on an order was not allowed
)

// Binding a phone.
const (
	EnrolStarted    Act = "enrol.started"
	EnrolCredential Act = "enrol.credential" // the phone made its passkey
	EnrolCompleted  Act = "enrol.completed"
	EnrolRefused    Act = "enrol.refused"
	AbandonedPurged Act = "abandoned.purged" // what was begun and never finished was deleted
	CardRevoked     Act = "card.revoked"     // a citizen certificate was found revoked
	CardExpired     Act = "card.expired"     // a citizen certificate with devices has ended
)

// Devices.
const (
	DeviceBound     Act = "device.bound"
	DeviceSuspended Act = "device.suspended"
	DeviceResumed   Act = "device.resumed"
	DeviceRemoved   Act = "device.removed"
	DeviceRenamed   Act = "device.renamed"
	LossStarted     Act = "loss.started"  // a card's holder began to report a loss, or to take one back
	LossReported    Act = "loss.reported" // with the card's signature
	LossUndone      Act = "loss.undone"   // with the card's signature
)

// Keys and certificates.
const (
	KeyCreated           Act = "key.created"
	KeyRetired           Act = "key.retired"
	KeyResealed          Act = "key.resealed" // keys were moved to another master key
	KeyDestroyed         Act = "key.destroyed"
	AuthorityCreated     Act = "authority.created"
	CertificateIssued    Act = "certificate.issued"
	CertificateRequested Act = "certificate.requested" // of another CA
	CertificateRefused   Act = "certificate.refused"   // what another CA issued was not accepted, or a request was ended
	CertificateRevoked   Act = "certificate.revoked"
	CertificateHeld      Act = "certificate.held"
	CertificateRestored  Act = "certificate.restored"
	CertificateRenewed   Act = "certificate.renewed" // a new one took its place
	RenewalStarted       Act = "renewal.started"
	AuthorityReplaced    Act = "authority.replaced" // a new key and certificate took its place
	RevocationListIssued Act = "crl.issued"
	RevocationsReported  Act = "revocations.reported" // another CA was told
	RequestsExported     Act = "requests.exported"    // for another CA
)

// Signing.
const (
	SignatureMade    Act = "signature.made"
	SignatureRefused Act = "signature.refused"
	SignatureRenewed Act = "signature.renewed" // a further archive time-stamp was added
)

// Official documents on their way.
const (
	DossierSubmitted Act = "dossier.submitted"
	DossierTaken     Act = "dossier.taken"  // a point was taken into a sign order
	DossierSigned    Act = "dossier.signed" // a point got its signature
	DossierReturned  Act = "dossier.returned"
	DossierReleased  Act = "dossier.released" // an order over a point came to nothing for it
	DossierLater     Act = "dossier.later"    // a point is to be signed later
	DossierDeputed   Act = "dossier.deputed"  // a point got one more deputy
	DossierWithdrawn Act = "dossier.withdrawn"
	DossierExpired   Act = "dossier.expired"
	DossierRefused   Act = "dossier.refused" // a step on a dossier was not allowed
	WebhookDead      Act = "webhook.dead"    // a message could not be delivered and is given up
)

// Clients, tokens, sessions.
const (
	ClientCreated   Act = "client.created"
	ClientChanged   Act = "client.changed"
	ClientSuspended Act = "client.suspended"
	ClientRefused   Act = "client.refused" // a client could not authenticate or asked for what it may not have
	AgencyCreated   Act = "agency.created"
	TokenIssued     Act = "token.issued"
	TokenRevoked    Act = "token.revoked"
	TokenRefused    Act = "token.refused"
	SessionStarted  Act = "session.started"
	SessionEnded    Act = "session.ended"
	SessionRefused  Act = "session.refused"
	RefusalsSummed  Act = "refusals.summed" // more refusals of one kind and address than get an entry each; count says how many
	RequestRefused  Act = "request.refused" // it could not be read, or came from another site, or without cookie or session
)

// Revocation status of other authorities' certificates.
const (
	RevocationAllowance      Act = "revocation.allowance"       // at a start: an operator lets a purpose go on where a status is unknown
	RevocationUnknownAllowed Act = "revocation.unknown_allowed" // and each time that let something through
)

// Authenticator metadata.
const (
	MetadataLoaded Act = "metadata.loaded" // a newer FIDO metadata BLOB was accepted
)

// Administrators in the console.
const (
	AdministratorInvited       Act = "administrator.invited"
	AdministratorJoined        Act = "administrator.joined" // an invitation was used: there is a passkey
	AdministratorRemoved       Act = "administrator.removed"
	AdministratorSignedIn      Act = "administrator.signed_in"
	AdministratorSignedOut     Act = "administrator.signed_out"
	AdministratorSessionStolen Act = "administrator.session_stolen" // its cookie came from another browser: ended
	ConsoleRefused             Act = "console.refused"              // a step in the console was not allowed
	PersonLookedUp             Act = "person.looked_up"
	ActProposed                Act = "act.proposed" // a two-person act waits for the second
	ActConfirmed               Act = "act.confirmed"
	ActRefused                 Act = "act.refused"
	ActWithdrawn               Act = "act.withdrawn"
)
