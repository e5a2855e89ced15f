// Package config reads the server's configuration: a YAML file, environment
// variables, and defaults, in falling order of weight
//
//	environment  >  file  >  preset (what `sealgate dev` chooses)  >  default
//
// into one struct that has been checked as a whole. Every problem is reported
// at once, in plain words; a key that nobody knows is a problem.
//
// The environment variable of the key "card.anchors_dir" is
// SEALGATE_CARD_ANCHORS_DIR; lists are separated by commas. DATABASE_URL is
// taken for database.url when SEALGATE_DATABASE_URL is not set.
//
// Durations are Go durations ("90s", "20m") or whole days ("365d").
package config

import (
	"net/netip"
	"time"
)

// Config is a checked configuration. The tags are the documentation: see
// Config.Describe.
type Config struct {
	Listen          string         `key:"listen" default:"127.0.0.1:8080" doc:"address and port the server listens on"`
	PublicOrigin    string         `key:"public_origin" doc:"the one origin people and agencies see: https://HOST, or http://localhost:PORT for development"`
	RPID            string         `key:"rp_id" doc:"domain the passkeys belong to; it can never change without losing all of them; the host of public_origin when not set"`
	RPName          string         `key:"rp_name" default:"Sealgate 行動憑證" doc:"name of the service that phones show"`
	NodeName        string         `key:"node_name" doc:"name of this node in logs and metrics; the host name when not set"`
	DefaultLanguage string         `key:"default_language" default:"zh-Hant" oneof:"zh-Hant en" doc:"language of pages for browsers that ask for neither"`
	Dev             bool           `key:"dev" doc:"development: files may be missing, http is allowed on localhost, test cards are trusted; never on a public machine"`
	TrustedProxies  []netip.Prefix `key:"trusted_proxies" doc:"networks (CIDR) of the reverse proxies whose X-Forwarded-For is believed"`
	MasterKeyFile   string         `key:"master_key_file" file:"yes" doc:"file with the master key that seals keys and national IDs in the database"`
	// Opening with several keys and sealing with one is what lets the master
	// key be changed while all nodes run: see `sealctl keys --help`.
	OtherMasterKeyFiles []string `key:"other_master_key_files" file:"yes" doc:"files with master keys that open but do not seal: older ones until sealctl keys reseal is done, and the next one before it becomes master_key_file"`

	TLS      TLS      `key:"tls"`
	Database Database `key:"database"`
	HSM      HSM      `key:"hsm"`
	Card     Card     `key:"card"`
	Egress   Egress   `key:"egress"`
	Order    Order    `key:"order"`
	Frame    Frame    `key:"frame"`
	Mobile   Mobile   `key:"mobile"`
	Issuing  Issuing  `key:"issuing"`
	Citizen  Citizen  `key:"citizen"`
	Device   Device   `key:"device"`
	Passkey  Passkey  `key:"passkey"`
	Signing  Signing  `key:"signing"`
	TSA      TSA      `key:"tsa"`
	Verify   Verify   `key:"verify"`
	Limits   Limits   `key:"limits"`
	Log      Log      `key:"log"`
	Metrics  Metrics  `key:"metrics"`

	sources map[string]string // key -> where its value is from
}

// TLS is set when the server itself, not a proxy in front, ends TLS.
type TLS struct {
	CertFile string `key:"cert_file" file:"yes" doc:"certificate chain (PEM) when the server itself ends TLS"`
	KeyFile  string `key:"key_file" file:"yes" doc:"private key (PEM) of tls.cert_file"`
}

// Database says where PostgreSQL is.
type Database struct {
	URL            string `key:"url" secret:"yes" doc:"PostgreSQL 15 or newer: postgres://user:password@host/database"`
	MaxConnections int    `key:"max_connections" default:"16" min:"2" max:"1000" doc:"connections this node keeps at most"`
}

