package postgres

import (
	"os"
	"syscall"
	"time"
)

// tcpUserTimeout is the option of that name, which syscall does not have.
const tcpUserTimeout = 0x12

// giveUpAfter has a TCP connection end if what was sent is not acknowledged, or a
// probe not answered, for so long.
func giveUpAfter(fd uintptr, d time.Duration) error {
	err := syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds()))
	return os.NewSyscallError("setsockopt", err) //nolint:wrapcheck // the dialer says what it was for
}
