package config

import (
	"net/url"
	"strings"
)

// checkIssuing wants all that another CA needs, and nothing half.
func (c *Config) checkIssuing(add adder) {
	i, e := c.Issuing, c.Issuing.EST
	if i.Mode != "own" && i.AnchorsDir == "" {
		add("issuing.anchors_dir: needed with issuing.mode %s", i.Mode)
	}
	for _, setting := range []struct{ key, value string }{
		{"url", e.URL}, {"roots_file", e.RootsFile}, {"client_cert_file", e.ClientCertFile}, {"client_key_file", e.ClientKeyFile},
		{"user", e.User}, {"password_file", e.PasswordFile},
	} {
		if i.Mode != "est" && setting.value != "" {
			add("issuing.est.%s: set, but issuing.mode is %s", setting.key, i.Mode)
		}
	}
	if (e.ClientCertFile == "") != (e.ClientKeyFile == "") {
		add("issuing.est: client_cert_file and client_key_file belong together")
	}
	if (e.User == "") != (e.PasswordFile == "") {
		add("issuing.est: user and password_file belong together")
	}
	if i.Mode != "est" {
		return
	}
	u, err := url.Parse(e.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || !strings.HasPrefix(u.Path, "/.well-known/est") || u.RawQuery != "" {
		add("issuing.est.url: %q is not an address such as https://ca.example.gov.tw/.well-known/est", withoutPassword(e.URL))
	}
	if e.RootsFile == "" {
		add("issuing.est.roots_file: needed with issuing.mode est")
	}
	if e.ClientCertFile == "" && e.User == "" {
		add("issuing.est: a client certificate (client_cert_file) or a password (user) is needed with issuing.mode est")
	}
}
