package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// files makes a master key file and a directory of anchors and gives a
// complete environment that names them.
func files(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "master.key")
	if err := os.WriteFile(key, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{
		"SEALGATE_PUBLIC_ORIGIN=https://id.example.gov.tw",
		"DATABASE_URL=postgres://app:hidden-word@db/sealgate",
		"SEALGATE_MASTER_KEY_FILE=" + key,
		"SEALGATE_CARD_ANCHORS_DIR=" + dir,
		"SEALGATE_MOBILE_POLICY_OIDS=2.16.886.101.0.3.3",
		"SEALGATE_ISSUING_TSA_POLICY_OID=2.16.886.101.0.3.4",
		"PATH=/bin",
	}
}

func write(t *testing.T, yaml string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sealgate.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaults(t *testing.T) {
	c, err := Load("", files(t))
	if err != nil {
		t.Fatal(err)
	}
	if c.RPID != "id.example.gov.tw" {
		t.Errorf("rp_id %q", c.RPID)
	}
	for name, pair := range map[string][2]any{
		"order.lifetime":              {c.Order.Lifetime, 120 * time.Second},
		"order.max_lifetime":          {c.Order.MaxLifetime, 20 * time.Minute},
		"order.phone_step_lifetime":   {c.Order.PhoneStepLifetime, 3 * time.Minute},
		"frame.step":                  {c.Frame.Step, 2 * time.Second},
		"frame.max_age_scanner":       {c.Frame.MaxAgeScanner, 10 * time.Second},
		"frame.max_age_link":          {c.Frame.MaxAgeLink, 45 * time.Second},
		"frame.frozen":                {c.Frame.Frozen, 60 * time.Second},
		"mobile.certificate_lifetime": {c.Mobile.CertificateLifetime, 365 * 24 * time.Hour},
		"mobile.key_algorithm":        {c.Mobile.KeyAlgorithm, "P-256"},
		"citizen.device_limit":        {c.Citizen.DeviceLimit, 5},
		"device.cooldown":             {c.Device.Cooldown, 24 * time.Hour},
		"citizen.release_national_id": {c.Citizen.ReleaseNationalID, false},
		"signing.batch_max":           {c.Signing.BatchMax, 200},
		"default_language":            {c.DefaultLanguage, "zh-Hant"},
		"egress.allow_loopback":       {c.Egress.AllowLoopback, false},
		"dev":                         {c.Dev, false},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s = %v, want %v", name, pair[0], pair[1])
		}
	}
	if c.NodeName == "" {
		t.Error("no node name")
	}
}

func TestFileAndEnvironment(t *testing.T) {
	path := write(t, `
public_origin: https://login.example.org:8443
rp_id: example.org
trusted_proxies: [10.1.2.3/8, "fd00::1"]
tls:
order:
  lifetime: 90s
signing:
  batch_max: 50
egress:
  allow: [ocsp.example.org, "*.crl.example.org"]
`)
	c, err := Load(path, append(files(t)[1:], "SEALGATE_SIGNING_BATCH_MAX=60", "SEALGATE_LOG_LEVEL=", "SEALGATE_TEST_DATABASE_URL=x"))
	if err != nil {
		t.Fatal(err)
	}
	if c.PublicOrigin != "https://login.example.org:8443" || c.RPID != "example.org" {
		t.Errorf("%q %q", c.PublicOrigin, c.RPID)
	}
	if len(c.TrustedProxies) != 2 || c.TrustedProxies[0].String() != "10.0.0.0/8" || c.TrustedProxies[1].String() != "fd00::1/128" {
		t.Errorf("proxies %v", c.TrustedProxies)
	}
	if c.Order.Lifetime != 90*time.Second || c.Signing.BatchMax != 60 || c.Log.Level != "info" {
		t.Errorf("%v %v %v", c.Order.Lifetime, c.Signing.BatchMax, c.Log.Level)
	}
	if !slices.Equal(c.Egress.Allow, []string{"ocsp.example.org", "*.crl.example.org"}) {
		t.Errorf("egress %v", c.Egress.Allow)
	}
	sources := map[string]string{}
	for _, s := range c.Describe() {
		sources[s.Key] = s.Source
	}
	for key, want := range map[string]string{
		"order.lifetime": path, "signing.batch_max": "environment SEALGATE_SIGNING_BATCH_MAX",
		"log.level": "default", "database.url": "environment DATABASE_URL", "rp_name": "default",
	} {
		if sources[key] != want {
			t.Errorf("source of %s: %q, want %q", key, sources[key], want)
		}
	}
}

