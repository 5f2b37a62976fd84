package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a process that this one started and will end.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the process is gone and err is set
	err  error
}

// startChild starts the command in a process group of its own, so that Ctrl-C
// reaches the parent only and it decides about the order. endWith is what the
// kernel sends the child when its parent is gone.
func startChild(cmd *exec.Cmd, endWith syscall.Signal, as *account) (*child, error) {
	cmd.SysProcAttr = childAttr(endWith, as)
	cmd.WaitDelay = 2 * time.Second // what the child left running may hold its output open
	c := &child{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The signal comes when the thread is gone that started the child, not
		// the process: so this thread waits for it to the end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// stop sends the signal, gives the child the time to end, and kills its group
// after that. A child that is gone already is no error.
func (c *child) stop(sig syscall.Signal, grace time.Duration) {
	_ = c.cmd.Process.Signal(sig)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		c.kill()
	}
}

// commandGrace is how long a server that is not ours has to clear away.
const commandGrace = 20 * time.Second

// kill ends the child and its group at once, and waits until it is gone.
func (c *child) kill() {
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	<-c.done
}

// await polls until ready reports nil, the child is gone, or the context ends.
func (c *child) await(ctx context.Context, what string, output *tail, ready func(context.Context) error) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("%s ended at its start: %w", what, &exitError{state: c.cmd.ProcessState, output: output.String()})
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%w): %w", what, err, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// exitError is a child that ended too early or badly, with what it said.
type exitError struct {
	state  *os.ProcessState
	output string // one line
}

func (e *exitError) Error() string {
	if e.output == "" {
		return e.state.String()
	}
	return e.state.String() + ": " + e.output
}

// addressInUse reports whether a child ended since another process got its
// port first.
func addressInUse(err error) bool {
	exit, ok := errors.AsType[*exitError](err)
	return ok && strings.Contains(strings.ToLower(exit.output), "address already in use")
}

// portTries is how often a server is started anew when another process took
// the free port between its choice and its use.
const portTries = 5

// onPort starts a server on the port, which it sets to a free one where it is 0.
// A free port that another process took first is given up for another.
func onPort(ctx context.Context, port *int, start func(context.Context) error) error {
	if *port != 0 {
		return start(ctx)
	}
	for try := 1; ; try++ {
		var err error
		if *port, err = freePort(ctx); err != nil {
			return err
		}
		if err = start(ctx); err == nil || try == portTries || !addressInUse(err) {
			return err
		}
	}
}

// freePort returns a port of 127.0.0.1 that nobody listens on right now.
func freePort(ctx context.Context) (int, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	addr, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("find a free port: not a TCP address")
	}
	return addr.Port, nil
}

// tail keeps the last few KiB that a child said, for the error that reports
// its end, and passes everything on to w if there is one.
type tail struct {
	w  io.Writer
	mu sync.Mutex
	b  []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > tailSize {
		t.b = append(t.b[:0], t.b[len(t.b)-tailSize:]...)
	}
	if t.w != nil {
		_, _ = t.w.Write(p) // a reader that is gone must not stop the child
	}
	return len(p), nil
}

// String returns what was said in one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.ReplaceAll(bytes.TrimSpace(t.b), []byte("\n"), []byte(" | ")))
}
