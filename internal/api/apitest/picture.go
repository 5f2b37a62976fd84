package apitest

import (
	"context"
	"slices"
	"strings"
	"time"

	"mediaferry/internal/uploads"
)

// Picture counts the tenant's uploads; the rest is what the test set.
func (p port) Picture(_ context.Context, tenant string) (uploads.Picture, error) {
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	now := time.Now()
	out := uploads.Picture{
		At: now, Since: now.Add(-24 * time.Hour), States: map[uploads.State]int{},
		Moved: p.uc.Moved, MovedStep: 10 * time.Second, Queued: map[string]int{},
	}
	for _, name := range p.uc.Names {
		out.Queued[name] = 0
	}
	for _, u := range p.uc.all {
		if u.Tenant == tenant {
			out.States[u.State]++
			if u.State == uploads.Uploading {
				out.Queued[u.Account] += 2
			}
		}
	}
	return out, p.uc.due()
}

// PartMap has every part in the ledger or not fed, unless the test set another.
func (p port) PartMap(ctx context.Context, tenant string, id uploads.ID) (uploads.PartMap, error) {
	u, err := p.Upload(ctx, tenant, id)
	if m, ok := p.uc.Maps[id]; ok || err != nil {
		return m, err
	}
	m := uploads.PartMap{Epoch: u.Epoch, PartSize: u.PartSize, PartCount: u.PartCount}
	if u.AckedParts > 0 {
		m.Ranges = append(m.Ranges, uploads.PartRange{First: 1, Count: u.AckedParts, State: uploads.PartAcked})
	}
	if rest := u.PartCount - u.AckedParts; rest > 0 {
		m.Ranges = append(m.Ranges, uploads.PartRange{First: u.AckedParts + 1, Count: rest, State: uploads.PartNotFed})
	}
	return m, nil
}

// History has the submission and the present state, unless the test set another.
func (p port) History(ctx context.Context, tenant string, id uploads.ID) (uploads.History, error) {
	u, err := p.Upload(ctx, tenant, id)
	if h, ok := p.uc.Histories[id]; ok || err != nil {
		return h, err
	}
	moves := []uploads.Move{{To: uploads.Queued, Reason: "submitted", At: u.SubmittedAt}}
	if u.State != uploads.Queued {
		moves = append(moves, uploads.Move{From: uploads.Queued, To: u.State, At: u.SubmittedAt})
	}
	return uploads.History{Moves: moves}, nil
}

// FailuresByCause groups the failed uploads by cause and account.
func (p port) FailuresByCause(_ context.Context, tenant string) (uploads.Failures, error) {
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	groups := map[[2]string]uploads.FailureGroup{}
	for id, u := range p.uc.all {
		if u.Tenant != tenant || u.Failure == nil {
			continue
		}
		key := [2]string{string(u.Failure.Cause), u.Account}
		g := groups[key]
		g.Cause, g.Account = u.Failure.Cause, u.Account
		if g.Count++; !u.FinishedAt.Before(g.Last) {
			g.Last, g.Example, g.Name, g.Message = u.FinishedAt, id, u.Name, u.Failure.Message
		}
		groups[key] = g
	}
	f := uploads.Failures{Since: time.Now().Add(-7 * 24 * time.Hour), Tries: p.uc.Tries}
	for _, g := range groups {
		f.Uploads = append(f.Uploads, g)
	}
	slices.SortFunc(f.Uploads, func(a, b uploads.FailureGroup) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(string(a.Cause)+a.Account, string(b.Cause)+b.Account)
	})
	return f, p.uc.due()
}
