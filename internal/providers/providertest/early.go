package providertest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
)

// Refuse listens until the test ends, and answers every request once its header is
// there, with a status and a text. Where more than 1 MiB was announced the connection
// is then reset, while the caller is still sending. It returns the address.
func Refuse(t *testing.T, answer func(r *http.Request) (status int, text string)) string {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				status, text := answer(r)
				// The caller may be gone.
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", status, http.StatusText(status), len(text), text)
				if tcp, ok := conn.(*net.TCPConn); ok && r.ContentLength > 1<<20 {
					_ = tcp.SetLinger(0)
				}
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "http://" + listener.Addr().String()
}
