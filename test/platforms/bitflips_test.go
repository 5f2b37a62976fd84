package platforms_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mediaferry/internal/config"
	"mediaferry/internal/staging"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

// flipAccounts is how many uploads with a flip each platform has in hand at a
// time: one for each account, so that a fault finds its upload.
const flipAccounts = 10

// flipSeed makes the flips the same in each run.
const flipSeed = 20

// flipTarget is a platform, and where it lets a bit be turned over.
type flipTarget struct {
	platform

	puts, finish []string // calls that bring a part, and that assemble
	account      func(n int) string
	transit      *flipProxy // in place of puts, where the platform is not one of our servers
	store        *staging.Store
}

// flipCase is an upload with one flip.
type flipCase struct {
	sent

	target *flipTarget
	stage  uploads.DigestStage
	bit    int64 // of the body that is hit, or of the first part
	skip   int   // reads of the object that pass unharmed before
	always bool  // every further read, or call, is damaged like the first
}

// TestBitFlips turns over one bit of each upload: of what is read from staging,
// of a part on its way to the platform, or of what the platform stores before
// it puts the parts together. A flip is caught if the asset has the right bytes
// all the same and the digest chain names the stage, or, where the bytes cannot
// be mended, if the upload failed and its failure does.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	total := intFlag(t, flagFlips)
	from := startSource(t)
	reads := startFlipProxy(t, from.server.Config().Endpoint, http.MethodGet)
	from.via = reads.url
	targets := flipTargets(t)
	var accounts []config.Account
	for _, target := range targets {
		accounts = append(accounts, target.accounts...)
	}
	o := startOurs(t, from, accounts)

	draws := rand.New(rand.NewPCG(flipSeed, 0))
	results := map[string]*flipResult{}
	start := time.Now()
	injected, caught := 0, 0
	for first := 0; first < total; first += len(accounts) {
		round := make([]flipCase, min(len(accounts), total-first))
		for i := range round {
			round[i] = flipCaseOf(targets[i%len(targets)], i/len(targets), first+i, draws)
		}
		for i := range targets {
			if targets[i].clear != nil {
				targets[i].clear()
			}
		}
		for i := range round {
			round[i].arm(reads)
		}
		all := make([]sent, len(round))
		for i := range round {
			all[i] = round[i].sent
		}
		submitAll(t, from, o, all)
		o.allEnded(t)
		for i := range round {
			round[i].sent = all[i]
			name := fmt.Sprintf("%-10s %s", round[i].target.name, round[i].stage)
			r := results[name]
			if r == nil {
				r = &flipResult{}
				results[name] = r
			}
			injected++
			if r.add(t, o, round[i]) {
				caught++
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		r := results[name]
		t.Logf("%s: %d flips, %d mended, %d failed the upload, %d not caught", name, r.flips, r.mended, r.failed, r.missed)
	}
	t.Logf("%d flips in %s", injected, time.Since(start).Round(time.Second))
	figure("figure bitflips_injected %d count", injected)
	figure("figure bitflips_caught %d count", caught)
}

// flipResult counts what became of flips.
type flipResult struct{ flips, mended, failed, missed int }

// add looks at what became of an upload, and reports whether its flip was caught.
func (r *flipResult) add(t *testing.T, o *ours, c flipCase) bool {
	t.Helper()
	r.flips++
	u, err := o.api.Show(t.Context(), c.id)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := o.api.Digests(t.Context(), c.id)
	if err != nil {
		t.Fatal(err)
	}
	named := false
	for _, l := range chain.Links {
		named = named || l.Compared && !l.Matched && l.Stage == string(c.stage)
	}
	switch {
	case u.State == "failed" && u.Failure.Stage == string(c.stage) && named && !c.mendable():
		r.failed++
		return true
	case u.State == "completed" && named && c.target.digestOf(t, u.Asset.ID) == c.digest:
		r.mended++
		return true
	}
	r.missed++
	t.Errorf("%s of %s, %d bytes, bit %d at %s, skip %d, always %t: %s, named %t, failure %+v",
		c.id, c.account.Name, c.size, c.bit, c.stage, c.skip, c.always, u.State, named, u.Failure)
	for _, l := range chain.Links {
		t.Logf("  %+v", l)
	}
	o.log.print(t, c.id, 40)
	return false
}

// mendable reports whether the bytes can be sent again: the flip is not done
// each time, and it does not leave a wrong asset behind.
func (c flipCase) mendable() bool {
	return !c.always && (c.stage != uploads.StagePlatform || c.target.name != "cdnetworks")
}

// flipCaseOf draws a case for the nth account of a target.
func flipCaseOf(target *flipTarget, nth, number int, draws *rand.Rand) flipCase {
	c := flipCase{target: target, stage: uploads.StageStaging}
	c.account = target.accounts[nth]
	c.key = fmt.Sprintf("flip-%d.mp4", number)
	tail := 4*kib + draws.IntN(60*kib) // the whole, or the last of two parts
	c.size = tail
	stages := []uploads.DigestStage{uploads.StageStaging, uploads.StageTransit}
	long := draws.IntN(40) == 0
	switch target.name {
	case "tencentugc", "tencentvod":
		stages = append(stages, uploads.StagePlatform)
		if draws.IntN(8) == 0 {
			c.size += mib
		}
		c.skip = draws.IntN(2) // the digest pass reads first
	case "cdnetworks":
		stages = append(stages, uploads.StagePlatform)
		if draws.IntN(16) == 0 {
			c.size += 4 * mib
		}
	case "tencentsmh":
		stages = append(stages, uploads.StagePlatform)
	case "tencentcos":
		if draws.IntN(8) == 0 { // of one part it assembles nothing
			stages, long = []uploads.DigestStage{uploads.StagePlatform}, true
		}
	}
	if long && (target.name == "tencentcos" || target.name == "tencentsmh" || target.name == "s3") {
		c.size += 16 * mib
		if target.name == "tencentsmh" {
			c.skip = draws.IntN(2)
		}
	}
	c.stage = stages[draws.IntN(len(stages))]
	c.bit = draws.Int64N(8 * int64(tail))
	if c.target.transit != nil && c.stage == uploads.StageTransit {
		c.bit = 8*128 + draws.Int64N(8*2*kib) // past the framing of a streamed body
	}
	c.always = c.stage != uploads.StageTransit && draws.IntN(10) == 0
	return c
}

// arm has the flip done.
func (c flipCase) arm(reads *flipProxy) {
	times := 1
	if c.always {
		times = 0
	}
	switch {
	case c.stage == uploads.StageStaging:
		reads.arm(c.key, flipPlan{bit: c.bit, skip: c.skip, always: c.always})
	case c.stage == uploads.StageTransit && c.target.transit != nil:
		c.target.transit.arm(c.key, flipPlan{bit: c.bit})
	default:
		calls := c.target.puts
		if c.stage == uploads.StagePlatform {
			calls = c.target.finish
		}
		for i, a := range c.target.accounts {
			if a.Name != c.account.Name {
				continue
			}
			for _, call := range calls {
				c.target.faults(upstreams.Fault{
					Action: call, Account: c.target.account(i), Times: times, FlipBit: true, FlipAt: c.bit,
				})
			}
		}
	}
}

func flipTargets(t *testing.T) []*flipTarget {
	t.Helper()
	targets := []*flipTarget{
		{
			platform: startTencentUGC(t, flipAccounts), account: keyID,
			puts: []string{upstreams.ActionPart}, finish: []string{upstreams.ActionFinish},
		},
		{
			platform: startTencentVOD(t, flipAccounts), account: keyID,
			puts: []string{upstreams.ActionServerPart}, finish: []string{upstreams.ActionServerFinish},
		},
		{
			platform: startTencentCOS(t, flipAccounts), account: keyID,
			puts: []string{upstreams.COSPutObject, upstreams.COSUploadPart}, finish: []string{upstreams.COSComplete},
		},
		{
			platform: startCDNetworks(t, flipAccounts), account: keyID,
			puts: []string{upstreams.ActionMakeBlock}, finish: []string{upstreams.ActionMakeFile},
		},
		{
			platform: startTencentSMH(t, flipAccounts), account: func(n int) string { return fmt.Sprintf("smh%d", n) },
			puts: []string{upstreams.ActionSMHPart}, finish: []string{upstreams.ActionSMHConfirm},
		},
		startFlippedS3(t),
	}
	return targets
}

// startFlippedS3 starts a bucket behind a proxy that damages what is put. A
// gateway looks at nothing it has stored, so no flip of its own can be caught.
func startFlippedS3(t *testing.T) *flipTarget {
	t.Helper()
	server := startSource(t)
	proxy := startFlipProxy(t, server.server.Config().Endpoint, http.MethodPut)
	const name = "s3"
	cfg := server.server.Config()
	return &flipTarget{
		platform: platform{name: name, accounts: named(name, flipAccounts, func(int) config.Account {
			return config.Account{
				Settings: map[string]string{"endpoint": proxy.url, "bucket": bucket, "path_style": "true"},
				Secrets:  secrets("access_key", cfg.AccessKey.Reveal(), "secret_key", cfg.SecretKey.Reveal()),
			}
		})},
		transit: proxy, store: server.store,
	}
}

// digestOf returns the SHA-256 of an asset as the platform has it.
func (p *flipTarget) digestOf(t *testing.T, asset string) [sha256.Size]byte {
	t.Helper()
	if p.store != nil {
		_, key, _ := strings.Cut(asset, "/")
		object, err := p.store.Stat(t.Context(), bucket, key)
		if err != nil {
			t.Fatal(err)
		}
		body, err := p.store.Open(t.Context(), object, 0, object.Size)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = body.Close() }()
		sum := sha256.New()
		if _, err := io.Copy(sum, body); err != nil {
			t.Fatal(err)
		}
		return [sha256.Size]byte(sum.Sum(nil))
	}
	for _, f := range p.files() {
		if f.asset != "" && strings.HasSuffix(f.asset, asset) {
			return digestOf(t, fetcher(t), f.url)
		}
	}
	t.Errorf("%s has no asset %s", p.name, asset)
	return [sha256.Size]byte{}
}

