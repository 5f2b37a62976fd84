package movers

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spin is a shell that burns CPU in itself and in a child that it waits for.
const spin = `burn() { i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done; }; burn; (burn); `

func TestRunCountsCPUAndMemory(t *testing.T) {
	t.Parallel()
	// dd's buffer is touched as a whole, so it shows in the peak.
	cmd := Command(t.Context(), "sh", "-c", spin+"exec dd if=/dev/zero of=/dev/null bs=64M count=30")
	cost, err := run(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	if cost.Wall <= 0 || cost.TotalCPU() <= 30*time.Millisecond || cost.TotalCPU() > 3*cost.Wall {
		t.Errorf("CPU %s in %s", cost.TotalCPU(), cost.Wall)
	}
	if mib := cost.TotalRSS() >> 20; mib < 64 || mib > 100 {
		t.Errorf("peak of %d MiB, want the 64 MiB of the buffer and little more", mib)
	}
}

func TestRunReportsFailure(t *testing.T) {
	t.Parallel()
	_, err := run(t.Context(), Command(t.Context(), "sh", "-c", "echo broken pipe dream >&2; exit 3"))
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 3 || !strings.Contains(err.Error(), "broken pipe dream") {
		t.Errorf("exit 3: %v", err)
	}
	if _, err := run(t.Context(), Command(t.Context(), "sh", "-c", "kill -9 $$")); err == nil {
		t.Error("a killed process is a success")
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("took too long"))
	defer cancel()
	if _, err := run(ctx, Command(ctx, "sleep", "60")); err == nil || !strings.Contains(err.Error(), "took too long") {
		t.Errorf("a process past its time: %v", err)
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	cmd := Command(t.Context(), "sh", "-c", "read go; "+spin+"echo done; read stop")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	meter, err := StartMeter(map[string]int{RoleWorker: cmd.Process.Pid})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cost, err := meter.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if cpu := cost.CPU[RoleWorker]; cpu < 30*time.Millisecond || cpu > 3*cost.Wall {
		t.Errorf("CPU %s in %s", cpu, cost.Wall)
	}
	if cost.PeakRSS[RoleWorker] == 0 {
		t.Error("no peak")
	}

	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the shell's last read fails
	if _, err := meter.Stop(); err == nil {
		t.Error("a process that is gone was measured")
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	parent, cpu, ok := parseStat("42 (a ) b) S 7 42 42 0 -1 4194560 100 200 0 0 3 4 5 6 20 0 1 0 100 0 0")
	if !ok || parent != 7 || cpu != 180*time.Millisecond {
		t.Errorf("parent %d, CPU %s, %v", parent, cpu, ok)
	}
	for _, line := range []string{"", "42 no name", "42 (x) S 7", "42 (x) S x 42 42 0 -1 0 0 0 0 0 3 4 5 6"} {
		if _, _, ok := parseStat(line); ok {
			t.Errorf("parsed %q", line)
		}
	}
}

func TestCostThen(t *testing.T) {
	t.Parallel()
	down := Cost{Wall: time.Second, CPU: map[string]time.Duration{RoleClient: 2}, PeakRSS: map[string]int64{RoleClient: 5}}
	up := Cost{Wall: time.Second, CPU: map[string]time.Duration{RoleClient: 3}, PeakRSS: map[string]int64{RoleClient: 4}}
	if sum := down.then(up); sum.Wall != 2*time.Second || sum.TotalCPU() != 5 || sum.TotalRSS() != 5 {
		t.Errorf("%+v", sum)
	}
}
