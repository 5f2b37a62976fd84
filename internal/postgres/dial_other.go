//go:build !linux

package postgres

import "time"

// giveUpAfter is for Linux; elsewhere probes of an idle connection are all there is.
func giveUpAfter(uintptr, time.Duration) error { return nil }