// flipPlan says which bit of which body of a key is turned over.
type flipPlan struct {
	bit    int64
	skip   int
	always bool
}

// flipProxy passes requests on to an S3 server and damages bodies: those of
// answers to GET, or of PUT.
type flipProxy struct {
	url    string
	method string

	mu    sync.Mutex
	plans map[string]flipPlan // by key
}

func startFlipProxy(t *testing.T, endpoint, method string) *flipProxy {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &flipProxy{method: method, plans: map[string]flipPlan{}}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
			if bit, hit := p.hit(r.In); hit && method == http.MethodPut {
				r.Out.Body = &flippedBody{ReadCloser: r.Out.Body, left: bit / 8, mask: 0x80 >> (bit % 8)}
			} else if hit {
				r.Out = r.Out.WithContext(context.WithValue(r.Out.Context(), bitKey{}, bit))
			}
		},
		ModifyResponse: func(res *http.Response) error {
			if bit, ok := res.Request.Context().Value(bitKey{}).(int64); ok {
				res.Body = &flippedBody{ReadCloser: res.Body, left: bit / 8, mask: 0x80 >> (bit % 8)}
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	p.url = server.URL
	return p
}

func (p *flipProxy) arm(key string, plan flipPlan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plans[key] = plan
}

// hit reports whether the body of this request is to be damaged, and where.
func (p *flipProxy) hit(r *http.Request) (bit int64, ok bool) {
	if r.Method != p.method {
		return 0, false
	}
	key := path.Base(r.URL.Path)
	p.mu.Lock()
	defer p.mu.Unlock()
	plan, ok := p.plans[key]
	switch {
	case !ok:
		return 0, false
	case plan.skip > 0:
		plan.skip--
		p.plans[key] = plan
		return 0, false
	case !plan.always:
		delete(p.plans, key)
	}
	return plan.bit, true
}

// bitKey marks a request whose answer is to be damaged.
type bitKey struct{}

// flippedBody turns over a bit.
type flippedBody struct {
	io.ReadCloser

	left int64 // bytes before the one that is damaged
	mask byte
}

func (b *flippedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left >= 0 && b.left < int64(n) {
		p[b.left] ^= b.mask
	}
	b.left -= int64(n)
	return n, err
}
