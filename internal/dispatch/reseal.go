package dispatch

import (
	"context"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

type sealStore interface {
	SealedOtherwise(ctx context.Context, prefix []byte, after uploads.ID, most int) ([]parts.Sealed, error)
	Reseal(ctx context.Context, id uploads.ID, was, session []byte) (bool, error)
}

// resealEvery is rare on purpose: while dispatchers are restarted with a new key
// one by one, those with another would seal the sessions back again. The last
// one to be restarted finds all that is left.
const resealEvery = 24 * time.Hour

const resealSize = 200 // sessions that are read together

// reseal seals again, under the present key, the sessions that were sealed under
// an older one, so that the older one can be removed from the settings. Those
// that no key opens are left as they are, and the log says how many.
func (d *Dispatcher) reseal(ctx context.Context) error {
	prefix := d.sealer.Prefix()
	var after uploads.ID
	var sealed, unknown int
	for {
		found, err := d.store.SealedOtherwise(ctx, prefix, after, resealSize)
		if err != nil {
			return err
		}
		for _, f := range found {
			after = f.Upload
			use := sessionUse(f.Upload, f.Epoch)
			plain, err := d.sealer.Open(f.Session, use)
			if err != nil {
				unknown++
				continue
			}
			took, err := d.store.Reseal(ctx, f.Upload, f.Session, d.sealer.Seal(plain, use))
			if err != nil {
				return err
			}
			if took {
				sealed++
			}
		}
		if len(found) < resealSize {
			break
		}
	}
	if sealed > 0 {
		d.log.Info("sessions are sealed anew, under the present key", zap.Int("sessions", sealed))
	}
	if unknown > 0 {
		d.log.Warn("sessions are sealed under a key that is not given here", zap.Int("sessions", unknown))
	}
	return nil
}
