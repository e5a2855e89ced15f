package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Setting is one row of the table that Describe gives.
type Setting struct {
	// Key is the key in the file, with its section: "card.anchors_dir".
	Key string
	// Variable is the environment variable: "SEALGATE_CARD_ANCHORS_DIR".
	Variable string
	// Meaning says what it is for; limits and choices are added.
	Meaning string
	// Default is the value without file and environment; may be empty.
	Default string
	// Value is the value in force, as text. Passwords are not shown.
	Value string
	// Source says where Value is from: "default", "preset", the file's path,
	// "environment NAME", or what it was derived from.
	Source string
}

// Describe lists every key in a fixed order.
func (c Config) Describe() []Setting {
	all := fields(&c)
	rows := make([]Setting, 0, len(all))
	for _, f := range all {
		row := Setting{Key: f.key, Variable: f.variable(), Meaning: f.doc, Default: f.fallback, Value: f.show(), Source: c.sources[f.key]}
		if len(f.oneof) > 0 {
			row.Meaning += " (" + strings.Join(f.oneof, ", ") + ")"
		}
		if f.min != "" {
			row.Meaning += fmt.Sprintf(" (%s to %s)", f.min, f.max)
		}
		rows = append(rows, row)
	}
	return rows
}

// show writes the field's value as it would be set.
func (f field) show() string {
	switch v := f.value.Interface().(type) {
	case string:
		if f.secret {
			return withoutPassword(v)
		}
		return v
	case time.Duration:
		return showDuration(v)
	case []string:
		return strings.Join(v, ",")
	case []netip.Prefix:
		parts := make([]string, len(v))
		for i, p := range v {
			parts[i] = p.String()
		}
		return strings.Join(parts, ",")
	default:
		return fmt.Sprint(v)
	}
}

func showDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// withoutPassword hides everything that could be a password. A connection
// string may also be in the form of key=value pairs.
func withoutPassword(s string) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Opaque != "" {
		return "(set, not shown)"
	}
	q := u.Query()
	if q.Has("password") {
		q.Set("password", "xxxxx")
		u.RawQuery = q.Encode()
	}
	return u.Redacted()
}
