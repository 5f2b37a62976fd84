// Package movers is what the benchmark compares: programs that copy objects from
// one S3 endpoint to another. Each is run the way its users run it, as a process
// of its own, and its cost is what the operating system counted for that
// process, so that no program reports on itself.
package movers

import (
	"context"
	"errors"
	"maps"
	"time"

	"mediaferry/bench/figures"
)

// ErrAbsent means that a mover is not installed; the benchmark leaves it out and
// says so.
var ErrAbsent = errors.New("not installed")

// Mover copies objects between buckets. One that starts services is an io.Closer
// too: it is closed after the last round, and also if Prepare failed half-way.
type Mover interface {
	// Name is what the -movers flag and the table call it.
	Name() string
	// Prepare is called once, before the first round: look for programs, write
	// configuration, start services. ErrAbsent leaves the mover out.
	Prepare(ctx context.Context) error
	// Move copies every key of a bucket of Env.Source into a bucket of
	// Env.Sink and returns when all are complete there. The source bucket
	// holds exactly these keys. It may be called any number of times, one after
	// the other; the destination is empty each time. What arrived is
	// checked by the caller, so a mover need not look.
	Move(ctx context.Context, srcBucket, dstBucket string, keys []string) (Cost, error)
}

// A Reporter is a Mover with figures of its own besides cost: it is asked once,
// after the last round and before it is closed.
type Reporter interface {
	Figures(ctx context.Context, sheet *figures.Sheet) error
}

// Env is where a run takes place.
type Env struct {
	Source, Sink         string // URLs of the endpoints, without a slash at the end
	AccessKey, SecretKey string // valid at both
	Bin                  string // folder of this repository's benchmark programs
	Peers                string // folder of the other programs
	Work                 string // absolute path of a folder for configuration and scratch files
}

// Roles that processes play in a mover. A program that is one process is RoleClient.
const (
	RoleClient     = "client"
	RoleWorker     = "worker"
	RoleDispatcher = "dispatcher"
	RoleNATS       = "nats"
	RolePostgres   = "postgres"
)

// Cost is what one Move took. The endpoints' own cost is counted for nobody.
type Cost struct {
	Wall    time.Duration
	CPU     map[string]time.Duration // user and system time, by role
	PeakRSS map[string]int64         // bytes, by role
}

// TotalCPU is the CPU time of all roles.
func (c Cost) TotalCPU() time.Duration {
	var total time.Duration
	for d := range maps.Values(c.CPU) {
		total += d
	}
	return total
}

// TotalRSS is the sum of all roles' peaks, in bytes.
func (c Cost) TotalRSS() int64 {
	var total int64
	for b := range maps.Values(c.PeakRSS) {
		total += b
	}
	return total
}

// then is the cost of two steps one after the other.
func (c Cost) then(next Cost) Cost {
	sum := Cost{Wall: c.Wall + next.Wall, CPU: maps.Clone(c.CPU), PeakRSS: maps.Clone(c.PeakRSS)}
	for role, d := range next.CPU {
		sum.CPU[role] += d
	}
	for role, b := range next.PeakRSS {
		sum.PeakRSS[role] = max(sum.PeakRSS[role], b)
	}
	return sum
}
