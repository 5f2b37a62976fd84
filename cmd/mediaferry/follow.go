package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mediaferry/client"
)

const (
	askedAtOnce = 16              // uploads that are asked about side by side
	batchPause  = 2 * time.Second // between looks at a batch, whose every page is read
	namedAtMost = 5               // uploads in a proposed command
)

func timeoutFlag(cmd *cobra.Command, timeout *time.Duration) {
	cmd.Flags().DurationVar(timeout, "timeout", 0, "how long to follow them, such as 2h (default: to the end)")
}

// follow shows the uploads until each has come to rest, prints them then, and
// fails if one did not complete. Those of a batch are asked about together.
func (a *app) follow(ctx context.Context, api *client.Client, uploads []client.Upload, out *printer[client.Upload], timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, errTimedOut)
		defer cancel()
	}
	bar, end := a.progress()
	f := &following{api: api, bar: bar, ended: make(map[string]client.Upload, len(uploads))}
	f.watch(ctx, uploads)
	end()
	errs := f.errs
	var going []string
	for _, u := range uploads {
		last, ok := f.ended[u.ID]
		if !ok {
			going = append(going, u.ID)
			continue
		}
		errs = append(errs, out.add(last))
		if last.State != "completed" {
			errs = append(errs, fmt.Errorf("upload %s is %s", last.ID, last.State))
		}
	}
	why := f.away
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimedOut):
		errs, why = nil, cause
	case cause != nil:
		errs, why = nil, errors.New("no longer watching")
	case why == nil:
		return errors.Join(errs...)
	}
	again := "mediaferry uploads list"
	if len(going) <= namedAtMost {
		again = "mediaferry uploads watch " + strings.Join(going, " ")
	}
	return errors.Join(append(errs, fmt.Errorf("%w, %d uploads go on; see: %s", why, len(going), again))...)
}

// following is uploads that are followed.
type following struct {
	api *client.Client
	bar *progress

	mu    sync.Mutex
	ended map[string]client.Upload
	errs  []error
	away  error // the dispatcher did not answer for too long; it says so of one upload
}

// watch returns when all uploads have come to rest, cannot be asked about, or
// ctx is over.
func (f *following) watch(ctx context.Context, uploads []client.Upload) {
	var bytes int64
	batches := map[string]bool{}
	for _, u := range uploads {
		bytes += u.Source.Size
	}
	f.bar.expect(len(uploads), bytes)
	var all, single errgroup.Group
	single.SetLimit(askedAtOnce)
	for _, u := range uploads {
		if u.Batch != "" && !batches[u.Batch] {
			batches[u.Batch] = true
			all.Go(func() error { f.note(f.batch(ctx, u.Batch)); return nil })
		}
	}
	for _, u := range uploads {
		if u.Batch == "" {
			single.Go(func() error {
				last, err := f.api.Wait(ctx, u.ID, func(u client.Upload) { f.bar.set(u.ID, uploadStatus(u)) })
				if err == nil {
					f.end(last)
				}
				f.note(err)
				return nil
			})
		}
	}
	_ = single.Wait() // errors are gathered, so that one does not hide the others
	_ = all.Wait()
}

func (f *following) end(u client.Upload) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended[u.ID] = u
}

func (f *following) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
	case client.IsAway(err):
		f.away = err
	default:
		f.errs = append(f.errs, err)
	}
}

// batch looks at a batch until all its uploads have come to rest.
func (f *following) batch(ctx context.Context, batch string) error {
	for {
		rest := 0
		err := eachOf(ctx, f.api, batch, func(u client.Upload) error {
			f.bar.set(u.ID, uploadStatus(u))
			if u.Final() {
				f.end(u)
			} else {
				rest++
			}
			return nil
		})
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case err == nil && rest == 0:
			return nil
		}
		select {
		case <-ctx.Done():
			return nil // follow tells
		case <-time.After(batchPause):
		}
	}
}