func TestOneWrongThing(t *testing.T) {
	for _, tc := range []struct{ name, yaml, env, want string }{
		{name: "control"},
		{name: "unknown key", yaml: "colour: red", want: "colour: no such key"},
		{name: "key in the wrong section", yaml: "batch_max: 3", want: "did you mean signing.batch_max?"},
		{name: "unknown empty section", yaml: "colours:", want: "colours: no such key"},
		{name: "unknown variable", env: "SEALGATE_COLOUR=red", want: "SEALGATE_COLOUR: no such variable"},
		{name: "not a number", yaml: "signing: {batch_max: many}", want: `signing.batch_max: "many" is not a whole number`},
		{name: "number too large", yaml: "signing: {batch_max: 3000}", want: "3000 is not between 1 and 2000"},
		{name: "not a duration", yaml: "order: {lifetime: soon}", want: "order.lifetime: \"soon\" is not a duration"},
		{name: "bare number as duration", yaml: "order: {lifetime: 90}", want: "order.lifetime: \"90\" is not a duration"},
		{name: "duration out of limits", env: "SEALGATE_ORDER_LIFETIME=1s", want: "1s is not between 30s and 20m"},
		{name: "not a choice", env: "SEALGATE_LOG_LEVEL=loud", want: "is none of debug, info, warn, error"},
		{name: "no policy", env: "SEALGATE_MOBILE_POLICY_OIDS= ,", want: "mobile.policy_oids: needed"},
		{name: "policy of the examples", env: "SEALGATE_MOBILE_POLICY_OIDS=2.16.886.101.0.3.3,2.999.1.1", want: "arc for examples"},
		{name: "policy that is none", env: "SEALGATE_MOBILE_POLICY_OIDS=level3", want: "is not an object identifier"},
		{name: "time-stamp policy of the examples", env: "SEALGATE_ISSUING_TSA_POLICY_OID=2.999.1.2", want: "arc for examples"},
		{name: "key usage", env: "SEALGATE_MOBILE_KEY_USAGE=keyCertSign", want: "neither digitalSignature nor"},
		{name: "two years", env: "SEALGATE_MOBILE_CERTIFICATE_LIFETIME=730d", want: "not between"},
		{name: "another CA without an anchor", env: "SEALGATE_ISSUING_MODE=pkcs10", want: "issuing.anchors_dir: needed with issuing.mode pkcs10"},
		{name: "an EST server that is not asked", env: "SEALGATE_ISSUING_EST_URL=https://ca.example.test/.well-known/est", want: "issuing.est.url: set, but issuing.mode is own"},
		{name: "not a truth value", yaml: "dev: perhaps", want: "neither true nor false"},
		{name: "list where a text belongs", yaml: "listen: [a]", want: "listen: must be a text"},
		{name: "not a network", yaml: "trusted_proxies: [10.0.0.0/40]", want: "is not a network"},
		{name: "everybody a proxy", yaml: "trusted_proxies: [0.0.0.0/0]", want: "is everybody"},
		{name: "listen", env: "SEALGATE_LISTEN=8080", want: "is not an address and port"},
		{name: "port", env: "SEALGATE_LISTEN=:99999", want: "port between"},
		{name: "metrics in public", env: "SEALGATE_METRICS_LISTEN=127.0.0.1:8080", want: "must not be the public address"},
		{name: "http origin", env: "SEALGATE_PUBLIC_ORIGIN=http://id.example.gov.tw", want: "must be https://"},
		{name: "origin with slash", env: "SEALGATE_PUBLIC_ORIGIN=https://id.example.gov.tw/", want: "behind the host"},
		{name: "origin with default port", env: "SEALGATE_PUBLIC_ORIGIN=https://id.example.gov.tw:443", want: "leave out the port"},
		{name: "origin in capitals", env: "SEALGATE_PUBLIC_ORIGIN=https://ID.example.gov.tw", want: "lower case"},
		{name: "origin by address", env: "SEALGATE_PUBLIC_ORIGIN=https://10.0.0.1", want: "need a host name"},
		{name: "origin with user", env: "SEALGATE_PUBLIC_ORIGIN=https://me@id.example.gov.tw", want: "is not an origin"},
		{name: "foreign rp id", env: "SEALGATE_RP_ID=example.org", want: "domain above it"},
		{name: "half a label", env: "SEALGATE_RP_ID=ample.gov.tw", want: "domain above it"},
		{name: "public suffix", env: "SEALGATE_RP_ID=gov.tw", want: "public suffix"},
		{name: "parent rp id is fine", env: "SEALGATE_RP_ID=example.gov.tw"},
		{name: "database", env: "SEALGATE_DATABASE_URL=postgres://app:hidden-word@db:port/x", want: "database.url: not a PostgreSQL connection string"},
		{name: "half of tls", env: "SEALGATE_TLS_CERT_FILE=/dev/null", want: "belong together"},
		{name: "file that is not there", env: "SEALGATE_MASTER_KEY_FILE=/nowhere/key", want: "/nowhere/key does not exist"},
		{name: "policy", env: "SEALGATE_CARD_POLICY_OID=level-3", want: "not an object identifier"},
		{name: "max below lifetime", yaml: "order: {lifetime: 5m, max_lifetime: 2m}", want: "shorter than order.lifetime"},
		{name: "frames too old at once", yaml: "frame: {step: 10s}", want: "less than two frames"},
		{name: "link before scanner", yaml: "frame: {max_age_link: 8s}", want: "less than frame.max_age_scanner"},
		{name: "another master key that is not there", yaml: "other_master_key_files: [/dev/null, /nowhere/older]", want: "other_master_key_files: /nowhere/older does not exist"},
		{name: "other master keys are fine", yaml: "other_master_key_files: [/dev/null]"},
		{name: "hsm is fine", yaml: "hsm: {module: /dev/null, token_label: sign, pin_file: /dev/null, purposes: [ca-*, oidc, mobile]}"},
		{name: "hsm without a PIN", yaml: "hsm: {module: /dev/null, token_label: sign, purposes: [oidc]}", want: "hsm.pin_file: needed with hsm.module"},
		{name: "hsm without the module", yaml: "hsm: {purposes: [oidc]}", want: "hsm.purposes: set, but hsm.module is not"},
		{name: "hsm for what no key is for", yaml: "hsm: {module: /dev/null, token_label: sign, pin_file: /dev/null, purposes: [cookies]}", want: `hsm.purposes: "cookies" is none of`},
		{name: "attestation without roots", env: "SEALGATE_PASSKEY_ATTESTATION=enforced", want: "attestation_roots_dir: needed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := ""
			if tc.yaml != "" {
				path = write(t, tc.yaml)
			}
			_, err := Load(path, append(files(t), tc.env))
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			problems, ok := err.(Problems)
			if !ok || len(problems) != 1 || !strings.Contains(problems[0], tc.want) {
				t.Errorf("got %v, want one problem with %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "hidden-word") {
				t.Error("the error shows a password")
			}
		})
	}
}

