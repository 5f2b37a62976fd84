package movers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sampleEvery is how often a process's peak is read. It is a high-water mark, so
// what a sample misses is only what was first used after the last one.
const sampleEvery = 20 * time.Millisecond

// clockTick is the unit of CPU times in /proc: USER_HZ, 100 on every Linux that
// Go runs on.
const clockTick = 10 * time.Millisecond

// Command prepares a child that dies with this process and is killed with ctx.
func Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // the programs under test, by design
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs a process from start to end and returns its cost. CPU time is the
// kernel's account at its end and includes descendants that it waited for. Peak
// memory is sampled, because the kernel's own (ru_maxrss) starts at that of the
// parent. A process that fails is an error with the end of what it
// wrote.
func run(ctx context.Context, cmd *exec.Cmd) (Cost, error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return Cost{}, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	ended := make(chan struct{})
	peak := make(chan int64)
	go func() { peak <- watchPeak(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	wall := time.Since(start)
	close(ended)
	rss := <-peak
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = errors.Join(cause, err)
	}
	if err != nil {
		return Cost{}, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, tail(said.Bytes()))
	}
	return Cost{
		Wall:    wall,
		CPU:     map[string]time.Duration{RoleClient: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()},
		PeakRSS: map[string]int64{RoleClient: rss},
	}, nil
}

func tail(text []byte) []byte {
	const keep = 1 << 10
	return bytes.TrimSpace(text[max(0, len(text)-keep):])
}

func watchPeak(pid int, ended <-chan struct{}) int64 {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	var peak int64
	for {
		select {
		case <-ended:
			return peak
		case <-tick.C:
			peak = max(peak, highWater(pid))
		}
	}
}

// highWater returns the peak resident size in bytes, 0 for a process that is gone.
func highWater(pid int) int64 {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// Meter measures services that run on: the cost between its start and its stop.
// A role is one process and its descendants. It does nothing in between, so that
// measuring costs the measured nothing.
type Meter struct {
	start time.Time
	roots map[string]int
	cpu   map[string]time.Duration
}

// StartMeter begins to measure the process trees with these process ids, by role.
// It resets the processes' high-water marks, so the peaks are those of the
// measured time.
func StartMeter(roots map[string]int) (*Meter, error) {
	m := &Meter{roots: maps.Clone(roots), cpu: map[string]time.Duration{}}
	for role, root := range m.roots {
		pids, cpu, err := tree(root)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", role, err)
		}
		m.cpu[role] = cpu
		for _, pid := range pids {
			// 5 resets VmHWM. A process of another user refuses, and its mark
			// since its start is then an upper bound.
			_ = os.WriteFile(filepath.Join("/proc", strconv.Itoa(pid), "clear_refs"), []byte("5"), 0)
		}
	}
	m.start = time.Now()
	return m, nil
}

// Stop ends the measurement. A root process that is gone is an error: its CPU
// time can no longer be told. Memory that the processes of one tree share, as
// Postgres's do, is counted once for each: an upper bound.
func (m *Meter) Stop() (Cost, error) {
	cost := Cost{Wall: time.Since(m.start), CPU: map[string]time.Duration{}, PeakRSS: map[string]int64{}}
	for role, root := range m.roots {
		pids, cpu, err := tree(root)
		if err != nil {
			return Cost{}, fmt.Errorf("measure %s: %w", role, err)
		}
		cost.CPU[role] = cpu - m.cpu[role]
		for _, pid := range pids {
			cost.PeakRSS[role] += highWater(pid)
		}
	}
	return cost, nil
}

// tree returns the process ids of a process and its living descendants, and the
// CPU time of all, dead descendants that were waited for included.
func tree(root int) ([]int, time.Duration, error) {
	children, cpu, err := scan()
	if err != nil {
		return nil, 0, err
	}
	if _, ok := cpu[root]; !ok {
		return nil, 0, fmt.Errorf("process %d is gone", root)
	}
	pids := []int{root}
	total := cpu[root]
	for i := 0; i < len(pids); i++ {
		for _, child := range children[pids[i]] {
			if !slices.Contains(pids, child) {
				pids = append(pids, child)
				total += cpu[child]
			}
		}
	}
	return pids, total, nil
}

// scan reads /proc: the children and the CPU time of every process.
func scan() (children map[int][]int, cpu map[int]time.Duration, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, nil, fmt.Errorf("list processes: %w", err)
	}
	children, cpu = map[int][]int{}, map[int]time.Duration{}
	for _, path := range stats {
		text, err := os.ReadFile(path) //nolint:gosec // under /proc
		if err != nil {
			continue // ended meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		parent, used, ok := parseStat(string(text))
		if !ok {
			continue
		}
		children[parent] = append(children[parent], pid)
		cpu[pid] = used
	}
	return children, cpu, nil
}

// parseStat takes the parent and the CPU time out of a line of /proc/<pid>/stat.
// The name in parentheses may hold anything, so fields count from its end.
func parseStat(line string) (parent int, cpu time.Duration, ok bool) {
	const ppid, utime, cstime = 1, 11, 14 // after the name: state is 0
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return 0, 0, false
	}
	fields := strings.Fields(line[end+1:])
	if len(fields) <= cstime {
		return 0, 0, false
	}
	parent, err := strconv.Atoi(fields[ppid])
	if err != nil {
		return 0, 0, false
	}
	for _, field := range fields[utime : cstime+1] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, false
		}
		cpu += time.Duration(ticks) * clockTick
	}
	return parent, cpu, true
}
