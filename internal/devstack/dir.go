package devstack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const (
	tempPrefix = "mediaferry-dev-"
	lockName   = "lock"
	// dirMode lets other users pass through, but not look around: as root,
	// Postgres runs under an account of its own and must reach its folder.
	dirMode = 0o711
)

// Dir is the folder of a stack. It is locked, so that no two stacks share one
// and a folder whose owner was killed can be told from one in use.
type Dir struct {
	path string
	temp bool
	lock *os.File
}

// TempDir makes a folder that Close removes. It also removes the folders of
// stacks whose process is gone.
func TempDir() (*Dir, error) {
	removeStale()
	for {
		path, err := os.MkdirTemp("", tempPrefix)
		if err != nil {
			return nil, fmt.Errorf("make a temporary folder: %w", err)
		}
		dir, err := lockDir(path)
		if errors.Is(err, errInUse) || errors.Is(err, os.ErrNotExist) {
			continue // another process saw it before its lock and took it for stale
		}
		if err != nil {
			return nil, err
		}
		dir.temp = true
		return dir, nil
	}
}

// KeptDir takes the folder, making it if it is missing, and leaves it in place
// when it is closed.
func KeptDir(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := os.MkdirAll(path, dirMode); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	return lockDir(path)
}

var errInUse = errors.New("another process uses it")

func lockDir(path string) (*Dir, error) {
	if err := os.Chmod(path, dirMode); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	name := filepath.Join(path, lockName)
	lock, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator chooses the folder
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errInUse
	}
	if err == nil {
		// The lock may be one on a file that was just removed.
		_, err = os.Stat(name)
	}
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("data folder %s: %w", path, err)
	}
	return &Dir{path: path, lock: lock}, nil
}

// removeStale removes temporary folders that nobody holds the lock of. A
// folder without a lock file is left: its owner is about to make one.
func removeStale() {
	paths, _ := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*", lockName))
	for _, name := range paths {
		lock, err := os.OpenFile(name, os.O_RDWR, 0) //nolint:gosec // in our temporary folders only
		if err != nil {
			continue // not ours
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(name))
		}
		_ = lock.Close()
	}
}

// Path returns the absolute path.
func (d *Dir) Path() string { return d.path }

// Join returns a path within the folder.
func (d *Dir) Join(name string) string { return filepath.Join(d.path, name) }

// Close gives the folder up and removes it if it is temporary. What runs in
// it must be stopped before.
func (d *Dir) Close() error {
	var err error
	if d.temp {
		err = os.RemoveAll(d.path)
	}
	if cerr := d.lock.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("close folder %s: %w", d.path, err)
	}
	return nil
}
