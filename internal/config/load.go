package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

const (
	envPrefix   = "SEALGATE_"
	maxFileSize = 1 << 20 // bytes
)

// notSettings are SEALGATE_ variables that other parts of the project read.
var notSettings = []string{"SEALGATE_TEST_", "SEALGATE_CONFIG"}

// Problems is the error of Load: everything that is wrong, one line each.
type Problems []string

// Error lists the problems.
func (p Problems) Error() string {
	if len(p) == 1 {
		return "configuration: " + p[0]
	}
	return fmt.Sprintf("configuration: %d problems:\n  - %s", len(p), strings.Join(p, "\n  - "))
}

// Load reads the file (none when path is empty) and the environment (as
// os.Environ gives it) and checks the whole. The error is a Problems, or says
// that the file cannot be read.
func Load(path string, environ []string) (Config, error) {
	return LoadPreset(path, environ, nil)
}

// LoadPreset is Load with other defaults: key to text, as in the environment.
func LoadPreset(path string, environ []string, preset map[string]string) (Config, error) {
	l := loader{values: map[string]value{}, fields: fields(new(Config))}
	for key, text := range preset {
		l.take(key, text, "preset")
	}
	if path != "" {
		if err := l.readFile(path); err != nil {
			return Config{}, err
		}
	}
	l.readEnvironment(environ)
	cfg := l.assign()
	l.problems = append(l.problems, cfg.complete()...)
	if len(l.problems) > 0 {
		sort.Strings(l.problems)
		return Config{}, Problems(l.problems)
	}
	return cfg, nil
}

// Default is the configuration without file and environment. It is not
// complete: public_origin, the database and the keys have no defaults.
func Default() Config {
	l := loader{values: map[string]value{}, fields: fields(new(Config))}
	return l.assign()
}

// value is a setting as it was found.
type value struct {
	raw    any // string from environment, preset and defaults; any YAML type from the file
	source string
}

type loader struct {
	fields   []field
	values   map[string]value
	problems []string
}

func (l *loader) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// take notes a value; later ones win.
func (l *loader) take(key string, raw any, source string) {
	if !l.known(key) {
		l.problem("%s: no such key (%s)%s", key, source, l.suggest(key))
		return
	}
	l.values[key] = value{raw, source}
}

func (l *loader) known(key string) bool {
	for _, f := range l.fields {
		if f.key == key {
			return true
		}
	}
	return false
}

// suggest helps with a key in the wrong section.
func (l *loader) suggest(key string) string {
	last := key[strings.LastIndexByte(key, '.')+1:]
	for _, f := range l.fields {
		if f.key == last || strings.HasSuffix(f.key, "."+last) {
			return "; did you mean " + f.key + "?"
		}
	}
	return ""
}

func (l *loader) section(key string) bool {
	for _, f := range l.fields {
		if strings.HasPrefix(f.key, key+".") {
			return true
		}
	}
	return false
}

func (l *loader) readFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileSize {
		return fmt.Errorf("configuration file: %s is no regular file of at most %d bytes", path, maxFileSize)
	}
	k := koanf.New(".")
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return fmt.Errorf("configuration file: %s: %w", path, err)
	}
	flat := k.All()
	for key, raw := range flat {
		if raw == nil {
			if !l.section(key) && !l.known(key) {
				l.problem("%s: no such key (%s)%s", key, path, l.suggest(key))
			}
			continue // "tls:" with nothing below is as good as absent
		}
		l.take(key, raw, path)
	}
	return nil
}

func (l *loader) readEnvironment(environ []string) {
	byVariable := map[string]string{}
	for _, f := range l.fields {
		byVariable[f.variable()] = f.key
	}
	var databaseURL string
	for _, entry := range environ {
		name, text, ok := strings.Cut(entry, "=")
		switch {
		case !ok || text == "": // set to nothing is as good as not set
		case name == "DATABASE_URL":
			databaseURL = text
		case strings.HasPrefix(name, envPrefix) && !foreign(name):
			key, ok := byVariable[name]
			if !ok {
				l.problem("%s: no such variable; see the table of keys", name)
				continue
			}
			l.take(key, text, "environment "+name)
		}
	}
	if databaseURL != "" && !strings.HasPrefix(l.values["database.url"].source, "environment ") {
		l.take("database.url", databaseURL, "environment DATABASE_URL")
	}
}

func foreign(name string) bool {
	for _, p := range notSettings {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// assign puts values and defaults into a Config.
func (l *loader) assign() Config {
	var cfg Config
	cfg.sources = map[string]string{}
	for _, f := range fields(&cfg) {
		v, ok := l.values[f.key]
		if !ok {
			v = value{f.fallback, "default"}
			if f.fallback == "" {
				cfg.sources[f.key] = "not set"
				continue
			}
		}
		cfg.sources[f.key] = v.source
		if err := f.set(v.raw); err != nil {
			l.problem("%s: %v (%s)", f.key, err, v.source)
			if f.fallback != "" {
				_ = f.set(f.fallback) // or the checks across fields would complain as well
			}
		}
	}
	return cfg
}

// field is one leaf of Config.
type field struct {
	key, doc, fallback, min, max string
	oneof                        []string
	file, secret                 bool
	value                        reflect.Value
}

func (f field) variable() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(f.key, ".", "_"))
}