// HSM names a PKCS #11 token that keeps private keys; without it they lie sealed
// in the database.
type HSM struct {
	Module        string        `key:"module" file:"yes" doc:"PKCS #11 library of the hardware security module; none: all keys lie sealed in the database"`
	TokenLabel    string        `key:"token_label" doc:"label of the token in hsm.module"`
	PINFile       string        `key:"pin_file" file:"yes" doc:"file with the token's user PIN; only its owner may read it"`
	Purposes      []string      `key:"purposes" doc:"new keys that are made in the token: ca-root, ca-issuing, ca-ocsp, ca-tsa, ca-report (or ca-* for all five), oidc, mobile; existing keys stay where they are"`
	MaxSessions   int           `key:"max_sessions" default:"16" min:"2" max:"1024" doc:"sessions this node keeps with the token at most; one of them only holds the login"`
	SessionWait   time.Duration `key:"session_wait" default:"2s" min:"10ms" max:"1m" doc:"how long a signature waits for a free session before it is put off"`
	AnswerTimeout time.Duration `key:"answer_timeout" default:"10s" min:"100ms" max:"2m" doc:"how long the token may take over one operation"`
}

// Card says which citizen cards are believed.
type Card struct {
	AnchorsDir       string `key:"anchors_dir" file:"yes" doc:"directory with the root certificates (*.cer, *.crt, *.pem) that citizen cards must lead to"`
	IntermediatesDir string `key:"intermediates_dir" file:"yes" doc:"directory with the certificates of the authorities between card and root"`
	PolicyOID        string `key:"policy_oid" default:"2.16.886.101.0.3.3" doc:"certificate policy a card's certificate must name (GPKI assurance level 3)"`
	// How old the last look at a card's revocation status may be.
	StatusMaxAge time.Duration `key:"status_max_age" default:"24h" min:"1m" max:"168h" doc:"a document is signed only when the card's status was learnt within this time; else it is asked first, and no answer means no signature"`
	LoginGrace   time.Duration `key:"login_grace" default:"168h" min:"1m" max:"720h" doc:"the same for logins: how long an authority that does not answer may be bridged; at least card.status_max_age"`
	// The switch to fail open, per purpose. It is loud: see deploy/README.md.
	AllowUnknownStatus []string `key:"allow_unknown_status" doc:"EMERGENCY ONLY, empty for fail closed: purposes that go on although nobody can tell whether the card was revoked: login, signing, binding. Needs card.allow_unknown_until and card.allow_unknown_reason. A revoked card is never let through. Every use is an entry revocation.unknown_allowed in the audit log, and every start, the log, the metrics and /readyz say that it is on"`
	AllowUnknownUntil  string   `key:"allow_unknown_until" doc:"when card.allow_unknown_status ends, at most 90 days ahead: 2027-01-31T18:00:00+08:00"`
	AllowUnknownReason string   `key:"allow_unknown_reason" doc:"why card.allow_unknown_status is on, at most 150 bytes, for the audit log; nothing personal"`
}

// Egress says what the server may fetch (OCSP, CRLs, webhooks).
type Egress struct {
	Allow         []string `key:"allow" default:"moica.nat.gov.tw,ocsp-moica.moi.gov.tw,crl-moica.moi.gov.tw,grca.nat.gov.tw,gca.nat.gov.tw" doc:"hosts the server may call: host, host:port, *.suffix"`
	AllowLoopback bool     `key:"allow_loopback" doc:"let the server call itself and its neighbours on this machine; for development"`
	AllowPrivate  bool     `key:"allow_private" doc:"let the server call addresses of private networks"`
}

// Order bounds the life of an order.
type Order struct {
	Lifetime          time.Duration `key:"lifetime" default:"120s" min:"30s" max:"20m" doc:"how long an order waits for a phone before it must be extended"`
	MaxLifetime       time.Duration `key:"max_lifetime" default:"20m" min:"1m" max:"24h" doc:"how long an order lives at most, with every extension"`
	PhoneStepLifetime time.Duration `key:"phone_step_lifetime" default:"3m" min:"30s" max:"30m" doc:"how long a phone that has scanned may take to approve"`
}

