package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"mediaferry/internal/api/wire"
)

type (
	// BulkLine is one of many submissions.
	BulkLine = wire.BulkLine
	// BulkResult is the answer to many submissions.
	BulkResult = wire.BulkResult
	// RejectedLine is one thing that is wrong with one of them.
	RejectedLine = wire.RejectedLine
)

// jsonLines is a body that is encoded already, a value on each line.
type jsonLines []byte

// SubmitBulk submits up to 100,000 objects in one call, as one batch: those that
// can be taken are durable on return, the others are listed by their place in
// lines, from 1. It may be repeated where each has an idempotency key.
func (c *Client) SubmitBulk(ctx context.Context, lines []BulkLine) (BulkResult, error) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	keyed := true
	for i := range lines {
		keyed = keyed && lines[i].IdempotencyKey != ""
		if err := enc.Encode(lines[i]); err != nil {
			return BulkResult{}, fmt.Errorf("encode submission %d: %w", i+1, err)
		}
	}
	var res BulkResult
	if _, err := c.exchange(ctx, http.MethodPost, "/v1/uploads/bulk", keyed, jsonLines(body.Bytes()), &res); err != nil {
		return BulkResult{}, fmt.Errorf("submit %d objects: %w", len(lines), err)
	}
	return res, nil
}
