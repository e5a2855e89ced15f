package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/net/publicsuffix"
)

// complete fills what follows from other fields and checks what no field can
// tell alone. It returns problems in plain words.
func (c *Config) complete() []string {
	var p []string
	add := func(format string, args ...any) { p = append(p, fmt.Sprintf(format, args...)) }
	c.checkAddresses(add)
	c.checkOrigin(add)
	c.checkDatabase(add)
	c.checkFiles(add)
	c.checkHSM(add)
	c.checkTimes(add)
	c.checkPolicies(add)
	if c.NodeName == "" {
		c.NodeName, _ = os.Hostname()
		c.sources["node_name"] = "host name"
	}
	if !oidForm.MatchString(c.Card.PolicyOID) {
		add("card.policy_oid: %q is not an object identifier such as 2.16.886.101.0.3.3", c.Card.PolicyOID)
	}
	c.checkAllowance(add)
	c.checkPasskey(add)
	c.checkIssuing(add)
	c.checkTSA(add)
	for _, proxy := range c.TrustedProxies {
		if proxy.Bits() == 0 {
			add("trusted_proxies: %s is everybody; then anyone can choose the address that is logged", proxy)
		}
	}
	return p
}

// checkPolicies wants object identifiers, and outside development such that
// mean something: a relying party reads in them how carefully a certificate was
// issued, and 2.999 is the arc for examples (X.660).
func (c *Config) checkPolicies(add adder) {
	check := func(key string, oids ...string) {
		if len(oids) == 0 || oids[0] == "" {
			if !c.Dev {
				add("%s: needed: an object identifier of your own, as in your certification practice statement", key)
			}
			return
		}
		for _, oid := range oids {
			switch {
			case !oidForm.MatchString(oid):
				add("%s: %q is not an object identifier such as 2.16.886.101.0.3.3", key, oid)
			case !c.Dev && (oid == "2.999" || strings.HasPrefix(oid, "2.999.")):
				add("%s: %s is below 2.999, the arc for examples", key, oid)
			}
		}
	}
	check("mobile.policy_oids", c.Mobile.PolicyOIDs...)
	check("issuing.tsa_policy_oid", c.Issuing.TSAPolicyOID)
	for _, usage := range c.Mobile.KeyUsage {
		if usage != "digitalSignature" && usage != "contentCommitment" {
			add("mobile.key_usage: %q is neither digitalSignature nor contentCommitment", usage)
		}
	}
}

var oidForm = regexp.MustCompile(`^[0-2](\.(0|[1-9][0-9]{0,18}))+$`)

type adder func(format string, args ...any)

func (c *Config) checkAddresses(add adder) {
	if err := checkAddress(c.Listen); err != nil {
		add("listen: %v", err)
	}
	if c.Metrics.Listen != "" {
		if err := checkAddress(c.Metrics.Listen); err != nil {
			add("metrics.listen: %v", err)
		} else if c.Metrics.Listen == c.Listen {
			add("metrics.listen: must not be the public address %s", c.Listen)
		}
	}
}

func checkAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not an address and port such as 127.0.0.1:8080", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has no port between 0 and 65535", s)
	}
	return nil
}

func (c *Config) checkOrigin(add adder) {
	if c.PublicOrigin == "" && c.Dev {
		if _, port, err := net.SplitHostPort(c.Listen); err == nil {
			c.PublicOrigin = "http://localhost:" + port
			c.sources["public_origin"] = "from listen"
		}
	}
	if c.PublicOrigin == "" {
		add("public_origin: needed, for example https://id.example.gov.tw")
		return
	}
	u, err := url.Parse(c.PublicOrigin)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		add("public_origin: %q is not an origin such as https://id.example.gov.tw", c.PublicOrigin)
		return
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(c.PublicOrigin, "?") || strings.HasSuffix(c.PublicOrigin, "#"):
		add("public_origin: %q has something behind the host; write only scheme, host and port", c.PublicOrigin)
		return
	case c.PublicOrigin != strings.ToLower(c.PublicOrigin):
		add("public_origin: %q must be in lower case, as browsers write it", c.PublicOrigin)
		return
	case u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80":
		add("public_origin: leave out the port %s, as browsers do", u.Port())
		return
	case u.Scheme == "https":
	case u.Scheme == "http" && u.Hostname() == "localhost":
	default:
		add("public_origin: %q must be https:// (http:// only for localhost)", c.PublicOrigin)
		return
	}
	if net.ParseIP(u.Hostname()) != nil {
		add("public_origin: %q is an address; passkeys need a host name (or localhost)", c.PublicOrigin)
		return
	}
	if c.TLS.CertFile != "" && u.Scheme != "https" {
		add("tls.cert_file: set, but public_origin is %s", c.PublicOrigin)
	}
	c.checkRPID(u.Hostname(), add)
}

