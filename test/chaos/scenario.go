package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// The scenarios. A storm has all kinds of faults, each of the others one kind,
// again and again, and figures of its own.
const (
	scenarioStorm     = "chaos"
	scenarioQueueWipe = "queue-wipe"
	scenarioDeploys   = "deploy-storm"
)

// Of queue-wipe and deploy-storm.
const (
	wipes       = 10
	wipeUploads = 200
	wipeEvery   = 8 * time.Second

	stormDuration = 2 * time.Minute // where none is given
	deployStorm   = 4 * time.Minute // the same of deploy-storm: four rounds, a minute apart
)

// apply sets what the scenario fixes, and what it leaves to be said and was not.
func (o *options) apply() error {
	switch o.scenario {
	case scenarioStorm:
		o.duration = cmp.Or(o.duration, stormDuration)
	case scenarioQueueWipe:
		o.kinds, o.uploads, o.duration = []string{natsWipe}, wipeUploads, (wipes+1)*wipeEvery
	case scenarioDeploys:
		o.kinds, o.duration = []string{deploy}, cmp.Or(o.duration, deployStorm)
		if o.every <= 0 {
			return fmt.Errorf("-every: %s is no interval; give one such as 1m", o.every)
		}
	default:
		return fmt.Errorf("-scenario: %q is not known; give %s, %s or %s", o.scenario, scenarioStorm, scenarioQueueWipe, scenarioDeploys)
	}
	return nil
}

// schedule returns the faults of the scenario.
func (o *options) schedule() (events []event) {
	switch o.scenario {
	case scenarioQueueWipe:
		for i := range wipes {
			events = append(events, event{at: time.Duration(i+1) * wipeEvery, kind: natsWipe, length: 200 * time.Millisecond})
		}
	case scenarioDeploys:
		for at := 5 * time.Second; at < o.duration; at += o.every {
			events = append(events, event{at: at, kind: deploy})
		}
	default:
		return planFaults(*o)
	}
	return events
}

// wiped is a loss of the queue: what was under way then, and how long it took
// from the moment in which NATS took connections again to the next part that
// the ledger has.
type wiped struct {
	inFlight int64 // bytes fed and not acknowledged
	resumed  time.Duration
	idle     bool // nothing was under way
}

// inFlight returns what has been fed and is not in the ledger, and the number of
// rows that the ledger has.
func inFlight(ctx context.Context, conn *pgx.Conn) (bytes int64, acks int, err error) {
	err = conn.QueryRow(ctx, `SELECT coalesce(sum(fed_bytes + found_bytes - acked_bytes), 0)::bigint, (SELECT count(*) FROM part_acks)
		FROM uploads WHERE state = 'uploading'`).Scan(&bytes, &acks)
	if err != nil {
		return 0, 0, fmt.Errorf("what is in flight: %w", err)
	}
	return bytes, acks, nil
}

// wipeAndTime is a wipe with the time that it takes until parts arrive again.
func (n *nemesis) wipeAndTime(ctx context.Context, down time.Duration) (string, error) {
	conn, err := pgx.Connect(ctx, n.w.postgres.DSN())
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var of wiped
	if of.inFlight, _, err = inFlight(ctx, conn); err != nil {
		return "", err
	}
	if _, err := n.killNATS(ctx, true, down); err != nil {
		return "killed and wiped", err
	}
	dialer := net.Dialer{Timeout: time.Second}
	for {
		c, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n.w.natsPort)))
		if err == nil {
			_ = c.Close()
			break
		}
		if !wait(ctx, 5*time.Millisecond) {
			return "killed and wiped", fmt.Errorf("NATS is not back: %w", err)
		}
	}
	up := time.Now()
	_, before, err := inFlight(ctx, conn)
	if err != nil {
		return "killed and wiped", err
	}
	for {
		left, acks, err := inFlight(ctx, conn)
		if err != nil {
			return "killed and wiped", err
		}
		of.resumed = time.Since(up)
		if acks > before {
			break
		}
		of.idle = left == 0 && of.inFlight == 0
		if of.idle || !wait(ctx, 20*time.Millisecond) {
			break
		}
	}
	n.mu.Lock()
	n.wiped = append(n.wiped, of)
	n.mu.Unlock()
	return fmt.Sprintf("killed and wiped with %d bytes in flight, a part arrived %s after it was back", of.inFlight, of.resumed.Round(time.Millisecond)), nil
}

