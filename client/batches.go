package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"mediaferry/internal/api/wire"
)

type (
	// Batch is uploads that were submitted together.
	Batch = wire.Batch
	// BatchPart is those uploads of a batch that are in one state.
	BatchPart = wire.BatchPart
	// BatchSubmission asks for one staging object, or each one below a prefix, to
	// be brought to several accounts.
	BatchSubmission = wire.BatchSubmission
	// BatchSource names one object by its key, or those below a prefix.
	BatchSource = wire.BatchSource
	// BatchList is a page of batches, newest first.
	BatchList = wire.BatchList
)

// SubmitBatch submits an object, or those below a prefix, or several of both, for
// several accounts: all uploads or none, durable on return. Of a prefix and of
// several, what an account does not take is listed as rejected. With an idempotency key it may be
// repeated: created is false if the batch was there already.
func (c *Client) SubmitBatch(ctx context.Context, s BatchSubmission) (b Batch, created bool, err error) {
	status, err := c.exchange(ctx, http.MethodPost, "/v1/batches", s.IdempotencyKey != "", s, &b)
	if err != nil {
		what := "s3://" + s.Source.Bucket + "/" + s.Source.Key
		if n := len(s.Sources); n > 0 {
			what = fmt.Sprintf("%d sources", n)
		}
		return Batch{}, false, fmt.Errorf("submit a batch of %s: %w", what, err)
	}
	return b, status == http.StatusCreated, nil
}

// Batch returns a batch and how its uploads stand.
func (c *Client) Batch(ctx context.Context, id string) (Batch, error) {
	var b Batch
	if _, err := c.call(ctx, http.MethodGet, "/v1/batches/"+url.PathEscape(id), nil, &b); err != nil {
		return Batch{}, fmt.Errorf("show batch %s: %w", id, err)
	}
	return b, nil
}

// BatchFilter selects batches. Zero fields select all.
type BatchFilter struct {
	Account string
	After   string // BatchList.Next of the page before
	Limit   int    // 1 to 1000; 0 means 100
}

// Batches returns a page of batches, newest first.
func (c *Client) Batches(ctx context.Context, f BatchFilter) (BatchList, error) {
	query := url.Values{}
	for name, value := range map[string]string{"account": f.Account, "after": f.After} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if f.Limit != 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	var list BatchList
	if _, err := c.call(ctx, http.MethodGet, "/v1/batches?"+query.Encode(), nil, &list); err != nil {
		return BatchList{}, fmt.Errorf("list batches: %w", err)
	}
	return list, nil
}
