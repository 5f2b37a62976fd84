// Package apitest is the use cases behind the API, kept in memory: it accepts,
// lists and cancels uploads as the dispatcher does, and moves nothing. Tests
// of the API, its client and the command line stand on it.
package apitest

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"mediaferry/internal/api"
	"mediaferry/internal/uploads"
)

// UseCases keeps uploads in memory. Fields may be set before the first call.
type UseCases struct {
	Names   []string // accounts that exist, of every tenant
	Objects []uploads.Object
	Workers []uploads.WorkerStatus
	Tokens  api.Tokens // nil asks for no tokens
	// Moves are state changes, to whoever follows; nil brings none.
	Moves chan uploads.StateChange
	// SetAside are messages that are set aside, oldest first.
	SetAside []uploads.SetAside
	Links    []uploads.DigestLink          // of every upload
	Answers  map[string]uploads.ReportRows // by report
	// What is shown of the uploads beside them.
	Moved     []uploads.Moved
	Maps      map[uploads.ID]uploads.PartMap
	Histories map[uploads.ID]uploads.History
	Tries     []uploads.TryGroup
	// Account alters each account that is shown; nil leaves it idle.
	Account  func(*uploads.AccountStatus)
	Webhooks []uploads.WebhookEndpoint
	// PutURL is where files are put into staging; "" makes no URLs.
	PutURL string
	// Accepted alters each upload as it is accepted; nil leaves it queued.
	Accepted func(*uploads.Upload)

	mu   sync.Mutex
	all  map[uploads.ID]uploads.Upload
	subs map[uploads.ID]uploads.Submission
	keys map[uploads.ID]string // idempotency keys of batches
	held map[uploads.Scope]map[string]uploads.Pause
	err  error
	once bool // err is for one call alone
}

// Handler serves uc without a socket or a log.
func Handler(uc *UseCases) http.Handler {
	uc.all = map[uploads.ID]uploads.Upload{}
	uc.subs = map[uploads.ID]uploads.Submission{}
	return api.NewServer(port{uc}, api.Guarding{Open: true}, func(context.Context) error { return uc.failure() }, zap.NewNop()).Handler
}

