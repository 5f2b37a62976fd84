package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Between a process that has done a little of everything and the same, or its
// successor, when nothing is left to do.
const (
	moreGoroutines = 20       // connections that are opened when they are first needed
	moreHeap       = 16 * mib // live after a collection; a worker's slots keep their buffers beside that
	quietPatience  = 20 * time.Second
	quietRest      = 2 * time.Second // until connections that are closed are gone
	warmUploads    = 1               // of every account, before anything is measured
)

// stillness is what a process holds while it has nothing to do.
type stillness struct {
	role       string
	kind       string
	goroutines int
	heap       int64 // live bytes, right after a collection
	err        error
	stacks     string // where there are too many goroutines
}

// warmUp brings uploads to every account and waits until all have ended, so that
// what is measured then has what a process needs for its work.
func (l *load) warmUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var warm []*submission
	for i, a := range l.w.accounts {
		for n := range warmUploads {
			warm = append(warm, &submission{
				number: 1, key: fmt.Sprintf("warm-%d-%d-%d.mp4", l.w.opts.seed, i, n), size: 5 * mib, account: a,
			})
		}
	}
	l.all = append(l.all, warm...)
	for _, s := range warm {
		if err := l.submit(ctx, s); err != nil {
			return err
		}
	}
	for {
		now, err := progressOf(ctx, l.w.postgres.DSN())
		if err != nil || now.unended == 0 {
			return err
		}
		if !wait(ctx, 100*time.Millisecond) {
			return fmt.Errorf("%d uploads have not ended before any fault: %w", now.unended, context.Cause(ctx))
		}
	}
}

// still measures every process of ours at rest. It looks until no more than
// bound allows is held, and takes the last look where that does not come.
func (w *world) still(ctx context.Context, bound func(stillness) bool) (all []stillness) {
	for _, s := range w.servers {
		s.CloseIdle()
	}
	wait(ctx, quietRest)
	for _, r := range w.roles {
		if r.metrics == "" {
			continue
		}
		s := stillness{role: r.name, kind: r.kind}
		for until := time.Now().Add(quietPatience); ; {
			s.goroutines, s.heap, s.err = w.held(ctx, r)
			if s.err == nil && bound(s) || time.Now().After(until) || !wait(ctx, 500*time.Millisecond) {
				break
			}
		}
		if s.err == nil && !bound(s) {
			s.stacks = w.stacks(ctx, r)
		}
		all = append(all, s)
	}
	return all
}

// held asks a process for its goroutines, and for its heap after a collection.
func (w *world) held(ctx context.Context, r *role) (goroutines int, heap int64, err error) {
	if _, err := w.ask(ctx, r, "/debug/pprof/heap?gc=1"); err != nil {
		return 0, 0, err
	}
	text, err := w.ask(ctx, r, "/metrics")
	if err != nil {
		return 0, 0, err
	}
	var n, bytes float64
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "go_goroutines":
			_, err = fmt.Sscan(value, &n)
		case "go_memstats_heap_alloc_bytes":
			_, err = fmt.Sscan(value, &bytes)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("%s of %s: %w", name, r.name, err)
		}
	}
	if n == 0 || bytes == 0 {
		return 0, 0, errors.New("metrics lack goroutines or heap")
	}
	return int(n), int64(bytes), nil
}

func (w *world) ask(ctx context.Context, r *role, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.metrics+path, nil)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", r.name, err)
	}
	req.Close = true // what asks is not to be what is counted
	resp, err := w.transport.RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", r.name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", errors.Join(err, fmt.Errorf("ask %s for %s: %s", r.name, path, resp.Status))
	}
	return string(body), nil
}

// stacks says what most of the goroutines of a process are at.
func (w *world) stacks(ctx context.Context, r *role) string {
	text, err := w.ask(ctx, r, "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return err.Error()
	}
	var top []string
	var lines int
	scan := bufio.NewScanner(strings.NewReader(text))
	for scan.Scan() && len(top) < 60 {
		if strings.HasSuffix(scan.Text(), "]") || strings.Contains(scan.Text(), " @ ") {
			lines = 0
		}
		if lines++; lines <= 9 {
			top = append(top, "      "+scan.Text())
		}
	}
	return strings.Join(top, "\n")
}

// most is the highest of each kind of process.
func most(all []stillness, kind string) (goroutines int, heap int64) {
	for _, s := range all {
		if s.kind == kind {
			goroutines, heap = max(goroutines, s.goroutines), max(heap, s.heap)
		}
	}
	return goroutines, heap
}

// within reports whether a process at rest holds no more than before.
func within(before []stillness) func(stillness) bool {
	return func(s stillness) bool {
		goroutines, heap := most(before, s.kind)
		allowed := heap + moreHeap
		if s.kind == "worker" {
			allowed += slots * 4 * mib
		}
		return s.goroutines <= goroutines+moreGoroutines && s.heap <= allowed
	}
}

// leaks: a process that has nothing left to do holds what one held that had just
// warmed up.
func leaks(e *evidence) (found []finding) {
	holds := within(e.before)
	for _, s := range slices.Concat(e.before, e.after) {
		if s.err != nil {
			found = append(found, finding{text: fmt.Sprintf("%s does not say what it holds: %v", s.role, s.err)})
		}
	}
	for _, s := range e.after {
		if s.err == nil && !holds(s) {
			goroutines, heap := most(e.before, s.kind)
			found = append(found, finding{text: fmt.Sprintf("%s holds %d goroutines and %d KiB when all is done, a %s at the beginning %d and %d:\n%s",
				s.role, s.goroutines, s.heap/kib, s.kind, goroutines, heap/kib, s.stacks)})
		}
	}
	return found
}

// sayStillness prints what was held before and after.
func (e *evidence) sayStillness(figure func(name, format string, value any, unit string)) {
	for _, kind := range []string{"dispatcher", "worker"} {
		before, heapBefore := most(e.before, kind)
		after, heapAfter := most(e.after, kind)
		figure(kind+"_goroutines_before", "%d", before, "count")
		figure(kind+"_goroutines_after", "%d", after, "count")
		figure(kind+"_heap_before_mib", "%.1f", float64(heapBefore)/mib, "MiB")
		figure(kind+"_heap_after_mib", "%.1f", float64(heapAfter)/mib, "MiB")
	}
}