// checkRPID holds the rule of WebAuthn Level 3 §5.1.3: the RP ID is the host
// or a suffix of it that somebody can register.
func (c *Config) checkRPID(host string, add adder) {
	if c.RPID == "" {
		c.RPID = host
		c.sources["rp_id"] = "from public_origin"
		return
	}
	if c.RPID != host && !strings.HasSuffix(host, "."+c.RPID) {
		add("rp_id: %q is not %s or a domain above it", c.RPID, host)
		return
	}
	if suffix, _ := publicsuffix.PublicSuffix(c.RPID); c.RPID != host && suffix == c.RPID {
		add("rp_id: %q is a public suffix: browsers refuse it", c.RPID)
	}
}

func (c *Config) checkDatabase(add adder) {
	if c.Database.URL == "" {
		if !c.Dev {
			add("database.url: needed (DATABASE_URL also works)")
		}
		return
	}
	// The parser's error may repeat parts of the URL, hence of the password.
	if _, err := pgconn.ParseConfig(c.Database.URL); err != nil {
		add("database.url: not a PostgreSQL connection string (%s)", c.sources["database.url"])
	}
}

// checkFiles wants the files that a server cannot do without, and that all
// that are named exist. In development they are made at the first start.
func (c *Config) checkFiles(add adder) {
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		add("tls: cert_file and key_file belong together")
	}
	if c.Dev {
		return
	}
	for _, need := range []struct{ key, path string }{
		{"master_key_file", c.MasterKeyFile},
		{"card.anchors_dir", c.Card.AnchorsDir},
	} {
		if need.path == "" {
			add("%s: needed", need.key)
		}
	}
	for _, f := range fields(c) {
		for _, path := range f.paths() {
			if missing(path) {
				add("%s: %s does not exist", f.key, path)
			}
		}
	}
}

// checkHSM wants all of the section or none of it.
func (c *Config) checkHSM(add adder) {
	h := c.HSM
	named := h.Module != ""
	for _, need := range []struct {
		key string
		set bool
	}{
		{"hsm.token_label", h.TokenLabel != ""},
		{"hsm.pin_file", h.PINFile != ""},
		{"hsm.purposes", len(h.Purposes) > 0},
	} {
		switch {
		case named && !need.set:
			add("%s: needed with hsm.module", need.key)
		case !named && need.set:
			add("%s: set, but hsm.module is not", need.key)
		}
	}
	for _, p := range h.Purposes {
		if !contains([]string{"ca-*", "ca-root", "ca-issuing", "ca-ocsp", "ca-tsa", "ca-report", "oidc", "mobile"}, p) {
			add("hsm.purposes: %q is none of ca-*, ca-root, ca-issuing, ca-ocsp, ca-tsa, ca-report, oidc, mobile", p)
		}
	}
}