// Frame is about the moving QR code.
type Frame struct {
	Step          time.Duration `key:"step" default:"2s" min:"1s" max:"30s" doc:"how often the QR code changes"`
	MaxAgeScanner time.Duration `key:"max_age_scanner" default:"10s" min:"2s" max:"5m" doc:"oldest QR code accepted from the scanner of the phone app"`
	MaxAgeLink    time.Duration `key:"max_age_link" default:"45s" min:"5s" max:"10m" doc:"oldest QR code accepted when the phone's own camera opened it as a link"`
	Frozen        time.Duration `key:"frozen" default:"60s" min:"10s" max:"10m" doc:"how long a QR code that a person has stopped stays good"`
}

// Mobile is about the certificates that are issued to phones' holders.
type Mobile struct {
	KeyAlgorithm        string        `key:"key_algorithm" default:"P-256" oneof:"P-256 P-384 RSA-2048 RSA-3072" doc:"key of a mobile certificate"`
	CertificateLifetime time.Duration `key:"certificate_lifetime" default:"365d" min:"24h" max:"365d" doc:"validity of a mobile certificate; it also never outlasts the citizen's card"`
	RenewBefore         time.Duration `key:"renew_before" default:"30d" min:"1h" max:"180d" doc:"how long before its end a mobile certificate may be renewed on the phone"`
	RenewGrace          time.Duration `key:"renew_grace" default:"30d" min:"0s" max:"365d" doc:"how long after its end it may still be renewed while the card is good; after that the phone is bound again"`
	PolicyOIDs          []string      `key:"policy_oids" doc:"certificate policies that mobile certificates name; those of your certification practice statement, needed outside development"`
	KeyUsage            []string      `key:"key_usage" default:"digitalSignature,contentCommitment" doc:"key usage of mobile certificates: digitalSignature, contentCommitment"`
	CardType            string        `key:"card_type" default:"mobile" doc:"card type in the subject directory attributes of mobile certificates"`
}

// Issuing says who issues the mobile certificates.
type Issuing struct {
	Mode         string `key:"mode" default:"own" oneof:"own est pkcs10" doc:"who issues mobile certificates: own: this service's own authority, at once; est: another CA, asked by EST (RFC 7030); pkcs10: another CA, to which operators carry files (sealctl issuing)"`
	TSAPolicyOID string `key:"tsa_policy_oid" doc:"policy of the service's own time-stamps; needed outside development"`
	// What follows is about another CA.
	AnchorsDir       string `key:"anchors_dir" file:"yes" doc:"directory with the root certificates that mobile certificates of another CA must lead to; needed with est and pkcs10"`
	IntermediatesDir string `key:"intermediates_dir" file:"yes" doc:"directory with the authorities between; those that come along with a certificate or from the EST server are used as well"`
	SubjectMatch     string `key:"subject_match" default:"exact" oneof:"exact text" doc:"how the subject of another CA's certificate must agree with the card's: exact: byte for byte; text: the same attributes and values, in whatever string type"`
	EST              EST    `key:"est"`
}

// EST is the server of another CA.
type EST struct {
	URL            string        `key:"url" doc:"address of the EST server: https://HOST/.well-known/est, or with the CA's label behind; its host must be in egress.allow"`
	RootsFile      string        `key:"roots_file" file:"yes" doc:"certificates (PEM) that the server's TLS certificate must lead to; no others are believed"`
	ClientCertFile string        `key:"client_cert_file" file:"yes" doc:"certificate chain (PEM) by which this service proves itself to the server"`
	ClientKeyFile  string        `key:"client_key_file" file:"yes" doc:"private key (PEM) of issuing.est.client_cert_file"`
	User           string        `key:"user" doc:"user name for HTTP Basic authentication at the server"`
	PasswordFile   string        `key:"password_file" file:"yes" doc:"file with the password of issuing.est.user; only its owner may read it"`
	Timeout        time.Duration `key:"timeout" default:"20s" min:"1s" max:"60s" doc:"how long one exchange with the server may take"`
}

// Citizen is about people and their devices.
type Citizen struct {
	ReleaseNationalID bool `key:"release_national_id" doc:"clients that were granted it may be told the national ID; otherwise it leaves the server never"`
	DeviceLimit       int  `key:"device_limit" default:"5" min:"1" max:"50" doc:"devices one citizen may have bound at a time"`
}

