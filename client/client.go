// Package client calls the HTTP API of a mediaferry dispatcher.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/api/wire"
)

// The JSON of the API.
type (
	// Source names the staging object to read.
	Source = wire.Source
	// Object is a staging object as it was found when the upload was accepted.
	Object = wire.Object
	// Submission asks for one staging object to be brought to one account.
	Submission = wire.Submission
	// PrefixSubmission asks for every object below a prefix.
	PrefixSubmission = wire.PrefixSubmission
	// PrefixResult is the answer to a PrefixSubmission.
	PrefixResult = wire.PrefixResult
	// Rejected is one object of a prefix that was not taken.
	Rejected = wire.Rejected
	// Upload is an upload as it stands.
	Upload = wire.Upload
	// Asset is the finished media at the platform.
	Asset = wire.Asset
	// Failure says why an upload failed.
	Failure = wire.Failure
	// DigestChain is the comparisons of digests of an upload.
	DigestChain = wire.DigestChain
	// DigestLink is a comparison that took place, or the note that none did.
	DigestLink = wire.DigestLink
	// Explanation says what an upload waits for.
	Explanation = wire.Explanation
	// UploadList is a page of uploads, newest first.
	UploadList = wire.UploadList
	// Worker is what a worker's last heartbeat said.
	Worker = wire.Worker
	// Account is an account as it stands.
	Account = wire.Account
	// TokenRequest asks for a token.
	TokenRequest = wire.TokenRequest
	// Token is what is known of a token.
	Token = wire.Token
	// NewToken is a token that was just made, with its secret.
	NewToken = wire.NewToken
	// HeldCall is a kind of call to a platform that waits.
	HeldCall = wire.HeldCall
	// Reconciliation asks that the record be compared with what the platforms hold.
	Reconciliation = wire.Reconciliation
	// Finding is what the comparison of one upload found.
	Finding = wire.Finding
	// Report is a ready question to the record.
	Report = wire.Report
	// ReportRows answers a report.
	ReportRows = wire.ReportRows
	// SetAside is a message that could not be read or was refused for good.
	SetAside = wire.SetAside
	// SetAsideList is a page of such messages, newest first.
	SetAsideList = wire.SetAsideList
	// Tenant is a tenant as it stands.
	Tenant = wire.Tenant
	// Pause is one thing that holds uploads.
	Pause = wire.Pause
	// Note says why something is done and who does it.
	Note = wire.Note
	// Change selects uploads for an action.
	Change = wire.Change
	// Changed is what a Change came to.
	Changed = wire.Changed
)

// Polling of Wait, from the first to the longest pause.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = time.Second
)

// maxAnswer bounds what is read of an answer, in bytes: a full page of uploads
// is far below.
const maxAnswer = 64 << 20

// Client calls one dispatcher for one tenant. It is safe for use by many
// goroutines. Without WithPatience nothing is repeated: the caller knows what may
// be, and Submit may be with an idempotency key.
type Client struct {
	base     string
	tenant   string
	token    string
	http     *http.Client
	patience *patience // nil without WithPatience
}

// Option changes what New makes.
type Option func(*Client, *http.Transport)

// WithToken makes the client show a token of the API with each call.
func WithToken(token string) Option { return func(c *Client, _ *http.Transport) { c.token = token } }

// WithRootCAs makes the client trust these authorities in place of the system's.
func WithRootCAs(pool *x509.CertPool) Option {
	return func(_ *Client, t *http.Transport) {
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
}

// Bounds of a call that makes no progress; a prefix is submitted in one call.
const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 10 * time.Minute
)

// New returns a client of the API at base, such as "http://127.0.0.1:8080",
// for the tenant, "" for that of the token, or the default one. A call ends
// with its context, or after ten minutes without an answer. A token is not sent
// to where the API redirects.
func New(base, tenant string, options ...Option) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("%q is not the URL of an API; give one like http://127.0.0.1:8080", base)
	}
	// Its own transport, so that Close leaves other clients' connections alone.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	transport.ResponseHeaderTimeout = answerTimeout
	c := &Client{base: strings.TrimSuffix(base, "/"), tenant: tenant, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, option := range options {
		option(c, transport)
	}
	return c, nil
}

// Close drops the connections that are kept for further calls.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is an answer that is not a success.
type Error struct {
	Status     int           // HTTP
	Detail     string        // the problem, for a person
	Fields     []FieldError  // what is wrong with the request, if that is the problem
	RetryAfter time.Duration // 0 if the service did not say
}

// FieldError is one thing that is wrong with a request.
type FieldError struct {
	Location string `json:"location"` // such as "body.source.key"
	Message  string `json:"message"`
}

