package dispatch

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// confirmPatience is how long a finished upload waits for its turn to be asked about.
const confirmPatience = 15 * time.Second

// confirm asks a platform that knows media by their digest which media have the
// upload's, and compares them with those that finish has named: nothing else in
// that answer says whose they are. An error says that they are others, so that
// what finish came to is to be probed for as if it had not answered.
//
// It is a question beside the upload's way. Where the published rate has no room
// for it or there is no clear answer, finish is believed, and the link says why.
// The link is nil for other platforms.
func (d *Dispatcher) confirm(
	ctx context.Context, step uploads.Step, p providers.Provider, session providers.Session, asset uploads.Asset,
) (*uploads.DigestLink, error) {
	kind := p.Limits().KnownBy
	if kind == "" {
		return nil, nil //nolint:nilnil // there is nothing to compare
	}
	believed := func(why string) (*uploads.DigestLink, error) {
		link := uploads.Uncompared(uploads.StagePlatform, "the asset's id is that of the answer to finish alone: "+why)
		return &link, nil
	}
	for patience := confirmPatience; ; {
		wait, held, err := d.budget(ctx, step, providers.CallProbe)
		if err == nil && wait == 0 {
			break
		}
		if patience -= wait; err != nil || held != "" || patience < 0 || !backoff.Pause(ctx, wait) {
			return believed("the platform's rate left no room to ask, or it does not answer")
		}
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := p.Probe(callCtx, d.accounts[step.Account].Account, d.media(step, step.Epoch, step.PartSize), session)
	d.noteCall(ctx, step.Account, providers.CallProbe, err)
	switch {
	case err != nil:
		return believed(err.Error())
	case out.Holding != providers.HoldsAsset:
		return believed(fmt.Sprintf("asked for the media, the platform says %s: %s", out.Holding, out.Evidence))
	case out.Asset.ID != asset.ID:
		d.log.Warn("finish named an asset that is another's", zap.Stringer("upload", step.ID), zap.String("account", step.Account),
			zap.String("named", asset.ID), zap.String("evidence", out.Evidence))
		return nil, &providers.Error{
			Kind: providers.UnknownOutcome, Call: string(providers.CallFinish),
			Message: fmt.Sprintf("the answer names asset %s, the platform has %s for the %s of the media", asset.ID, out.Asset.ID, kind),
		}
	}
	return &uploads.DigestLink{
		Stage: uploads.StagePlatform, Kind: "asset by " + string(kind), Expected: out.Asset.ID, ExpectedFrom: uploads.FromPlatform,
		Got: asset.ID, GotFrom: uploads.FromPlatform, Compared: true, Matched: true,
	}, nil
}
