package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"mediaferry/internal/access"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// followCases are the use cases of callers that follow what happens.
type followCases interface {
	// Follow returns when it is known where the caller begins: after a number, or
	// now where that is negative. next waits for what comes, for so long at most,
	// and returns a page at a time and the number to follow on from.
	Follow(ctx context.Context, f uploads.FollowFilter, after int64) (
		next func(ctx context.Context, wait time.Duration) ([]uploads.StateChange, int64, error), leave func(), err error)
}

const (
	eventStream = "text/event-stream"
	maxStreams  = 64 // of one dispatcher; a tenant has half of them at most
	// heartbeat is how often something is sent where nothing happens, so that what
	// is between leaves the connection open and a caller that is gone is noticed.
	heartbeat = 15 * time.Second
	// streamWrite is how long one page may take to go out. Nothing more is read of
	// the record meanwhile: a slow caller costs a page, and is cut off.
	streamWrite = 10 * time.Second
	// streamLife ends a stream, which its caller opens again where it was, at
	// whichever dispatcher a balancer chooses by then.
	streamLife  = 15 * time.Minute
	followBegin = 10 * time.Second
)

func (s *server) registerEvents(api huma.API, op func(method, path, id, summary string, codes ...int) huma.Operation) {
	events := op("GET", "/v1/events", "events", "Follow the state changes of uploads, as server-sent events", 422, 429, 503)
	events.Description = "Each state change comes once and in order, as an event whose type is the state that the upload came to. " +
		"Open it again with the id of the last event, as browsers do by themselves, and nothing is missed or repeated; " +
		"the stream ends after 15 minutes at the latest, and when the dispatcher stops. Nothing of what was before is sent without an id. " +
		"A dispatcher has 64 streams, and a tenant no more of them than are free."
	events.Responses = map[string]*huma.Response{"200": {
		Description: "OK",
		Content: map[string]*huma.MediaType{eventStream: {
			Schema: api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[wire.StateChange](), true, "StateChange"),
		}},
	}}
	huma.Register(api, events, s.events)
}

type eventsRequest struct {
	TenantParam
	LastEventID string   `header:"Last-Event-ID" doc:"id of the last event that was received; without it, events are those from now on"`
	Upload      string   `query:"upload" format:"uuid" doc:"only of this upload"`
	Batch       string   `query:"batch" format:"uuid" doc:"only of uploads of this batch"`
	Account     string   `query:"account" doc:"only of uploads to this account"`
	Type        []string `query:"type" enum:"queued,digesting,beginning,uploading,finishing,completed,failed,cancelled" doc:"only moves to one of these states"`
}

func (in *eventsRequest) filter() (f uploads.FollowFilter, after int64, err error) {
	f, after = uploads.FollowFilter{Tenant: in.Tenant, Account: in.Account}, -1
	if f.Upload, err = parseID("query.upload", in.Upload); err != nil {
		return f, after, err
	}
	if f.Batch, err = parseID("query.batch", in.Batch); err != nil {
		return f, after, err
	}
	for _, state := range in.Type {
		f.To = append(f.To, uploads.State(state))
	}
	if in.LastEventID != "" {
		if after, err = strconv.ParseInt(in.LastEventID, 10, 64); err != nil || after < 0 {
			return f, after, &uploads.FieldError{Field: "header.Last-Event-ID", Detail: fmt.Sprintf("%.40q is no id of an event; give that of the last one, or none", in.LastEventID)}
		}
	}
	return f, after, nil
}

func (s *server) events(ctx context.Context, in *eventsRequest) (*huma.StreamResponse, error) {
	f, after, err := in.filter()
	if err != nil {
		return nil, s.problem("events", err)
	}
	free, own, ok := s.streams.take(f.Tenant)
	switch {
	case !ok && own > 0:
		return nil, huma.ErrorWithHeaders(huma.Error429TooManyRequests(fmt.Sprintf(
			"%d callers of tenant %q follow events here already, and the other places are kept for other tenants; close some, follow several uploads by one stream, or ask another dispatcher",
			own, f.Tenant)), http.Header{"Retry-After": {retryAfter}})
	case !ok:
		return nil, later(fmt.Sprintf("%d callers follow events here already; ask another dispatcher, or come again later", maxStreams))
	}
	begin, cancel := context.WithTimeout(ctx, followBegin)
	defer cancel()
	next, leave, err := s.uc.Follow(begin, f, after)
	if err != nil {
		free()
		return nil, s.problem("events", err)
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer func() { leave(); free() }()
		r, w := humago.Unwrap(hctx)
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Type", eventStream)
			return // there is nothing to wait for
		}
		end := time.Now().Add(streamLife)
		if expires := access.FromContext(ctx).ExpiresAt; !expires.IsZero() && expires.Before(end) {
			end = expires
		}
		ctx, cancel := context.WithDeadline(ctx, end)
		defer cancel()
		defer context.AfterFunc(s.stopping, cancel)() //nolint:contextcheck // ends with the server as well as with the request
		stream(ctx, w, next, func() bool { return s.guard.stillGood(r) })
	}}, nil
}

// stream writes what comes until ctx ends, the caller takes no more, or good says
// that it may have no more, which is asked before each page.
func stream(
	ctx context.Context, w http.ResponseWriter,
	next func(context.Context, time.Duration) ([]uploads.StateChange, int64, error), good func() bool,
) {
	h := w.Header()
	h.Set("Content-Type", eventStream)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies that know it pass each event on at once
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the request has been read; its end is not that of the stream
	send := func(changes []uploads.StateChange, at int64, comment string) bool {
		if control.SetWriteDeadline(time.Now().Add(streamWrite)) != nil {
			return false
		}
		return writeEvents(w, changes, at, comment) == nil && control.Flush() == nil
	}
	if !send(nil, -1, "state changes follow") {
		return
	}
	for {
		changes, at, err := next(ctx, heartbeat)
		switch {
		case ctx.Err() != nil:
			send(nil, -1, "the stream ends; open it again")
			return
		case err != nil:
			send(nil, -1, "the record cannot be read; open the stream again")
			return
		case !good():
			send(nil, -1, "the stream ends: its token is revoked or has expired")
			return
		}
		if !send(changes, at, "") {
			return
		}
	}
}

// writeEvents writes changes, and then their place, by which a stream that is
// opened again goes on even where nothing was selected.
func writeEvents(w io.Writer, changes []uploads.StateChange, at int64, comment string) error {
	for _, c := range changes {
		data, err := json.Marshal(stateChangeView(c))
		if err != nil {
			return fmt.Errorf("encode an event: %w", err)
		}
		if _, err := fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", c.Number, c.To, data); err != nil {
			return fmt.Errorf("write an event: %w", err)
		}
	}
	switch {
	case comment != "":
		_, err := fmt.Fprintf(w, ": %s\n\n", comment)
		return err //nolint:wrapcheck // only whether
	case len(changes) == 0:
		_, err := fmt.Fprintf(w, ": alive\nid: %d\n\n", at)
		return err //nolint:wrapcheck // only whether
	}
	return nil
}

func stateChangeView(c uploads.StateChange) wire.StateChange {
	seen := view(uploads.Upload{Asset: c.Asset, Failure: c.Failure})
	return wire.StateChange{
		Upload: c.Upload.String(), Tenant: c.Tenant, Account: c.Account, Batch: idText(c.Batch), Name: c.Name, Size: c.Size,
		Labels: c.Labels, From: string(c.From), State: string(c.To), Reason: c.Reason, At: c.At.UTC(),
		Asset: seen.Asset, Failure: seen.Failure,
	}
}
