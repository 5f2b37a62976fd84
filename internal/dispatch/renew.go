package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

type renewStore interface {
	ClaimRenewals(ctx context.Context, margins map[string]time.Duration, most int, lease time.Duration) ([]uploads.Step, error)
	RecordRenewed(ctx context.Context, step uploads.Step, session []byte, expires time.Time, keepLease bool) (bool, error)
	ReleaseLease(ctx context.Context, step uploads.Step) error
	RefuseSession(ctx context.Context, id uploads.ID, state uploads.State, epoch, number int) (refusals int, waits time.Duration, present bool, err error)
}

// renewMargin is how long before its end a session is renewed, at most: longer
// than a worker keeps what it was told of it.
const renewMargin = 10 * time.Minute

// renewSessions renews sessions ahead of their end, where the platform can.
// The epoch and its parts stay, and parts in hand go on under the old session;
// workers learn of the new one when they next ask.
func (d *Dispatcher) renewSessions(ctx context.Context) error {
	margins := map[string]time.Duration{}
	for name, p := range d.providers {
		if _, ok := p.(providers.Renewer); ok {
			margins[name] = marginOf(p)
		}
	}
	if len(margins) == 0 {
		return nil
	}
	steps, err := claim(ctx, func(ctx context.Context) ([]uploads.Step, error) {
		return d.store.ClaimRenewals(ctx, margins, claimSize, d.cfg.Lease)
	})
	if err != nil {
		return err
	}
	for _, step := range steps {
		d.take(ctx, step, func(ctx context.Context) error {
			if d.hand.rests(step.ID) {
				return d.store.ReleaseLease(ctx, step)
			}
			session, p, err := d.session(step)
			if err == nil {
				_, err = d.renew(ctx, step, p, session, false)
			}
			if providers.KindOf(err) == providers.SessionLost {
				return d.beginAgain(ctx, step.ID, step.Account, step.Epoch, step.Lease, "session lost at its renewal")
			}
			if err != nil {
				// The old session may last yet, and parts tell when it does not.
				time.AfterFunc(d.hand.notRenewed(step.ID), d.renews.wake)
				return errors.Join(err, d.store.ReleaseLease(context.WithoutCancel(ctx), step))
			}
			d.hand.wasRenewed(step.ID)
			return nil
		})
	}
	return nil
}

// marginOf is how long before its end a session of the provider is renewed.
func marginOf(p providers.Provider) time.Duration {
	if life := p.Limits().SessionLife; life > 0 {
		return min(renewMargin, life/3)
	}
	return renewMargin
}

// renewAhead wakes the renewal when the session comes near its end. The timer
// is this process's own; the loop looks now and then in any case.
func (d *Dispatcher) renewAhead(p providers.Provider, expires time.Time) {
	if _, ok := p.(providers.Renewer); ok && !expires.IsZero() {
		time.AfterFunc(time.Until(expires)-marginOf(p), d.renews.wake)
	}
}

// renew prolongs the session of a claimed step and records it.
func (d *Dispatcher) renew(ctx context.Context, step uploads.Step, p providers.Provider, session providers.Session, keepLease bool) (providers.Session, error) {
	renewer, ok := p.(providers.Renewer)
	if !ok {
		return session, fmt.Errorf("provider %s cannot renew a session", step.Provider)
	}
	// Platforms renew by the call that opens a session.
	if wait, _, err := d.budget(ctx, step, providers.CallBegin); err != nil || wait > 0 {
		return session, errors.Join(err, fmt.Errorf("renewal of %s waits %s for the account's calls", step.ID, wait))
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	fresh, err := renewer.Renew(callCtx, d.accounts[step.Account].Account, d.media(step, step.Epoch, step.PartSize), session)
	d.noteCall(ctx, step.Account, providers.CallBegin, err)
	if err != nil {
		return session, err
	}
	plain, err := json.Marshal(fresh)
	if err != nil {
		return session, fmt.Errorf("encode session of %s: %w", step.ID, err)
	}
	took, err := d.store.RecordRenewed(ctx, step, d.sealer.Seal(plain, sessionUse(step.ID, step.Epoch)), fresh.Expires, keepLease)
	if err != nil {
		return session, err
	}
	if took {
		d.renewAhead(p, fresh.Expires)
		d.log.Info("session renewed", zap.Stringer("upload", step.ID), zap.Int("epoch", step.Epoch),
			zap.String("account", step.Account), zap.Time("expires", fresh.Expires))
	}
	return fresh, nil
}