// Error names the problem and every field.
func (e *Error) Error() string {
	text := e.Detail
	if text == "" {
		text = fmt.Sprintf("the API answered %d %s", e.Status, http.StatusText(e.Status))
	}
	for _, f := range e.Fields {
		text += fmt.Sprintf("; %s: %s", strings.TrimPrefix(f.Location, "body."), f.Message)
	}
	return text
}

// IsNotFound reports whether err says that there is no such upload.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotFound
}

// IsRefused reports whether err says that the token is missing, not known, or
// does not allow the call.
func IsRefused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
}

// IsInvalid reports whether err says that the request itself was wrong, so
// that repeating it is of no use.
func IsInvalid(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Status == http.StatusUnprocessableEntity || e.Status == http.StatusBadRequest)
}

// Submit submits one staging object. It is durable on return. With an
// idempotency key it may be repeated: created is false if it was there already.
func (c *Client) Submit(ctx context.Context, s Submission) (u Upload, created bool, err error) {
	status, err := c.exchange(ctx, http.MethodPost, "/v1/uploads", s.IdempotencyKey != "", s, &u)
	if err != nil {
		return Upload{}, false, fmt.Errorf("submit %s/%s: %w", s.Source.Bucket, s.Source.Key, err)
	}
	return u, status == http.StatusCreated, nil
}

// SubmitPrefix submits every object below a prefix, as one batch. It is not one
// transaction: what was accepted before an error stays, and calling it again
// submits those objects again.
func (c *Client) SubmitPrefix(ctx context.Context, s PrefixSubmission) (PrefixResult, error) {
	var res PrefixResult
	if _, err := c.call(ctx, http.MethodPost, "/v1/uploads/prefix", s, &res); err != nil {
		return PrefixResult{}, fmt.Errorf("submit %s/%s*: %w", s.Bucket, s.Prefix, err)
	}
	return res, nil
}

// Show returns an upload.
func (c *Client) Show(ctx context.Context, id string) (Upload, error) {
	var u Upload
	if _, err := c.call(ctx, http.MethodGet, "/v1/uploads/"+url.PathEscape(id), nil, &u); err != nil {
		return Upload{}, fmt.Errorf("show upload %s: %w", id, err)
	}
	return u, nil
}

// Digests returns the comparisons of digests of an upload: what was hashed
// where, and compared with what.
func (c *Client) Digests(ctx context.Context, id string) (DigestChain, error) {
	var chain DigestChain
	if _, err := c.call(ctx, http.MethodGet, "/v1/uploads/"+url.PathEscape(id)+"/digests", nil, &chain); err != nil {
		return DigestChain{}, fmt.Errorf("show digests of upload %s: %w", id, err)
	}
	return chain, nil
}

// Explain says what an upload waits for.
func (c *Client) Explain(ctx context.Context, id string) (Explanation, error) {
	var e Explanation
	if _, err := c.call(ctx, http.MethodGet, "/v1/uploads/"+url.PathEscape(id)+"/explain", nil, &e); err != nil {
		return Explanation{}, fmt.Errorf("explain upload %s: %w", id, err)
	}
	return e, nil
}

// Filter selects uploads. Zero fields select all.
type Filter struct {
	Account string
	States  []string
	Batch   string
	Causes  []string          // of failed uploads
	Labels  map[string]string // an upload has them all
	Paused  string            // "true" or "false": by a pause of their own
	After   string            // UploadList.Next of the page before
	Limit   int               // 1 to 1000; 0 means 100
}

