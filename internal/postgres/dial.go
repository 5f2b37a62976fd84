package postgres

import (
	"context"
	"net"
	"strings"
	"syscall"
	"time"
)

// serverGone is how long a connection waits for any sign of life of the machine
// at its other end. Without a bound of our own, statements would wait for a
// machine that has vanished, with nobody left to refuse them, for a quarter of an
// hour. A server that is slow is another matter: its machine answers.
const serverGone = 20 * time.Second

// dial connects to a server, by TCP with serverGone as the bound.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:         connectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: serverGone / 2, Interval: serverGone / 4, Count: 2},
	}
	if strings.HasPrefix(network, "tcp") {
		d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			if cerr := raw.Control(func(fd uintptr) { err = giveUpAfter(fd, serverGone) }); cerr != nil {
				return cerr //nolint:wrapcheck // the dialer says what it was for
			}
			return err
		}
	}
	return d.DialContext(ctx, network, address) //nolint:wrapcheck // pgx says what it was for
}
