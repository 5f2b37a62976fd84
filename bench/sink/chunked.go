package sink

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// errMalformed marks a body that does not follow the aws-chunked encoding.
var errMalformed = errors.New("malformed aws-chunked body")

const (
	maxChunk   = 1 << 40 // far beyond any object; keeps the size arithmetic inside int64
	maxTrailer = 16 << 10
)

// chunkedReader takes the aws-chunked encoding off a body, with and without
// chunk signatures, which it skips, and collects the trailer. Clients differ in
// how they end trailer lines (CRLF or LF) and where they put empty lines, so
// everything after the last chunk is read as lines up to the end of the body,
// whose length HTTP delimits.
type chunkedReader struct {
	body    *bufio.Reader
	left    int64 // of the chunk in hand
	done    bool
	err     error
	trailer map[string]string // lower-case names; complete once Read has returned io.EOF
}

func newChunkedReader(body io.Reader) *chunkedReader {
	return &chunkedReader{body: bufio.NewReaderSize(body, 4<<10), trailer: map[string]string{}}
}

// Read returns io.EOF only after a complete body: last chunk and trailer
// included. A body that ends earlier is io.ErrUnexpectedEOF.
func (c *chunkedReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.left == 0 {
		if c.err = c.next(); c.err != nil {
			return 0, c.err
		}
	}
	if c.left < int64(len(p)) {
		p = p[:c.left]
	}
	n, err := c.body.Read(p)
	c.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF):
		c.err = io.ErrUnexpectedEOF
	case err != nil:
		c.err = fmt.Errorf("read chunk: %w", err)
	case c.left == 0:
		c.err = c.endOfChunk()
	}
	return n, c.err
}

// next reads a chunk's header; after the last chunk it reads the trailer and
// returns io.EOF.
func (c *chunkedReader) next() error {
	line, err := c.body.ReadSlice('\n')
	if err != nil {
		return lineError(err)
	}
	digits, _, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), ";")
	size, err := strconv.ParseUint(digits, 16, 63)
	if err != nil || size > maxChunk {
		return fmt.Errorf("%w: chunk size %q", errMalformed, digits)
	}
	if size == 0 {
		return c.readTrailer()
	}
	c.left = int64(size)
	return nil
}

func (c *chunkedReader) endOfChunk() error {
	var end [2]byte
	if _, err := io.ReadFull(c.body, end[:]); err != nil {
		return lineError(err)
	}
	if end != [2]byte{'\r', '\n'} {
		return fmt.Errorf("%w: chunk longer than its size", errMalformed)
	}
	return nil
}

func (c *chunkedReader) readTrailer() error {
	for read := 0; read <= maxTrailer; {
		line, err := c.body.ReadSlice('\n')
		read += len(line)
		if text := strings.TrimSpace(string(line)); text != "" {
			name, value, ok := strings.Cut(text, ":")
			if !ok {
				return fmt.Errorf("%w: trailer line %q", errMalformed, text)
			}
			c.trailer[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
		}
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		if err != nil {
			return lineError(err)
		}
	}
	return fmt.Errorf("%w: trailer too long", errMalformed)
}

func lineError(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("%w: line too long", errMalformed)
	default:
		return fmt.Errorf("read aws-chunked body: %w", err)
	}
}
