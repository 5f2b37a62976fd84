package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const statsTimeout = 10 * time.Second

// Client asks a sink in another process what it received.
type Client struct {
	// URL of the sink, without a slash at its end.
	URL string
}

// Stats returns what arrived since the last reset.
func (c Client) Stats(ctx context.Context) (Stats, error) {
	var st Stats
	resp, err := c.do(ctx, http.MethodGet, "/_stats")
	if err != nil {
		return st, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil {
		return st, fmt.Errorf("read stats of the sink: %w", err)
	}
	return st, nil
}

// Reset makes the sink forget everything.
func (c Client) Reset(ctx context.Context) error {
	resp, err := c.do(ctx, http.MethodPost, "/_reset")
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // empty
	return nil
}

func (c Client) do(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the sink: %w", err)
	}
	resp, err := (&http.Client{Timeout: statsTimeout}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the sink: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close() // the status says enough
		return nil, fmt.Errorf("ask the sink: %s", resp.Status)
	}
	return resp, nil
}