// Start serves uc until the test ends and returns the base URL.
func Start(t *testing.T, uc *UseCases) string {
	t.Helper()
	uc.all = map[uploads.ID]uploads.Upload{}
	uc.subs = map[uploads.ID]uploads.Submission{}
	uc.held = map[uploads.Scope]map[string]uploads.Pause{uploads.ScopeAccount: {}, uploads.ScopeTenant: {}}
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = api.NewServer(port{uc}, api.Guarding{Open: uc.Tokens == nil, Tokens: uc.Tokens}, func(context.Context) error { return uc.failure() }, zaptest.NewLogger(t))
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

// Fail makes every call fail with err until it is given nil.
func (uc *UseCases) Fail(err error) {
	uc.mu.Lock()
	defer uc.mu.Unlock()
	uc.err, uc.once = err, false
}

// FailOnce makes the next call fail with err.
func (uc *UseCases) FailOnce(err error) {
	uc.mu.Lock()
	defer uc.mu.Unlock()
	uc.err, uc.once = err, true
}

func (uc *UseCases) failure() error {
	uc.mu.Lock()
	defer uc.mu.Unlock()
	return uc.due()
}

// due is the error of the call that asks; mu is held.
func (uc *UseCases) due() error {
	err := uc.err
	if uc.once {
		uc.err, uc.once = nil, false
	}
	return err
}

// Change alters an upload, as the dispatcher would while it works.
func (uc *UseCases) Change(id uploads.ID, change func(*uploads.Upload)) {
	uc.mu.Lock()
	defer uc.mu.Unlock()
	u := uc.all[id]
	change(&u)
	uc.all[id] = u
}

// Put adds a staging object, as someone who writes to the bucket would.
func (uc *UseCases) Put(o uploads.Object) {
	uc.mu.Lock()
	defer uc.mu.Unlock()
	uc.Objects = append(uc.Objects, o)
}

// IDs ranges over the uploads that there are.
func (uc *UseCases) IDs() iter.Seq[uploads.ID] {
	uc.mu.Lock()
	defer uc.mu.Unlock()
	return maps.Keys(maps.Clone(uc.all))
}

// port has the method names of the API's port, of which one is also a field of UseCases.
type port struct{ uc *UseCases }

// Submit accepts what Validate accepts and the accounts and objects allow.
func (p port) Submit(_ context.Context, s uploads.Submission) (uploads.Upload, bool, error) {
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	return p.uc.submit(s, uploads.ID{})
}

func (uc *UseCases) submit(s uploads.Submission, batch uploads.ID) (uploads.Upload, bool, error) {
	if err := uc.due(); err != nil {
		return uploads.Upload{}, false, err
	}
	if err := s.Validate(); err != nil {
		return uploads.Upload{}, false, err
	}
	if !slices.Contains(uc.Names, s.Account) {
		return uploads.Upload{}, false, &uploads.FieldError{
			Field: "account", Detail: "is not configured; accounts are " + strings.Join(uc.Names, ", "),
		}
	}
	i := slices.IndexFunc(uc.Objects, func(o uploads.Object) bool {
		return o.Bucket == s.Source.Bucket && o.Key == s.Source.Key
	})
	if i < 0 {
		return uploads.Upload{}, false, &uploads.FieldError{Field: "source.key", Detail: "is not in the bucket; put the object first"}
	}
	if s.Source.ETag != "" && s.Source.ETag != uc.Objects[i].ETag {
		return uploads.Upload{}, false, &uploads.FieldError{Field: "source.etag", Detail: "is another one; submit the object that is there"}
	}
	for id, old := range uc.subs {
		if s.IdempotencyKey != "" && old.IdempotencyKey == s.IdempotencyKey && old.Tenant == s.Tenant {
			if !reflect.DeepEqual(old, s) {
				return uploads.Upload{}, false, uploads.ErrKeyTaken
			}
			return uc.all[id], false, nil
		}
	}
	id, err := uploads.NewID()
	if err != nil {
		return uploads.Upload{}, false, err
	}
	u := uploads.Upload{
		ID: id, Tenant: s.Tenant, Account: s.Account, Provider: "s3", Batch: batch, IdempotencyKey: s.IdempotencyKey,
		Source: uc.Objects[i], Name: s.Name, ContentType: s.ContentType, Options: s.Options, Labels: s.Labels,
		Priority: s.Priority, NotBefore: s.NotBefore, State: uploads.Queued, SubmittedAt: time.Now(),
	}
	if uc.Accepted != nil {
		uc.Accepted(&u)
	}
	uc.subs[id], uc.all[id] = s, u
	return u, true, nil
}

// SubmitPrefix submits every object below the prefix.
func (p port) SubmitPrefix(_ context.Context, template uploads.Submission, match string) (uploads.PrefixResult, error) {
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	batch, err := uploads.NewID()
	if err != nil {
		return uploads.PrefixResult{}, err
	}
	check := template
	check.Name, check.Source.Key = "film", "/"+strings.TrimPrefix(template.Source.Key, "/")
	if err := check.Validate(); err != nil {
		return uploads.PrefixResult{}, err
	}
	res := uploads.PrefixResult{Batch: batch}
	for _, o := range p.uc.Objects {
		if o.Bucket != template.Source.Bucket || !strings.HasPrefix(o.Key, template.Source.Key) {
			continue
		}
		if ok, err := path.Match(match, o.Key); match != "" && !ok {
			if err != nil {
				return res, &uploads.FieldError{Field: "match", Detail: "is not a complete pattern"}
			}
			continue
		}
		one := template
		one.Source.Key = o.Key
		if _, _, err := p.uc.submit(one, batch); err != nil {
			res.Rejected = append(res.Rejected, uploads.Rejected{Key: o.Key, Err: err.Error()})
			continue
		}
		res.Submitted++
	}
	return res, p.uc.due()
}

// SubmitMany submits one line after the other.
func (p port) SubmitMany(_ context.Context, tenant string, lines []uploads.Line) (uploads.BulkResult, error) {
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	var res uploads.BulkResult
	batch, err := uploads.NewID()
	if err != nil {
		return res, err
	}
	for _, l := range lines {
		l.Submission.Tenant = tenant
		switch _, created, err := p.uc.submit(l.Submission, batch); {
		case err != nil:
			res.Rejected = append(res.Rejected, uploads.LineError{Number: l.Number, Err: err})
		case created:
			res.Submitted, res.Batch = res.Submitted+1, batch
		default:
			res.Known++
		}
	}
	return res, p.uc.due()
}

// Upload finds an upload of the tenant.
func (p port) Upload(_ context.Context, tenant string, id uploads.ID) (uploads.Upload, error) {
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	if err := p.uc.due(); err != nil {
		return uploads.Upload{}, err
	}
	u, ok := p.uc.all[id]
	if !ok || u.Tenant != tenant {
		return uploads.Upload{}, uploads.ErrNotFound
	}
	return u, nil
}

// Uploads lists newest first.
func (p port) Uploads(_ context.Context, f uploads.Filter) ([]uploads.Upload, error) {
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	newestFirst := func(a, b uploads.Upload) int { return bytes.Compare(b.ID[:], a.ID[:]) }
	var page []uploads.Upload
	for _, u := range slices.SortedFunc(maps.Values(p.uc.all), newestFirst) {
		switch {
		case !matches(f, u),
			f.After != uploads.ID{} && bytes.Compare(u.ID[:], f.After[:]) >= 0,
			len(page) == f.Limit:
			continue
		}
		page = append(page, u)
	}
	return page, p.uc.due()
}

// DigestChain lists the links that the test set.
func (p port) DigestChain(ctx context.Context, tenant string, id uploads.ID) ([]uploads.DigestLink, error) {
	_, err := p.Upload(ctx, tenant, id)
	return p.uc.Links, err
}

// Explain explains by the upload and what the test set: its workers, and whether
// one has parts of it in hand.
func (p port) Explain(ctx context.Context, tenant string, id uploads.ID) (uploads.Explanation, error) {
	u, err := p.Upload(ctx, tenant, id)
	if err != nil {
		return uploads.Explanation{}, err
	}
	c := uploads.Circumstances{
		Upload: u, Now: time.Now(), Pool: "default", Account: &uploads.AccountStatus{Name: u.Account, Window: 1}, Workers: p.uc.Workers,
	}
	if hands := p.uc.Maps[id].Hands; len(hands) > 0 {
		c.MovedAt, c.OnQueue = c.Now, len(hands)
		c.RecentBytes = int64(float64(u.AckedBytes-u.FoundBytes) * time.Minute.Seconds() / c.Now.Sub(u.BegunAt).Seconds())
	}
	return uploads.Explain(c), nil
}

// Accounts lists every name as an account of the default tenant; "slow" is held.
func (p port) Accounts(context.Context) ([]uploads.AccountStatus, error) {
	var all []uploads.AccountStatus
	for _, name := range p.uc.Names {
		account := uploads.AccountStatus{
			Name: name, Tenant: "default", Provider: "s3", Pool: "default", Window: 256 << 20, MaxWindow: 256 << 20,
			Pauses: p.uc.pauses(name, "default"),
		}
		if name == "slow" {
			now := time.Now()
			account.Window = 16 << 20
			account.Held = []uploads.HeldCall{{Call: "put_part", Until: now.Add(41 * time.Second), Why: "transient: refused", Down: now.Add(-12 * time.Minute), Asked: 9}}
			account.Rates = []uploads.CallRate{{Call: "finish", Count: 100, Per: time.Minute, Spent: 7}}
		}
		if p.uc.Account != nil {
			p.uc.Account(&account)
		}
		all = append(all, account)
	}
	return all, p.uc.failure()
}

// Workers lists the workers that the test set.
func (p port) Workers(context.Context) []uploads.WorkerStatus { return p.uc.Workers }
