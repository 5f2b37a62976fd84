package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// sample is what one process takes at one moment.
type sample struct {
	at      time.Time
	pid     int
	rss     int64 // bytes
	threads int
}

// watch samples every process once a second until ctx ends.
func (w *world) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, r := range w.roles {
			r.mu.Lock()
			if s, err := sampleOf(r.pid); err == nil {
				r.ran = append(r.ran, s)
			}
			r.mu.Unlock()
		}
	}
}

func sampleOf(pid int) (sample, error) {
	s := sample{at: time.Now(), pid: pid}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return s, fmt.Errorf("sample a process: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch name {
		case "VmRSS":
			_, _ = fmt.Sscan(value, &s.rss)
			s.rss *= kib
		case "Threads":
			_, _ = fmt.Sscan(value, &s.threads)
		}
	}
	return s, nil
}
