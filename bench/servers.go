package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"mediaferry/bench/movers"
)

const startTimeout = 10 * time.Second

// server is an endpoint in a process of its own: it prints its address first and
// ends with its standard input.
type server struct {
	cmd   *exec.Cmd
	stdin io.Closer
	url   string
}

// startServer returns when the endpoint accepts connections. It lives until stop,
// not until ctx ends: a run that is broken off still asks the sink what came.
func startServer(ctx context.Context, program string, env []string, args ...string) (*server, error) {
	cmd := movers.Command(context.WithoutCancel(ctx), program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	s := &server{cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s told no address: %w", program, err), s.stop())
	}
	address := strings.TrimSpace(line)
	s.url = "http://" + address
	if err := reachable(ctx, address); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func reachable(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close() //nolint:wrapcheck // of a connection that was never used
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("nothing answers at %s: %w", address, err)
		}
	}
}

func (s *server) stop() error {
	if err := s.stdin.Close(); err != nil {
		return fmt.Errorf("stop %s: %w", s.cmd.Path, err)
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("stop %s: %w", s.cmd.Path, err)
	}
	return nil
}