// List returns a page of uploads, newest first.
func (c *Client) List(ctx context.Context, f Filter) (UploadList, error) {
	query := url.Values{}
	for name, value := range map[string]string{
		"account": f.Account, "state": strings.Join(f.States, ","), "batch": f.Batch, "after": f.After,
		"cause": strings.Join(f.Causes, ","), "paused": f.Paused,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for key, value := range f.Labels {
		query.Add("label", key+"="+value)
	}
	if f.Limit != 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	var page UploadList
	if _, err := c.call(ctx, http.MethodGet, "/v1/uploads?"+query.Encode(), nil, &page); err != nil {
		return UploadList{}, fmt.Errorf("list uploads: %w", err)
	}
	return page, nil
}

// Workers returns the workers whose heartbeats arrive.
func (c *Client) Workers(ctx context.Context) ([]Worker, error) {
	var list wire.WorkerList
	if _, err := c.call(ctx, http.MethodGet, "/v1/workers", nil, &list); err != nil {
		return nil, fmt.Errorf("list workers: %w", err)
	}
	return list.Workers, nil
}

// Accounts returns the tenant's accounts.
func (c *Client) Accounts(ctx context.Context) ([]Account, error) {
	var list wire.AccountList
	if _, err := c.call(ctx, http.MethodGet, "/v1/accounts", nil, &list); err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return list.Accounts, nil
}

// Wait asks for the upload until it is completed, failed or cancelled, and
// returns it as it is then; a failed upload is no error. onChange, which may
// be nil, is given every answer that differs in state or progress from the one
// before. A dispatcher that is away for a while is waited for, as long as the
// client has patience, and without WithPatience until ctx ends; answers that asking
// again would not change are returned as errors.
func (c *Client) Wait(ctx context.Context, id string, onChange func(Upload)) (Upload, error) {
	var last Upload
	pause := firstPause
	for {
		u, err := c.Show(ctx, id)
		switch {
		case err == nil:
			if onChange != nil && changed(last, u) {
				onChange(u)
			}
			if u.Final() {
				return u, nil
			}
			last = u
		case ctx.Err() != nil || isDefinite(err) || c.patience != nil && IsAway(err):
			return Upload{}, err
		}
		select {
		case <-ctx.Done():
			return Upload{}, fmt.Errorf("wait for upload %s: %w", id, context.Cause(ctx))
		case <-time.After(pause):
		}
		pause = min(pause*2, lastPause)
	}
}

func changed(a, b Upload) bool {
	return a.State != b.State || a.AckedBytes != b.AckedBytes || a.DigestedBytes != b.DigestedBytes || a.Epoch != b.Epoch
}

// isDefinite reports whether the API itself refused the request.
func isDefinite(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status < http.StatusInternalServerError && e.Status != http.StatusTooManyRequests
}

// call sends in as JSON, unless it is nil, and reads the answer into out.
func (c *Client) call(ctx context.Context, method, path string, in, out any) (status int, err error) {
	return c.exchange(ctx, method, path, method == http.MethodGet, in, out)
}

// callAgain is call for what may be repeated as any GET may.
func (c *Client) callAgain(ctx context.Context, method, path string, in, out any) (status int, err error) {
	return c.exchange(ctx, method, path, true, in, out)
}

func (c *Client) exchange(ctx context.Context, method, path string, repeatable bool, in, out any) (status int, err error) {
	status, text, err := c.fetch(ctx, method, path, "application/json", repeatable, in)
	if err != nil || out == nil {
		return status, err
	}
	if err := json.Unmarshal(text, out); err != nil {
		return status, fmt.Errorf("read the answer: %w", err)
	}
	return status, nil
}

// fetch sends in as JSON, unless it is nil or jsonLines, and returns the answer as it came.
func (c *Client) fetch(ctx context.Context, method, path, accept string, repeatable bool, in any) (status int, text []byte, err error) {
	var body []byte
	kind := "application/json"
	switch in := in.(type) {
	case nil:
	case jsonLines:
		body, kind = in, "application/x-ndjson"
	default:
		if body, err = json.Marshal(in); err != nil {
			return 0, nil, fmt.Errorf("encode the request: %w", err)
		}
	}
	passes := func(err error) bool { return IsAway(err) && (repeatable || unsent(err)) }
	err = c.Repeat(ctx, passes, func() error {
		req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("make the request: %w", err)
		}
		c.dress(req, accept)
		if in != nil {
			req.Header.Set("Content-Type", kind)
		}
		status, text, err = c.send(req)
		return err
	})
	return status, text, err
}

// send makes a request once.
func (c *Client) send(req *http.Request) (status int, text []byte, err error) {
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // *url.Error says method, URL and cause
	}
	defer func() { _ = res.Body.Close() }()
	text, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil { // it broke off
		return 0, nil, &url.Error{Op: req.Method, URL: req.URL.String(), Err: err}
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return res.StatusCode, nil, readError(res, text)
	}
	return res.StatusCode, text, nil
}

// dress adds what every request carries.
func (c *Client) dress(req *http.Request, accept string) {
	req.Header.Set("Accept", accept)
	if c.tenant != "" {
		req.Header.Set(wire.TenantHeader, c.tenant)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
}

// readSome reads what there is of an answer; one that breaks off is told as far
// as it came.
func readSome(body io.Reader) []byte {
	text, _ := io.ReadAll(io.LimitReader(body, maxAnswer))
	return text
}

// readError reads a problem document; anything else leaves the status alone to tell.
func readError(res *http.Response, text []byte) *Error {
	e := &Error{Status: res.StatusCode}
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	var problem struct {
		Detail string       `json:"detail"`
		Errors []FieldError `json:"errors"`
	}
	if err := json.Unmarshal(text, &problem); err == nil {
		e.Detail, e.Fields = problem.Detail, problem.Errors
	}
	return e
}
