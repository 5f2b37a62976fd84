package devstack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mediaferry/internal/devstack"
)

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// patience bounds every wait for something that must happen.
const patience = 2 * time.Minute

// eventually waits for a condition that another process brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s not yet: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func listening(ctx context.Context, address string) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func alive(pid int) bool {
	// A zombie still takes signals, but is a process no more.
	stat, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// startedBy returns the processes that a process has started, and those that these
// have started in turn.
func startedBy(t *testing.T, pid int) (all []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		child, parent := 0, 0
		_, _ = fmt.Sscan(string(text), &child)
		_, _ = fmt.Sscanf(string(text[bytes.LastIndexByte(text, ')')+1:]), " %c %d", new(rune), &parent)
		children[parent] = append(children[parent], child)
	}
	for next := children[pid]; len(next) > 0; next = next[1:] {
		all, next = append(all, next[0]), append(next, children[next[0]]...)
	}
	return all
}

func tempDir(t *testing.T) *devstack.Dir {
	t.Helper()
	dir, err := devstack.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dir.Close(); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Whatever becomes of the process, what it started ends with it, and the next
// one removes its folder.
func TestKilledStackLeavesNothing(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), roleEnv+"=stack")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var report stackReport
	if err := json.NewDecoder(stdout).Decode(&report); err != nil {
		t.Fatal(err)
	}
	for _, address := range report.Addresses {
		if !listening(t.Context(), address) {
			t.Errorf("nobody listens on %s", address)
		}
	}
	// Their ports tell nothing afterwards: others may listen there by then.
	started := startedBy(t, cmd.Process.Pid)
	if len(started) < len(report.Addresses)+len(report.PIDs) || !slices.Contains(started, report.PIDs[0]) {
		t.Errorf("processes %v are there, want a worker, %v, and the servers on %v", started, report.PIDs, report.Addresses)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, pid := range started {
		eventually(t, "the end of process "+itoa(pid), func() bool { return !alive(pid) })
	}
	eventually(t, "the removal of "+report.Dir, func() bool {
		dir, err := devstack.TempDir()
		if err != nil {
			t.Fatal(err)
		}
		_ = dir.Close()
		_, err = os.Stat(report.Dir)
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestDir(t *testing.T) {
	t.Parallel()
	dir, err := devstack.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir.Path()); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("mode %v, %v; want 0711", info.Mode(), err)
	}
	tempDir(t) // sweeps, and must leave what is in use
	if err := os.WriteFile(dir.Join("file"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if err := dir.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestKeptDir(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "b")
	dir, err := devstack.KeptDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := devstack.KeptDir(path); err == nil || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("the folder was taken twice: %v", err)
	}
	if err := dir.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the folder is gone: %v", err)
	}
	again, err := devstack.KeptDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// syncBuffer collects output from other goroutines.
type syncBuffer struct{ lines chan string }

func newSyncBuffer() *syncBuffer { return &syncBuffer{lines: make(chan string, 100)} }

func (b *syncBuffer) Write(p []byte) (int, error) { b.lines <- string(p); return len(p), nil }

func (b *syncBuffer) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-b.lines:
		return line
	case <-time.After(patience):
		t.Fatalf("no output for %s", patience)
		return ""
	}
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	out := newSyncBuffer()
	processes := devstack.NewProcesses(out)
	t.Cleanup(func() { processes.Stop(0) })
	for i, role := range []string{"obedient", "obedient", "stubborn"} {
		index, err := processes.Start(t.Context(), devstack.Command{Name: "worker-" + itoa(i+1), Env: []string{roleEnv + "=" + role}})
		if err != nil || index != i {
			t.Fatalf("Start = %d, %v; want %d", index, err, i)
		}
		if got, want := out.next(t), "worker-"+itoa(i+1)+" | ready\n"; got != want {
			t.Errorf("output %q, want %q", got, want)
		}
	}
	pids := processes.PIDs()
	if err := processes.Kill(1); err != nil {
		t.Fatal(err)
	}
	if got, want := out.next(t), "worker-2 | ended: signal: killed\n"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	if now := processes.PIDs(); now[0] != pids[0] || now[1] != 0 || now[2] != pids[2] {
		t.Errorf("PIDs %v, were %v", now, pids)
	}
	if err := processes.Kill(3); err == nil {
		t.Error("process 3 of 3 was killed")
	}
	processes.Stop(100 * time.Millisecond)
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d is still there", pid)
		}
	}
	if _, err := processes.Start(t.Context(), devstack.Command{Name: "late"}); err == nil {
		t.Error("a process was started after Stop")
	}
}

func TestProcessOutput(t *testing.T) {
	t.Parallel()
	out := newSyncBuffer()
	processes := devstack.NewProcesses(out)
	t.Cleanup(func() { processes.Stop(0) })
	if _, err := processes.Start(t.Context(), devstack.Command{Name: "w", Env: []string{roleEnv + "=talker"}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"w | one\n", "w | two\n", "w | no end of line\n", "w | ended: exit status 3\n"} {
		if got := out.next(t); got != want {
			t.Errorf("output %q, want %q", got, want)
		}
	}
	if err := processes.Kill(0); err != nil {
		t.Errorf("Kill of what has ended: %v", err)
	}
}

func TestProcessThatCannotStart(t *testing.T) {
	t.Parallel()
	processes := devstack.NewProcesses(newSyncBuffer())
	if _, err := processes.Start(t.Context(), devstack.Command{Path: "/no/such/program"}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v", err)
	}
	processes.Stop(0)
}
