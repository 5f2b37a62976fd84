package postgres

import (
	"net"
	"syscall"
	"testing"
)

// A machine that has vanished is given up after a while, not after a quarter of
// an hour.
func TestAMachineThatHasVanishedIsGivenUp(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	conn, err := dial(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("dialled a %T", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	options := map[int]int{tcpUserTimeout: 20_000, syscall.TCP_KEEPIDLE: 10, syscall.TCP_KEEPINTVL: 5, syscall.TCP_KEEPCNT: 2}
	err = raw.Control(func(fd uintptr) {
		for option, want := range options {
			if got, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option); err != nil || got != want {
				t.Errorf("option %d of TCP is %d, %v; want %d", option, got, err, want)
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// A server on this machine is reached by its socket in the file system too.
func TestDialOfASocketInTheFileSystem(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/.s.PGSQL.5432"
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	conn, err := dial(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
