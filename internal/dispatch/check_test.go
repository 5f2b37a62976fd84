package dispatch

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// checkable is a platform with a call that tells of credentials, and the record
// and the bucket beside it.
type checkable struct {
	providers.Provider
	Store
	Queue
	Staging

	err   error         // of the call
	wait  time.Duration // that the published rate asks for
	again time.Duration // that it asks for once that is over
	asked int
	keys  []string
	took  []string
}

func (c *checkable) Limits() providers.Limits {
	return providers.Limits{
		Limits: parts.Limits{MinPart: 1, MaxPart: 1 << 20, Preferred: 1 << 20, MaxParts: 10},
		Calls:  map[providers.Call]providers.Rate{providers.CallProbe: {Count: 20, Per: time.Minute}},
	}
}

func (c *checkable) CheckCredentials(_ context.Context, account providers.Account) (string, error) {
	c.asked++
	return "asked as " + account.Name, c.err
}

func (c *checkable) TakeCalls(_ context.Context, _ string, call providers.Call, calls int, _ providers.Rate) (time.Duration, error) {
	if call != providers.CallProbe || calls != 1 {
		return 0, errors.New("another rate is spent")
	}
	wait := c.wait
	c.wait, c.again = c.again, 0
	return wait, nil
}

func (c *checkable) List(_ context.Context, bucket, prefix string, yield func(uploads.Object) error) error {
	for _, key := range c.keys {
		if strings.HasPrefix(key, prefix) {
			if err := yield(uploads.Object{Bucket: bucket, Key: key, ETag: "e", Size: 1}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checkable) Insert(_ context.Context, in *uploads.Intake) (map[uploads.ID]bool, error) {
	for _, it := range in.Items {
		c.took = append(c.took, it.Source.Key)
	}
	return nil, nil
}

// around is a platform with such a call, that stands around one without.
type around struct{ *checkable }

func (a around) Unwrap() providers.Provider { return struct{ providers.Provider }{a.checkable} }

func checking() (*checkable, *Dispatcher) {
	c := &checkable{}
	d := New(Config{}, c, c, c, nil, map[string]providers.Provider{"fake": c, "silent": around{c}}, []Account{
		{Account: providers.Account{Name: "main"}, Tenant: "default", Provider: "fake", Window: 1 << 20},
		{Account: providers.Account{Name: "mute"}, Tenant: "default", Provider: "silent", Window: 1 << 20},
	}, zap.NewNop())
	return c, d
}

func TestCheckAccount(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		account string
		err     error
		wait    time.Duration
		again   time.Duration
		want    uploads.CheckResult
		detail  string
		asked   int
	}{
		"taken":        {account: "main", want: uploads.CheckTaken, detail: "asked as main", asked: 1},
		"refused":      {account: "main", err: &providers.Error{Kind: providers.Unauthorized, Call: "List", Code: "403"}, want: uploads.CheckRefused, detail: "List: unauthorized (403)", asked: 1},
		"silent":       {account: "main", err: &providers.Error{Kind: providers.Transient, Call: "List"}, want: uploads.CheckUnknown, detail: "List: transient", asked: 1},
		"rate spent":   {account: "main", wait: 5500 * time.Millisecond, want: uploads.CheckUnknown, detail: "the platform's rate is spent; try again in 6s"},
		"soon free":    {account: "main", wait: 3 * time.Second, again: time.Second, want: uploads.CheckTaken, detail: "asked as main", asked: 1},
		"not so soon":  {account: "main", wait: 3 * time.Second, again: 2500 * time.Millisecond, want: uploads.CheckUnknown, detail: "the platform's rate is spent; try again in 3s"},
		"not possible": {account: "mute", wait: time.Second, want: uploads.CheckNotPossible, detail: "not possible without beginning an upload"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				platform, d := checking()
				platform.err, platform.wait, platform.again = c.err, c.wait, c.again
				got, err := d.CheckAccount(t.Context(), "default", c.account)
				if err != nil {
					t.Error(err)
				}
				if got.Result != c.want || got.Detail != c.detail || platform.asked != c.asked {
					t.Errorf("%s: %q after %d calls; want %s: %q after %d", got.Result, got.Detail, platform.asked, c.want, c.detail, c.asked)
				}
			})
		})
	}
	_, d := checking()
	for _, tenant := range []string{"default", "films"} {
		name := map[string]string{"default": "nowhere", "films": "main"}[tenant]
		if _, err := d.CheckAccount(t.Context(), tenant, name); !errors.Is(err, uploads.ErrNoAccount) {
			t.Errorf("account %s of %s: %v", name, tenant, err)
		}
	}
}

// A pattern is one of whole keys, and * stops at a slash.
func TestSubmitPrefixByPattern(t *testing.T) {
	t.Parallel()
	for match, want := range map[string][]string{
		"":                {"a/1.mov", "a/2.mp4", "a/b/3.mov", "a/x*.mov"},
		"a/*.mov":         {"a/1.mov", "a/x*.mov"},
		"a/*/*.mov":       {"a/b/3.mov"},
		`a/x\*.mov`:       {"a/x*.mov"},
		"a/[0-9].*":       {"a/1.mov", "a/2.mp4"},
		"other/*.nothing": nil,
	} {
		c, d := checking()
		c.keys = []string{"a/1.mov", "a/2.mp4", "a/b/3.mov", "a/x*.mov", "z"}
		s := uploads.Submission{Tenant: "default", Account: "main", Source: uploads.Object{Bucket: "inbox", Key: "a/"}}
		res, err := d.SubmitPrefix(t.Context(), s, match)
		if err != nil || res.Submitted != len(want) {
			t.Errorf("%q: %d submitted, %v", match, res.Submitted, err)
		}
		if diff := cmp.Diff(want, c.took); diff != "" {
			t.Errorf("%q (-want +got):\n%s", match, diff)
		}
		if _, err := d.SubmitPrefix(t.Context(), s, match+"[a"); err == nil || !strings.Contains(err.Error(), "match: is not a complete pattern") {
			t.Errorf("%q: %v", match+"[a", err)
		}
	}
}