// Device is about the phones of citizens.
type Device struct {
	Cooldown time.Duration `key:"cooldown" default:"24h" min:"0s" max:"720h" doc:"how long a phone that was added from another phone may log in but not sign documents nor add or manage other phones; 0: not at all. A phone that the card bound has none"`
}

// Passkey is about what phones must prove.
type Passkey struct {
	Attestation         string `key:"attestation" default:"monitor" oneof:"off monitor enforced" doc:"off: not asked; monitor: asked and noted; enforced: phones that do not prove their model are refused"`
	AttestationRootsDir string `key:"attestation_roots_dir" file:"yes" doc:"directory with root certificates attestation may lead to, beside the roots in the FIDO metadata; enforced needs one of the two"`

	AllowedAAGUIDs       []string `key:"allowed_aaguids" doc:"the only models that are accepted; needs enforced, because a model that is not proved is whatever the phone says; none: all models"`
	DeniedAAGUIDs        []string `key:"denied_aaguids" doc:"models that are refused, also when the phone only claims to be one, and that are stopped where they are bound"`
	MinimumCertification string   `key:"minimum_certification" default:"none" oneof:"none FIDO_CERTIFIED_L1 FIDO_CERTIFIED_L1plus FIDO_CERTIFIED_L2 FIDO_CERTIFIED_L2plus FIDO_CERTIFIED_L3 FIDO_CERTIFIED_L3plus" doc:"least FIDO certification of a new phone's model by the metadata; refused under enforced, noted under monitor. Models that are revoked or compromised are always refused, and stopped where they are bound"`
	Attachment           string   `key:"attachment" default:"any" oneof:"any platform cross-platform" doc:"where the passkey is made: platform is the phone itself, cross-platform a security key; told by the browser and, for a proved model, by the metadata"`
	SyncedPasskeys       string   `key:"synced_passkeys" default:"allowed" oneof:"allowed lower_acr refused" doc:"passkeys that are copied to a person's other devices: allowed (never acr phrh), lower_acr (an approval by one counts as the lowest acr), refused (at binding and at approving). A client may be stricter, never milder"`

	MDS MDS `key:"mds"`
}

// MDS says where the FIDO metadata come from.
type MDS struct {
	RootsDir  string        `key:"roots_dir" file:"yes" doc:"directory with the root the metadata's signer must lead to (GlobalSign Root CA R3 for the public service); without it there are no metadata"`
	Signer    string        `key:"signer" default:"mds.fidoalliance.org" doc:"name in the metadata signer's certificate"`
	File      string        `key:"file" doc:"file with the metadata BLOB; looked at every refresh"`
	URL       string        `key:"url" doc:"address of the metadata BLOB, https://mds3.fidoalliance.org/ for the public one; its host must be in egress.allow; asked once its nextUpdate has come"`
	Refresh   time.Duration `key:"refresh" default:"6h" min:"1m" max:"7d" doc:"how often file and address are looked at"`
	WhenStale string        `key:"when_stale" default:"warn" oneof:"warn refuse" doc:"metadata past their nextUpdate, or none at all: warn in the log, or refuse to bind new phones (needs enforced)"`
}

// Signing bounds one approval.
type Signing struct {
	BatchMax int    `key:"batch_max" default:"200" min:"1" max:"2000" doc:"documents one approval may sign"`
	Level    string `key:"level" default:"B-B" oneof:"B-B B-T B-LT B-LTA" doc:"level of signatures whose order names none: B-B; B-T with a time-stamp; B-LT with certificates and revocation answers inside; B-LTA with an archive time-stamp that is renewed before it ends. Above B-B needs tsa.authorities"`
	// An archive time-stamp must be renewed while its authority's certificate can still be asked about.
	RenewBefore time.Duration `key:"renew_before" default:"90d" min:"1h" max:"1100d" doc:"how long before the certificate of the newest archive time-stamp ends a B-LTA signature gets a further one"`
}

