package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// OwnTSA is the name of the service's own time-stamp authority.
const OwnTSA = "own"

// TSAAuthority is one of tsa.authorities, read.
type TSAAuthority struct {
	Name    string
	URL     string // "" for the service's own
	Policy  string // "" for the authority's choice
	Timeout time.Duration
}

// List reads tsa.authorities.
func (t TSA) List() ([]TSAAuthority, error) {
	var all []TSAAuthority
	names := map[string]bool{}
	for _, line := range t.Authorities {
		a, err := t.authority(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		if names[a.Name] {
			return nil, fmt.Errorf("%q: the name %s is there twice", line, a.Name)
		}
		names[a.Name] = true
		all = append(all, a)
	}
	return all, nil
}

func (t TSA) authority(line string) (TSAAuthority, error) {
	parts := strings.Fields(line)
	a := TSAAuthority{Timeout: t.Timeout}
	if len(parts) == 0 {
		return a, errors.New("no address")
	}
	if parts[0] == OwnTSA {
		a.Name = OwnTSA
	} else {
		u, err := url.Parse(parts[0])
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
			return a, errors.New("not an address such as https://tsa.example.gov.tw/tsr, and not own")
		}
		a.URL, a.Name = parts[0], u.Host
	}
	for _, option := range parts[1:] {
		key, value, _ := strings.Cut(option, "=")
		switch {
		case key == "name" && value != "" && a.URL != "":
			a.Name = value
		case key == "policy" && oidForm.MatchString(value):
			a.Policy = value
		case key == "timeout":
			d, err := parseDuration(value)
			if err != nil || d < 100*time.Millisecond || d > 2*time.Minute {
				return a, errors.New("timeout is not between 100ms and 2m")
			}
			a.Timeout = d
		default:
			return a, fmt.Errorf("%q is none of name=WORD, policy=OID, timeout=5s", option)
		}
	}
	return a, nil
}

// checkTSA wants authorities that can be asked and believed.
func (c *Config) checkTSA(add adder) {
	if len(c.TSA.Authorities) == 0 && c.Dev {
		c.TSA.Authorities = []string{OwnTSA}
		c.sources["tsa.authorities"] = "development"
	}
	list, err := c.TSA.List()
	if err != nil {
		add("tsa.authorities: %v", err)
	}
	for _, a := range list {
		if a.URL != "" && c.TSA.AnchorsDir == "" {
			add("tsa.anchors_dir: needed to believe %s", a.Name)
		}
	}
	if c.Signing.Level != "B-B" && len(c.TSA.Authorities) == 0 {
		add("signing.level: %s needs tsa.authorities", c.Signing.Level)
	}
}
