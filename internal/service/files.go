package service

import (
	"math"
	"syscall"
)

// A slot has a connection to staging and one to the platform. What else is open
// are connections to NATS, listening sockets, and some that are kept for later.
const (
	filesPerSlot = 2
	filesBeside  = 32
)

func filesFor(slots int) int { return slots*filesPerSlot + filesBeside }

// slotsWithin returns how many of the slots the limit of open files allows, at
// least one. With more, calls would fail that neither staging nor the platform has
// anything to do with, and uploads with them.
func slotsWithin(slots, files int) int {
	return max(min(slots, (files-filesBeside)/filesPerSlot), 1)
}

// openFiles is how many files this process may have open. The runtime has raised
// it as far as it may.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}