// TSA says who gives time-stamps (RFC 3161) for signatures above B-B.
type TSA struct {
	Authorities      []string      `key:"authorities" doc:"time-stamp authorities in the order in which they are asked, each a text: https://ADDRESS and, behind it, name=WORD, policy=OID and timeout=5s where wanted; own is the service's own authority; their hosts, and those that answer for their certificates, must be in egress.allow. None: only B-B can be made; sealgate dev takes own"`
	AnchorsDir       string        `key:"anchors_dir" file:"yes" doc:"directory with the root certificates that the authorities' certificates must lead to; needed for others than own"`
	IntermediatesDir string        `key:"intermediates_dir" file:"yes" doc:"directory with certificates between authority and root that time-stamps do not bring along"`
	Timeout          time.Duration `key:"timeout" default:"10s" min:"100ms" max:"2m" doc:"how long one question to an authority may take, with the look at its certificate"`
	Backoff          time.Duration `key:"backoff" default:"15s" min:"100ms" max:"1h" doc:"how long an authority is left alone after a failure; twice as long after each further one, up to 10 minutes"`
	Parallel         int           `key:"parallel" default:"8" min:"1" max:"64" doc:"time-stamps one approval's documents are given at a time"`
}

// Verify is about signatures that people bring to be judged. Besides these roots,
// those of citizen cards, of the service's own authority and of the authorities
// that it uses are believed.
type Verify struct {
	AnchorsDir       string        `key:"anchors_dir" file:"yes" doc:"directory with further root certificates (*.cer, *.crt, *.pem) that signers and time-stamps of signatures from elsewhere may lead to; those of citizen cards and of this service are believed without"`
	IntermediatesDir string        `key:"intermediates_dir" file:"yes" doc:"directory with authorities below verify.anchors_dir that signatures do not bring along"`
	Parallel         int           `key:"parallel" default:"8" min:"1" max:"1024" doc:"signatures this node judges at a time; others wait a little, then are told to come later"`
	Timeout          time.Duration `key:"timeout" default:"20s" min:"1s" max:"2m" doc:"how long judging one file may take, with the questions to revocation services"`
}

// Limits bound what unknown people may ask of one node, by the address behind
// trusted_proxies (IPv6 by /64). Twice as many at once are fine.
type Limits struct {
	Starts     int `key:"starts" default:"600" min:"0" max:"10000000" doc:"logins, bindings, own signatures and lost cards one address may begin a minute (twice that at once, so that 1200 people of one office can log in together); 0: no limit"`
	Claims     int `key:"claims" default:"1800" min:"0" max:"10000000" doc:"what phones behind one address may ask a minute without a session: scans, answers, challenges; 0: no limit"`
	NodeStarts int `key:"node_starts" default:"30000" min:"0" max:"100000000" doc:"limits.starts for all addresses together on this node; 0: no limit"`
	NodeClaims int `key:"node_claims" default:"90000" min:"0" max:"100000000" doc:"limits.claims for all addresses together on this node; 0: no limit"`
	// Judging a signature costs more than anything else that strangers may ask for.
	Verifications     int `key:"verifications" default:"120" min:"0" max:"10000000" doc:"signatures one address may have judged a minute by page and API, with the questions before; 0: no limit"`
	NodeVerifications int `key:"node_verifications" default:"3000" min:"0" max:"100000000" doc:"limits.verifications for all addresses together on this node; 0: no limit"`
	Refusals          int `key:"refusals" default:"60" min:"0" max:"1000000" doc:"refusals of one address that get an audit entry each, a minute (ten times that at once); more are summed into one entry a minute (refusals.summed); 0: no limit"`
	NodeRefusals      int `key:"node_refusals" default:"6000" min:"0" max:"10000000" doc:"limits.refusals for all addresses together on this node; 0: no limit"`
}

// Log says how the log is written.
type Log struct {
	Level  string `key:"level" default:"info" oneof:"debug info warn error" doc:"least serious entry that is written"`
	Format string `key:"format" default:"json" oneof:"json text" doc:"form of an entry"`
}

// Metrics says where Prometheus reads.
type Metrics struct {
	Listen string `key:"listen" doc:"address and port for Prometheus; off when not set; never the public address"`
}
