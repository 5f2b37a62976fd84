package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"mediaferry/internal/api/wire"
)

type (
	// StateChange says that an upload came to another state.
	StateChange = wire.StateChange
)

// EventFilter selects state changes. Zero fields select all.
type EventFilter struct {
	Upload, Batch, Account string
	States                 []string // only moves to one of these
}

// maxEvent bounds one line of an event, in bytes.
const maxEvent = 1 << 20

// Events calls each with every state change that the filter selects, in order,
// until each fails or the stream ends, as it does after a quarter of an hour, when
// the dispatcher stops, and with ctx. last is the id of the event before: "" for
// those from now on. The one returned is given to the next call, so that nothing is
// missed or repeated between the two; the error is nil where the dispatcher
// ended the stream.
func (c *Client) Events(ctx context.Context, f EventFilter, last string, each func(StateChange) error) (string, error) {
	query := url.Values{}
	for name, value := range map[string]string{"upload": f.Upload, "batch": f.Batch, "account": f.Account, "type": strings.Join(f.States, ",")} {
		if value != "" {
			query.Set(name, value)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/events?"+query.Encode(), nil)
	if err != nil {
		return last, fmt.Errorf("make the request: %w", err)
	}
	c.dress(req, "text/event-stream")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return last, fmt.Errorf("follow events: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return last, fmt.Errorf("follow events: %w", readError(res, readSome(res.Body)))
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxEvent)
	id, data := "", ""
	for lines.Scan() {
		switch field, value, _ := strings.Cut(lines.Text(), ": "); field {
		case "id":
			id = value
		case "data":
			data = value
		case "":
			if lines.Text() != "" {
				continue // a comment
			}
			if data != "" {
				var change StateChange
				if err := json.Unmarshal([]byte(data), &change); err != nil {
					return last, fmt.Errorf("follow events: read one: %w", err)
				}
				if err := each(change); err != nil {
					return last, err
				}
			}
			if id != "" {
				last = id
			}
			id, data = "", ""
		}
	}
	if err := lines.Err(); err != nil {
		return last, fmt.Errorf("follow events: %w", err)
	}
	return last, nil
}
