package lent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"mediaferry/internal/providers/lent"
)

// counting counts the writes of a connection, and the longest of them.
type counting struct {
	net.Conn

	writes  *atomic.Int64
	longest *atomic.Int64
}

func (c counting) Write(p []byte) (int, error) {
	c.writes.Add(1)
	c.longest.Store(max(c.longest.Load(), int64(len(p)))) // one writer at a time
	return c.Conn.Write(p)
}

func TestABodyInMemoryIsSentInOneWrite(t *testing.T) {
	t.Parallel()
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	got := make(chan []byte, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- body
	}))
	t.Cleanup(server.Close)
	var writes, longest atomic.Int64
	transport := &http.Transport{DialContext: lent.Dial(func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		return counting{c, &writes, &longest}, err
	})}
	t.Cleanup(transport.CloseIdleConnections)
	for _, body := range []io.Reader{bytes.NewReader(want), io.MultiReader(bytes.NewReader(want))} {
		var loan lent.Loan
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, loan.Reader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = int64(len(want))
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		loan.Return()
		if !bytes.Equal(<-got, want) {
			t.Error("other bytes came")
		}
	}
	// The head and the first bytes, then the rest of the one in memory.
	if longest.Load() < int64(len(want))*9/10 {
		t.Errorf("the longest write of %d has %d bytes of %d", writes.Load(), longest.Load(), len(want))
	}
}

func TestABodyTakenBackIsNotSent(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	t.Cleanup(func() { _ = here.Close(); _ = there.Close() })
	c, err := lent.Dial(func(context.Context, string, string) (net.Conn, error) { return here, nil })(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	var loan lent.Loan
	body := loan.Reader(bytes.NewReader([]byte("abc")))
	loan.Return()
	to, ok := c.(io.ReaderFrom)
	if !ok {
		t.Fatal("the connection does not read from a body")
	}
	if n, err := to.ReadFrom(&io.LimitedReader{R: body, N: 3}); n != 0 || !errors.Is(err, lent.ErrReturned) {
		t.Errorf("%d bytes were sent, and %v", n, err)
	}
}

// TestReturnWaitsForTheWriteInHand has a peer that reads nothing: the transport
// gives up and closes the connection.
func TestReturnWaitsForTheWriteInHand(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	t.Cleanup(func() { _ = there.Close() })
	c, err := lent.Dial(func(context.Context, string, string) (net.Conn, error) { return here, nil })(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	var loan lent.Loan
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, &io.LimitedReader{R: loan.Reader(bytes.NewReader([]byte("abc"))), N: 3})
		sent <- err
	}()
	if _, err := there.Read(make([]byte, 1)); err != nil { // the write has begun
		t.Fatal(err)
	}
	returned := make(chan struct{})
	go func() {
		loan.Return()
		close(returned)
	}()
	select {
	case <-returned:
		t.Error("Return did not wait for the write in hand")
	default:
	}
	_ = c.Close()
	if err := <-sent; err == nil {
		t.Error("the write did not end with the connection")
	}
	<-returned
}
