package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mediaferry/internal/providers"
	"mediaferry/internal/reach"
	"mediaferry/internal/uploads"
	"mediaferry/internal/windows"
)

const (
	// checkPatience bounds the one call that a check makes.
	checkPatience = 30 * time.Second
	// checkWait bounds the wait for the published rate before it: uploads spend it
	// too, and mostly it is free again soon.
	checkWait = 5 * time.Second
)

// CheckAccount makes one harmless call with the account's credentials, of the
// published rate, and says what came of it. It changes nothing, here or there, and
// may be repeated; an account that the tenant does not have is uploads.ErrNoAccount.
func (d *Dispatcher) CheckAccount(ctx context.Context, tenant, name string) (uploads.AccountCheck, error) {
	account, err := d.accountOf(tenant, name)
	if err != nil {
		return uploads.AccountCheck{}, err
	}
	check := uploads.AccountCheck{Account: name, Provider: account.Provider, At: time.Now()}
	checker, ok := checkerOf(d.providers[account.Provider])
	if !ok {
		check.Result, check.Detail = uploads.CheckNotPossible, providers.ErrNoCheck.Error()
		return check, nil
	}
	if rate, bounded := d.rateOf(windows.Call{Account: name, Call: string(providers.CallProbe)}); bounded {
		wait, err := d.awaitCall(ctx, name, providers.CallProbe, rate, checkWait)
		if err != nil {
			return uploads.AccountCheck{}, err
		}
		if wait > 0 {
			check.Result, check.Detail = uploads.CheckUnknown, fmt.Sprintf("the platform's rate is spent; try again in %s", max(wait.Round(time.Second), time.Second))
			return check, nil
		}
	}
	ctx, cancel := context.WithTimeoutCause(reach.With(ctx, account.Reach), checkPatience, errors.New("no answer in time"))
	defer cancel()
	asked := time.Now() // the wait is none of the platform's
	detail, err := checker.CheckCredentials(ctx, account.Account)
	check.Took = time.Since(asked)
	check.Result, check.Detail = judgeCheck(detail, err)
	return check, nil
}

// awaitCall spends a call of a published rate, and waits for it no longer than
// patience. It returns 0 once the call may be made, else how much longer to wait.
func (d *Dispatcher) awaitCall(ctx context.Context, account string, call providers.Call, rate providers.Rate, patience time.Duration) (time.Duration, error) {
	for end := time.Now().Add(patience); ; {
		wait, err := d.store.TakeCalls(ctx, account, call, 1, rate)
		if err != nil || wait <= 0 || time.Now().Add(wait).After(end) {
			return wait, err
		}
		if !pause(ctx, nil, wait) {
			return 0, fmt.Errorf("wait for the rate of account %s: %w", account, context.Cause(ctx))
		}
	}
}

// checkerOf is the provider as one that can tell. One that stands around another
// can if that can.
func checkerOf(p providers.Provider) (providers.CredentialChecker, bool) {
	if around, ok := p.(interface{ Unwrap() providers.Provider }); ok {
		if _, can := around.Unwrap().(providers.CredentialChecker); !can {
			return nil, false
		}
	}
	checker, ok := p.(providers.CredentialChecker)
	return checker, ok
}

func judgeCheck(detail string, err error) (uploads.CheckResult, string) {
	switch {
	case err == nil:
		return uploads.CheckTaken, detail
	case errors.Is(err, providers.ErrNoCheck):
		return uploads.CheckNotPossible, err.Error()
	case providers.KindOf(err) == providers.Unauthorized:
		return uploads.CheckRefused, err.Error()
	default:
		return uploads.CheckUnknown, err.Error()
	}
}
