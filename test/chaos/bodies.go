package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/time/rate"
)

// counted counts what is read, and may turn over one bit.
type counted struct {
	io.ReadCloser
	r      io.Reader
	n      int64
	flipAt int64 // 0 for nowhere
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if at := c.flipAt - c.n; c.flipAt > 0 && at >= 0 && at < int64(n) {
		p[at] ^= 0x10
	}
	c.n += int64(n)
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

// shifted is a body whose bytes are those of one place further, as a cache that
// counts wrong would give them. The length is as it should be.
type shifted struct {
	io.ReadCloser
	begun, ended bool
}

func (s *shifted) Read(p []byte) (int, error) {
	if s.ended {
		return 0, io.EOF
	}
	if !s.begun {
		s.begun = true
		if _, err := io.ReadFull(s.ReadCloser, make([]byte, 1)); err != nil {
			return 0, err //nolint:wrapcheck // io.EOF travels as it is
		}
	}
	n, err := s.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && n < len(p) {
		p[n], s.ended = 0, true
		return n + 1, nil
	}
	if errors.Is(err, io.EOF) {
		err = nil // the last byte comes with the next read
	}
	return n, err
}

// cut is a body that breaks off early.
type cut struct {
	io.ReadCloser
	left int64
}

func (c *cut) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("cut short on request")
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

func burstOf(pace int) int { return min(max(pace/20, 1), 256<<10) }

func paced(ctx context.Context, r io.Reader, pace int) io.Reader {
	if pace == 0 {
		return r
	}
	return &slowReader{ctx: ctx, r: r, limiter: rate.NewLimiter(rate.Limit(pace), burstOf(pace))}
}

type slowReader struct {
	ctx     context.Context // lives as long as the request that it is of
	r       io.Reader
	limiter *rate.Limiter
}

func (s *slowReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p[:min(len(p), s.limiter.Burst())])
	if werr := s.limiter.WaitN(s.ctx, n); werr != nil {
		return n, fmt.Errorf("paced read: %w", werr)
	}
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

type slowWriter struct {
	ctx     context.Context // lives as long as the request that it answers
	w       io.Writer
	limiter *rate.Limiter
}

func (s *slowWriter) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		piece := p[:min(len(p), s.limiter.Burst())]
		if err := s.limiter.WaitN(s.ctx, len(piece)); err != nil {
			return written, fmt.Errorf("paced write: %w", err)
		}
		n, err := s.w.Write(piece)
		written += n
		if err != nil {
			return written, err //nolint:wrapcheck // is a writer itself
		}
		p = p[n:]
	}
	return written, nil
}
