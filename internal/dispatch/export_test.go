package dispatch

import (
	"context"
	"sync"
)

// Start runs what commits the results of steps, until stop is called. The
// passes below are then made by the test, one at a time.
func (d *Dispatcher) Start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { d.opened.run(ctx) })
	running.Go(func() { d.done.run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// OpenPass is a pass of the loop that opens queued uploads. It returns when
// every step that it claimed is done; so does StepsPass.
func (d *Dispatcher) OpenPass(ctx context.Context) error {
	err := d.openQueued(ctx)
	d.taking.Wait()
	return err
}

// StepsPass is a pass of the loop that takes control steps.
func (d *Dispatcher) StepsPass(ctx context.Context) error {
	err := d.takeSteps(ctx)
	d.taking.Wait()
	return err
}

// ProbesPass is a pass of the loop that probes what is in doubt.
func (d *Dispatcher) ProbesPass(ctx context.Context) error {
	err := d.takeProbes(ctx)
	d.taking.Wait()
	return err
}

// RenewPass is a pass of the loop that renews sessions.
func (d *Dispatcher) RenewPass(ctx context.Context) error {
	err := d.renewSessions(ctx)
	d.taking.Wait()
	return err
}

// ResealPass is a pass of the loop that seals sessions anew.
func (d *Dispatcher) ResealPass(ctx context.Context) error { return d.reseal(ctx) }

// SweepPass is a pass of the loop that feeds again what was lost.
func (d *Dispatcher) SweepPass(ctx context.Context) error { return d.sweep(ctx) }

// WithdrawPass is a pass of the loop that takes off the queue what is held or has ended.
func (d *Dispatcher) WithdrawPass(ctx context.Context) error { return d.withdraw(ctx) }

// FeedPass is a pass of the account's feeder.
func (d *Dispatcher) FeedPass(ctx context.Context, account string) error {
	return d.feed(ctx, d.accounts[account])
}
