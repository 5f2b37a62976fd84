package api

import (
	"maps"
	"sync"
)

// places are those of callers that follow events. A tenant may have no more of
// them than are free: alone half of them all, and while several tenants have many
// there is still one for the next.
type places struct {
	most int

	mu    sync.Mutex
	taken map[string]int // by tenant
}

func newPlaces(most int) *places { return &places{most: most, taken: map[string]int{}} }

// take takes a place for a caller of the tenant, who gives it back by leave, once.
// Where ok is false it got none: all are taken, or, if own is not 0, the tenant has
// that many and may have no more now.
func (p *places) take(tenant string) (leave func(), own int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := p.most
	for n := range maps.Values(p.taken) {
		free -= n
	}
	if own = p.taken[tenant]; own >= free {
		return nil, own, false
	}
	p.taken[tenant]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.taken[tenant]--; p.taken[tenant] == 0 {
			delete(p.taken, tenant)
		}
	}, own, true
}
