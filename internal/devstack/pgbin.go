package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
)

// pgBinEnv names the folder of postgres and initdb; it wins over what is found.
const pgBinEnv = "MEDIAFERRY_PG_BIN"

// pgPlaces returns patterns of folders in which packages put Postgres.
func pgPlaces() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",                            // Debian
		"/usr/pgsql-*/bin",                                     // Red Hat
		"/opt/homebrew/opt/postgresql@*/bin",                   // Homebrew, Apple silicon
		"/usr/local/opt/postgresql@*/bin",                      // Homebrew, Intel
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",      // Homebrew, Linux
		"/Applications/Postgres.app/Contents/Versions/*/bin",   // Postgres.app
		"/usr/local/pgsql/bin", "/usr/libexec/postgresql*/bin", // from source, Alpine
	}
}

// findPostgres returns the folder of the newest Postgres, or of the newest
// with the major version that wrote the data if there is one.
func findPostgres(ctx context.Context, major string) (string, error) {
	if dir := os.Getenv(pgBinEnv); dir != "" {
		found := pgVersion(ctx, dir)
		switch {
		case found == 0:
			return "", fmt.Errorf("%s=%s has no working postgres and initdb; give their folder", pgBinEnv, dir)
		case major != "" && major != strconv.Itoa(found):
			return "", fmt.Errorf("the data were written by Postgres %s, but %s has %d; take another data folder or other binaries",
				major, pgBinEnv, found)
		}
		return dir, nil
	}
	var dirs []string
	for _, place := range pgPlaces() {
		matches, _ := filepath.Glob(place) // fails on a bad pattern only
		dirs = append(dirs, matches...)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	type install struct {
		dir   string
		major int
	}
	var installs []install
	for _, dir := range dirs {
		if v := pgVersion(ctx, dir); v != 0 && (major == "" || major == strconv.Itoa(v)) {
			installs = append(installs, install{dir, v})
		}
	}
	if len(installs) == 0 {
		return "", missingPostgres(major)
	}
	newest := slices.MaxFunc(installs, func(a, b install) int { return cmp.Compare(a.major, b.major) })
	return newest.dir, nil
}

func missingPostgres(major string) error {
	want := "no Postgres was found"
	if major != "" {
		want = "the data were written by Postgres " + major + ", which was not found"
	}
	hint := "run `apt-get install postgresql` or `make setup`"
	if runtime.GOOS == "darwin" {
		hint = "run `brew install postgresql@17` or `make setup`"
	}
	return fmt.Errorf("%s; %s, or set %s to the folder of its programs", want, hint, pgBinEnv)
}

// pgVersion returns the major version of the postgres in dir, 0 if that or
// its initdb does not work.
func pgVersion(ctx context.Context, dir string) int {
	if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
		return 0
	}
	text, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "-V").Output() //nolint:gosec // the operator chooses the binaries
	if err != nil {
		return 0
	}
	match := regexp.MustCompile(`\(PostgreSQL\) (\d+)`).FindSubmatch(text)
	if match == nil {
		return 0
	}
	major, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return 0
	}
	return major
}

// account is who a server runs as; nil is ourselves.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount returns another account if we are root, which Postgres refuses
// to run as.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil // no other account is needed
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if uerr == nil && gerr == nil && uid != 0 {
			return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("Postgres does not run as root, and there is no account postgres or nobody to run it as")
}

// own gives a file to the account.
func (a *account) own(name string) error {
	if a == nil {
		return nil
	}
	if err := os.Lchown(name, int(a.uid), int(a.gid)); err != nil {
		return fmt.Errorf("give it to %s: %w", a.name, err)
	}
	return nil
}

// checkReach says which folder on the way to path the account cannot enter:
// the server's own words do not.
func (a *account) checkReach(path string) error {
	if a == nil {
		return nil
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("look at the data folder: %w", err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("Postgres runs as %s, who may not enter %s; choose another data folder (temporary ones are in TMPDIR) or run `chmod o+x '%s'`",
				a.name, dir, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}