func TestEverythingAtOnce(t *testing.T) {
	_, err := Load(write(t, "colour: red\nlisten: nowhere\nsigning: {batch_max: x}\n"), []string{"SEALGATE_SHAPE=round"})
	problems, ok := err.(Problems)
	if !ok || len(problems) != 10 {
		t.Fatalf("want 10 problems (4 wrong, 6 missing): %v", err)
	}
	if !strings.Contains(err.Error(), "10 problems:\n  - ") {
		t.Error(err)
	}
}

func TestDevelopmentNeedsNothing(t *testing.T) {
	c, err := LoadPreset("", nil, map[string]string{"dev": "true", "listen": "localhost:9000", "log.format": "text"})
	if err != nil {
		t.Fatal(err)
	}
	if c.PublicOrigin != "http://localhost:9000" || c.RPID != "localhost" || c.Log.Format != "text" {
		t.Errorf("%q %q %q", c.PublicOrigin, c.RPID, c.Log.Format)
	}
	if _, err := LoadPreset("", []string{"SEALGATE_LOG_FORMAT=json"}, map[string]string{"dev": "true", "log.format": "text"}); err != nil {
		t.Error(err)
	}
	if _, err := LoadPreset("", nil, map[string]string{"dev": "true", "nothing": "1"}); err == nil {
		t.Error("unknown preset key accepted")
	}
}

func TestDescribe(t *testing.T) {
	c, err := Load("", files(t))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range c.Describe() {
		if seen[s.Key] || s.Key == "" || s.Meaning == "" || s.Source == "" || !strings.HasPrefix(s.Variable, "SEALGATE_") {
			t.Errorf("row %+v", s)
		}
		seen[s.Key] = true
		if strings.Contains(s.Value, "hidden-word") {
			t.Errorf("%s shows a password: %s", s.Key, s.Value)
		}
		switch s.Key {
		case "mobile.certificate_lifetime":
			if s.Value != "365d" || !strings.Contains(s.Meaning, "24h to 365d") {
				t.Errorf("%+v", s)
			}
		case "order.max_lifetime":
			if s.Value != "20m" {
				t.Errorf("%+v", s)
			}
		}
	}
	if !seen["card.anchors_dir"] || !seen["metrics.listen"] {
		t.Error("rows are missing")
	}
}

// The values Describe shows can be set again.
func TestDefaultsAreTheirOwnText(t *testing.T) {
	for _, s := range Default().Describe() {
		if s.Default == "" {
			continue
		}
		if _, err := LoadPreset("", nil, map[string]string{"dev": "true", s.Key: s.Value}); err != nil {
			t.Errorf("%s: %v", s.Key, err)
		}
	}
}