// checkPasskey wants a policy that can be held: a rule about models needs proof
// of the model, and a rule about certification needs the metadata.
func (c *Config) checkPasskey(add adder) {
	p := c.Passkey
	enforced, metadata := p.Attestation == "enforced", p.MDS.RootsDir != ""
	if enforced && p.AttestationRootsDir == "" && !metadata {
		add("passkey.attestation_roots_dir: needed when passkey.attestation is enforced and there is no passkey.mds.roots_dir")
	}
	for key, list := range map[string][]string{"allowed": p.AllowedAAGUIDs, "denied": p.DeniedAAGUIDs} {
		for _, text := range list {
			if id, err := uuid.Parse(text); err != nil || len(text) != 36 || id == uuid.Nil {
				add("passkey.%s_aaguids: %q is not an AAGUID such as ee882879-721c-4913-9775-3dfcce97072a", key, text)
			}
		}
	}
	if len(p.AllowedAAGUIDs) > 0 && !enforced {
		add("passkey.allowed_aaguids: needs passkey.attestation enforced; a model that is not proved is whatever the phone says")
	}
	if p.MinimumCertification != "none" && (p.Attestation == "off" || !metadata) {
		add("passkey.minimum_certification: needs passkey.mds.roots_dir, and passkey.attestation monitor or enforced")
	}
	if (p.MDS.File != "" || p.MDS.URL != "") && !metadata {
		add("passkey.mds.roots_dir: needed to believe the metadata")
	}
	if p.MDS.URL != "" && !strings.HasPrefix(p.MDS.URL, "https://") && !c.Dev {
		add("passkey.mds.url: must be https://")
	}
	if p.MDS.WhenStale == "refuse" && (!enforced || !metadata) {
		add("passkey.mds.when_stale: refuse needs passkey.attestation enforced and passkey.mds.roots_dir")
	}
}

func (c *Config) checkTimes(add adder) {
	if c.Order.MaxLifetime < c.Order.Lifetime {
		add("order.max_lifetime: %s is shorter than order.lifetime (%s)", c.Order.MaxLifetime, c.Order.Lifetime)
	}
	if c.Frame.MaxAgeScanner < 2*c.Frame.Step {
		add("frame.max_age_scanner: %s is less than two frames of %s: slow cameras would never succeed", c.Frame.MaxAgeScanner, c.Frame.Step)
	}
	if c.Frame.MaxAgeLink < c.Frame.MaxAgeScanner {
		add("frame.max_age_link: %s is less than frame.max_age_scanner (%s)", c.Frame.MaxAgeLink, c.Frame.MaxAgeScanner)
	}
	if c.Frame.Frozen < c.Frame.MaxAgeScanner {
		add("frame.frozen: %s is less than frame.max_age_scanner (%s)", c.Frame.Frozen, c.Frame.MaxAgeScanner)
	}
}

// maxAllowance is the longest time for which unknown status may be allowed.
const maxAllowance = 90 * 24 * time.Hour

// AllowUnknownEnd is card.allow_unknown_until as a time; zero where nothing is allowed.
func (c Card) AllowUnknownEnd() time.Time {
	at, _ := time.Parse(time.RFC3339, c.AllowUnknownUntil)
	return at
}

// checkAllowance wants an end and a reason for failing open. An end that has
// passed is no problem: then nothing is allowed, and the node must start.
func (c *Config) checkAllowance(add adder) {
	card := c.Card
	if len(card.AllowUnknownStatus) == 0 {
		if card.AllowUnknownUntil != "" || card.AllowUnknownReason != "" {
			add("card.allow_unknown_until, card.allow_unknown_reason: set, but card.allow_unknown_status allows nothing")
		}
		return
	}
	for _, purpose := range card.AllowUnknownStatus {
		if purpose != "login" && purpose != "signing" && purpose != "binding" {
			add("card.allow_unknown_status: %q is neither login nor signing nor binding", purpose)
		}
	}
	switch end := card.AllowUnknownEnd(); {
	case end.IsZero():
		add("card.allow_unknown_until: needed with card.allow_unknown_status, as 2027-01-31T18:00:00+08:00")
	case time.Until(end) > maxAllowance:
		add("card.allow_unknown_until: more than 90 days ahead; an emergency that lasts longer must be looked at again")
	}
	if card.AllowUnknownReason == "" || len(card.AllowUnknownReason) > 150 {
		add("card.allow_unknown_reason: needed with card.allow_unknown_status, at most 150 bytes")
	}
}