// figures prints those of the scenario.
func (e *evidence) figures(say func(string, ...any), counts map[string]int, settled time.Duration) (ok bool) {
	prefix := strings.ReplaceAll(e.w.opts.scenario, "-", "_")
	figure := func(name, format string, value any, unit string) {
		say("figure %s_%s "+format+" %s", prefix, name, value, unit)
	}
	stored, again := e.bytes()
	figure("uploads", "%d", len(e.record.uploads), "count")
	figure("faults", "%d", len(e.faults), "count")
	figure("lost", "%d", counts["1 accepted uploads end"], "count")
	figure("unexplained_failures", "%d", counts["1 failures are explained"], "count")
	figure("double_assets", "%d", counts["4 one asset"], "count")
	figure("wrong_bytes", "%d", counts["6 7 right bytes"], "count")
	figure("failed_tries", "%d", len(e.record.failures), "count")
	sentTwice := 0.0
	if stored > 0 {
		sentTwice = 100 * float64(again) / float64(stored)
	}
	figure("sent_twice_pct", "%.2f", sentTwice, "%")
	figure("settle_s", "%.1f", settled.Seconds(), "s")
	e.sayStillness(figure)
	switch e.w.opts.scenario {
	case scenarioQueueWipe:
		var most time.Duration
		var held int64
		for _, w := range e.wiped {
			if !w.idle {
				most = max(most, w.resumed)
			}
			held += w.inFlight
		}
		figure("wipes", "%d", len(e.wiped), "count")
		figure("resume_max_s", "%.2f", most.Seconds(), "s")
		figure("sent_again_mib", "%.1f", float64(again)/mib, "MiB")
		figure("in_flight_mib", "%.1f", float64(held)/mib, "MiB")
		if len(e.wiped) < wipes || most >= 15*time.Second || again > held {
			say("queue-wipe: %d of %d wipes, resumed within %s (15 s are allowed), %d bytes sent again of %d in flight", len(e.wiped), wipes, most, again, held)
			return false
		}
	case scenarioDeploys:
		rounds := 0
		for _, in := range e.faults {
			if in.err == nil && !in.none {
				rounds++
			}
		}
		figure("rounds", "%d", rounds, "count")
		figure("every_s", "%.0f", e.w.opts.every.Seconds(), "s")
		if rounds == 0 {
			say("deploy-storm: nothing was restarted, so this shows nothing")
			return false
		}
		if sentTwice >= 1 {
			say("deploy-storm: %.2f %% of the bytes were sent twice, 1 %% is allowed", sentTwice)
			return false
		}
	}
	return true
}

// bytes returns what the ledger says was sent, and how much of what came to the
// platforms had come before: parts that were sent again, whole or not, and
// parts of sessions that were given up.
func (e *evidence) bytes() (stored, again int64) {
	for id, acks := range e.record.acks {
		for _, a := range acks {
			if !a.found {
				stored += a.length
			}
			if u := e.record.uploads[id]; !a.found && u != nil && a.epoch < u.epoch {
				again += a.length
			}
		}
	}
	for _, a := range e.w.accounts {
		came, lengths := make(map[string]int64), make(map[string]int64)
		for _, c := range a.gate.log() {
			if c.Length >= 4*kib {
				came[c.Identity] += c.Received
				lengths[c.Identity] = max(lengths[c.Identity], c.Length)
			}
		}
		for identity, n := range came {
			again += max(0, n-lengths[identity])
		}
	}
	return stored, again
}