func TestPasswordsAreHidden(t *testing.T) {
	for in, want := range map[string]string{
		"postgres://u:pw@h/d":         "postgres://u:xxxxx@h/d",
		"postgres://h/d?password=pw":  "postgres://h/d?password=xxxxx",
		"host=h user=u password='pw'": "(set, not shown)",
		"":                            "",
	} {
		if got := withoutPassword(in); got != want {
			t.Errorf("%q -> %q, want %q", in, got, want)
		}
	}
}

func TestUnreadableFiles(t *testing.T) {
	big := write(t, "# "+strings.Repeat("x", maxFileSize))
	for name, path := range map[string]string{
		"missing": "/nowhere.yaml", "directory": t.TempDir(), "too large": big, "not yaml": write(t, "a: [b"), "twice the same key": write(t, "dev: true\ndev: false"),
	} {
		if _, err := Load(path, files(t)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add("public_origin: https://id.example.gov.tw\ntrusted_proxies: [10.0.0.0/8]\norder: {lifetime: 90s}")
	f.Add("database: {url: 'postgres://u@h/d'}\n? [a, b]\n: c")
	path := filepath.Join(f.TempDir(), "f.yaml")
	f.Fuzz(func(t *testing.T, yaml string) {
		if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := LoadPreset(path, nil, map[string]string{"dev": "true"}); err == nil {
			if c.RPID == "" || c.Order.Lifetime < 30*time.Second || c.Signing.BatchMax < 1 {
				t.Errorf("accepted: %+v", c)
			}
		}
	})
}

// Failing open needs a purpose that exists, an end that is near, and a reason.
func TestAllowUnknownStatus(t *testing.T) {
	near, far := time.Now().Add(time.Hour).Format(time.RFC3339), time.Now().Add(91*24*time.Hour).Format(time.RFC3339)
	for name, tc := range map[string]struct {
		status, until, reason string
		problem               string
	}{
		"off":               {},
		"complete":          {"login,signing,binding", near, "outage", ""},
		"an end gone by":    {"login", "2020-01-01T00:00:00Z", "outage", ""},
		"unknown purpose":   {"login,loss", near, "outage", "neither login nor signing nor binding"},
		"no end":            {"login", "", "outage", "card.allow_unknown_until: needed"},
		"an end in words":   {"login", "tomorrow", "outage", "card.allow_unknown_until: needed"},
		"an end far ahead":  {"login", far, "outage", "more than 90 days"},
		"no reason":         {"login", near, "", "card.allow_unknown_reason: needed"},
		"nothing to end":    {"", near, "", "allows nothing"},
		"nothing to reason": {"", "", "outage", "allows nothing"},
	} {
		env := files(t)
		for key, text := range map[string]string{"STATUS": tc.status, "UNTIL": tc.until, "REASON": tc.reason} {
			if text != "" {
				env = append(env, "SEALGATE_CARD_ALLOW_UNKNOWN_"+key+"="+text)
			}
		}
		_, err := Load("", env)
		if (err == nil) != (tc.problem == "") || err != nil && !strings.Contains(err.Error(), tc.problem) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Another CA by EST needs an address, roots, and a way to prove who we are.
func TestOutsideAuthoritySettings(t *testing.T) {
	dir := t.TempDir()
	base := []string{"SEALGATE_DEV=true", "SEALGATE_ISSUING_MODE=est", "SEALGATE_ISSUING_ANCHORS_DIR=" + dir}
	full := map[string]string{"URL": "https://ca.example.test/.well-known/est/label", "ROOTS_FILE": "roots.pem", "USER": "u", "PASSWORD_FILE": "p"}
	for _, tc := range []struct{ name, key, value, want string }{
		{name: "control", key: "USER", value: "u"},
		{"plain http", "URL", "http://ca.example.test/.well-known/est", "issuing.est.url"},
		{"another path", "URL", "https://ca.example.test/est", "issuing.est.url"},
		{"a password in the address", "URL", "https://u:secret@ca.example.test/.well-known/est", "issuing.est.url"},
		{"no roots", "ROOTS_FILE", "", "issuing.est.roots_file: needed"},
		{"user without password", "PASSWORD_FILE", "", "belong together"},
		{"key without certificate", "CLIENT_KEY_FILE", "k.pem", "belong together"},
	} {
		environ := append([]string{}, base...)
		for k, v := range full {
			if k != tc.key {
				environ = append(environ, "SEALGATE_ISSUING_EST_"+k+"="+v)
			}
		}
		_, err := Load("", append(environ, "SEALGATE_ISSUING_EST_"+tc.key+"="+tc.value))
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: the password is told: %v", tc.name, err)
		}
	}
}
