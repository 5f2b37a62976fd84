package devstack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Command is a process to start.
type Command struct {
	Name string   // goes before each line of its output
	Path string   // our own binary if empty
	Args []string // without the name of the program
	Env  []string // added to ours
}

// Processes owns child processes, such as the workers of `dev`. One that ends
// is not started again; a line in the output says so. It is safe for use by
// many goroutines.
type Processes struct {
	out *lineWriter

	mu       sync.Mutex
	children []*child
	reports  sync.WaitGroup // one goroutine per child, which reports its end
	stopping bool
}

// NewProcesses returns an owner of none. out gets whole lines only.
func NewProcesses(out io.Writer) *Processes {
	return &Processes{out: &lineWriter{w: out}}
}

// Start starts one more process and returns its index, from 0 in the order of
// the starts. The process lives until Kill or Stop, whatever becomes of ctx.
func (p *Processes) Start(ctx context.Context, command Command) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return 0, fmt.Errorf("start %s: the processes are being stopped", command.Name)
	}
	if command.Path == "" {
		self, err := os.Executable()
		if err != nil {
			return 0, fmt.Errorf("find our own binary: %w", err)
		}
		command.Path = self
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), command.Path, command.Args...) //nolint:gosec // the caller chooses what to run
	cmd.Env = append(os.Environ(), command.Env...)
	output := &prefixWriter{prefix: command.Name + " | ", out: p.out}
	cmd.Stdout, cmd.Stderr = output, output
	c, err := startChild(cmd, syscall.SIGTERM, nil)
	if err != nil {
		return 0, err
	}
	p.children = append(p.children, c)
	p.reports.Go(func() {
		<-c.done
		output.flush()
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.stopping {
			end := "ended"
			if c.err != nil {
				end += ": " + c.err.Error()
			}
			p.out.line(output.prefix, []byte(end))
		}
	})
	return len(p.children) - 1, nil
}

// PIDs returns the process id of each process by index, 0 for one that is gone.
func (p *Processes) PIDs() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	pids := make([]int, len(p.children))
	for i, c := range p.children {
		select {
		case <-c.done:
		default:
			pids[i] = c.cmd.Process.Pid
		}
	}
	return pids
}

// Kill ends process i as a crash would (SIGKILL) and returns when it is gone.
func (p *Processes) Kill(i int) error {
	p.mu.Lock()
	if i < 0 || i >= len(p.children) {
		p.mu.Unlock()
		return fmt.Errorf("kill process %d: there are %d", i, len(p.children))
	}
	c := p.children[i]
	p.mu.Unlock()
	c.kill()
	return nil
}

// Stop asks all processes to end (SIGTERM), kills those that still run after
// the grace period, and returns when all are gone and their output is written.
// It may be repeated.
func (p *Processes) Stop(grace time.Duration) {
	p.mu.Lock()
	p.stopping = true
	children := p.children
	p.mu.Unlock()
	var stops sync.WaitGroup
	for _, c := range children {
		stops.Go(func() { c.stop(syscall.SIGTERM, grace) })
	}
	stops.Wait()
	p.reports.Wait()
}

// lineWriter keeps the lines of several processes whole.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) line(prefix string, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A reader that is gone must not stop the processes.
	_, _ = l.w.Write(append(append([]byte(prefix), text...), '\n'))
}

// maxLine bounds what is held back in wait for the end of a line.
const maxLine = 64 << 10

// prefixWriter writes the output of one process line by line. Its process has
// one writer at a time (os/exec copies both outputs with one goroutine).
type prefixWriter struct {
	prefix string
	out    *lineWriter
	rest   []byte
}

func (w *prefixWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		end := bytes.IndexByte(w.rest, '\n')
		if end < 0 {
			break
		}
		w.out.line(w.prefix, w.rest[:end])
		w.rest = w.rest[end+1:]
	}
	if len(w.rest) > maxLine {
		w.flush()
	}
	return len(p), nil
}

// flush writes what came after the last line end.
func (w *prefixWriter) flush() {
	if len(w.rest) > 0 {
		w.out.line(w.prefix, w.rest)
		w.rest = nil
	}
}