// paths lists the files that the field names.
func (f field) paths() []string {
	if !f.file {
		return nil
	}
	switch v := f.value.Interface().(type) {
	case string:
		if v != "" {
			return []string{v}
		}
	case []string:
		return v
	}
	return nil
}

// fields lists the leaves of the configuration in the order of the struct.
func fields(cfg *Config) []field { return collect(reflect.ValueOf(cfg).Elem(), "") }

func collect(v reflect.Value, prefix string) []field {
	var out []field
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		name, ok := sf.Tag.Lookup("key")
		if !ok {
			continue
		}
		if sf.Type.Kind() == reflect.Struct {
			out = append(out, collect(v.Field(i), prefix+name+".")...)
			continue
		}
		out = append(out, field{
			key: prefix + name, doc: sf.Tag.Get("doc"), fallback: sf.Tag.Get("default"),
			min: sf.Tag.Get("min"), max: sf.Tag.Get("max"), oneof: strings.Fields(sf.Tag.Get("oneof")),
			file: sf.Tag.Get("file") != "", secret: sf.Tag.Get("secret") != "", value: v.Field(i),
		})
	}
	return out
}

// set parses raw into the field and checks its own limits.
func (f field) set(raw any) error {
	switch p := f.value.Addr().Interface().(type) {
	case *string:
		s, err := text(raw)
		if err != nil {
			return err
		}
		if len(f.oneof) > 0 && !contains(f.oneof, s) {
			return fmt.Errorf("%q is none of %s", s, strings.Join(f.oneof, ", "))
		}
		*p = s
	case *bool:
		return setBool(p, raw)
	case *int:
		return f.setInt(p, raw)
	case *time.Duration:
		return f.setDuration(p, raw)
	case *[]string:
		return setList(p, raw, func(s string) (string, error) { return s, nil })
	case *[]netip.Prefix:
		return setList(p, raw, parsePrefix)
	default:
		return fmt.Errorf("internal: fields of type %s are not read", f.value.Type())
	}
	return nil
}

func text(raw any) (string, error) {
	switch v := raw.(type) {
	case string:
		if strings.ContainsAny(v, "\x00\r\n") {
			return "", errors.New("line breaks are not allowed")
		}
		return strings.TrimSpace(v), nil
	case int, float64, bool: // YAML reads a bare 8080, 1.5 or yes as these
		return fmt.Sprint(v), nil
	}
	return "", errors.New("must be a text")
}

func setBool(p *bool, raw any) error {
	s, err := text(raw)
	if err != nil {
		return errors.New("must be true or false")
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", s)
	}
	*p = b
	return nil
}

func (f field) setInt(p *int, raw any) error {
	s, err := text(raw)
	if err != nil {
		return errors.New("must be a whole number")
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("%q is not a whole number", s)
	}
	low, _ := strconv.Atoi(f.min)
	high, _ := strconv.Atoi(f.max)
	if n < low || n > high {
		return fmt.Errorf("%d is not between %d and %d", n, low, high)
	}
	*p = n
	return nil
}

func (f field) setDuration(p *time.Duration, raw any) error {
	s, err := text(raw)
	if err != nil {
		return errors.New(`must be a duration such as "90s", "20m" or "365d"`)
	}
	d, err := parseDuration(s)
	if err != nil {
		return err
	}
	low, _ := parseDuration(f.min)
	high, _ := parseDuration(f.max)
	if d < low || d > high {
		return fmt.Errorf("%s is not between %s and %s", s, f.min, f.max)
	}
	*p = d
	return nil
}

// parseDuration reads a Go duration or a number of days.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err == nil && n >= 0 && n <= 100*366 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf(`%q is not a duration such as "90s", "20m" or "365d"`, s)
	}
	return d, nil
}

// setList reads a YAML list of texts, or one text with commas.
func setList[T any](p *[]T, raw any, parse func(string) (T, error)) error {
	var parts []string
	switch v := raw.(type) {
	case string:
		for _, s := range strings.Split(v, ",") {
			if s = strings.TrimSpace(s); s != "" {
				parts = append(parts, s)
			}
		}
	case []any:
		for _, e := range v {
			s, err := text(e)
			if err != nil {
				return errors.New("must be a list of texts")
			}
			parts = append(parts, s)
		}
	default:
		return errors.New("must be a list of texts")
	}
	out := make([]T, 0, len(parts))
	for _, s := range parts {
		e, err := parse(s)
		if err != nil {
			return err
		}
		out = append(out, e)
	}
	*p = out
	return nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is not a network such as 10.1.0.0/16", s)
	}
	return p.Masked(), nil
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// missing says whether the file or directory is not there.
func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}
