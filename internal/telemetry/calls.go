package telemetry

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// calls measures the calls to platforms.
type calls struct {
	seconds *prometheus.HistogramVec
	tracer  *Tracer
}

func newCalls(reg prometheus.Registerer, tracer *Tracer) *calls {
	c := &calls{tracer: tracer, seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "mediaferry_call_seconds",
		Help: "Calls to platforms, by what became of them: ok, stopped (by us), or the kind of error.",
		// From a local network to platforms that assemble while the caller waits.
		Buckets: []float64{.005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	}, []string{"provider", "call", "outcome"})}
	reg.MustRegister(c.seconds)
	return c
}

// expect creates the series by which alerts count refusals of these calls, so
// that the first refusal is an increase. Creating those of every call and outcome
// would make hundreds.
func (c *calls) expect(provider string, made ...providers.Call) {
	for _, call := range made {
		c.seconds.WithLabelValues(provider, string(call), string(providers.Unauthorized))
	}
}

// watch returns the providers, each of them measured, with the capabilities that
// it has.
func (c *calls) watch(known map[string]providers.Provider) map[string]providers.Provider {
	out := maps.Clone(known)
	for name, p := range out {
		w := &watched{Provider: p, name: name, calls: c}
		renewer, renews := p.(providers.Renewer)
		locator, locates := p.(providers.Locator)
		switch {
		case renews && locates:
			out[name] = struct {
				*watched
				renewals
				providers.Locator
			}{w, renewals{w, renewer}, locator}
		case renews:
			out[name] = struct {
				*watched
				renewals
			}{w, renewals{w, renewer}}
		case locates:
			out[name] = struct {
				*watched
				providers.Locator
			}{w, locator}
		default:
			out[name] = w
		}
	}
	return out
}

// outcomeOf returns the label of a call that ended with err.
func outcomeOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled):
		return "stopped"
	default:
		return knownKind(string(providers.KindOf(err)))
	}
}

// knownKind returns the kind of failure if it is a known one, else "other".
func knownKind(kind string) string {
	switch providers.Kind(kind) {
	case providers.Transient, providers.Throttled, providers.Unauthorized, providers.SessionLost, providers.Rejected,
		providers.Mismatch, providers.UnknownOutcome,
		parts.SourceMissing, parts.SourceChanged, parts.SourceDenied, parts.SourceTransient:
		return kind
	}
	return "other"
}

// watched is a provider whose calls are measured. It always has the capabilities
// below; if the provider lacks one, watched answers as its absence would mean.
type watched struct {
	providers.Provider
	name  string
	calls *calls
}

var (
	_ providers.Provider       = (*watched)(nil)
	_ providers.AccountChecker = (*watched)(nil)
	_ providers.MediaChecker   = (*watched)(nil)
	_ providers.DigestChooser  = (*watched)(nil)
	_ providers.Renewer        = renewals{}

	_ providers.CredentialChecker = (*watched)(nil)
)

// begin begins a call. The caller passes the call's error to the function that it
// returns.
func (w *watched) begin(ctx context.Context, call string, attrs ...attribute.KeyValue) (context.Context, func(error)) {
	ctx, span := w.calls.tracer.child(ctx, call, append(attrs, attribute.String("mediaferry.provider", w.name))...)
	started := time.Now()
	return ctx, func(err error) {
		w.calls.seconds.WithLabelValues(w.name, call, outcomeOf(err)).Observe(time.Since(started).Seconds())
		end(span, err)
	}
}

// Begin calls the provider.
func (w *watched) Begin(ctx context.Context, account providers.Account, media providers.Media) (providers.Begun, error) {
	ctx, over := w.begin(ctx, string(providers.CallBegin))
	out, err := w.Provider.Begin(ctx, account, media)
	over(err)
	return out, err
}

// PutPart calls the provider.
func (w *watched) PutPart(ctx context.Context, session providers.Session, part parts.Part, body providers.Body) (parts.Receipt, error) {
	ctx, over := w.begin(ctx, string(providers.CallPut),
		attribute.Int("mediaferry.part", part.Number), attribute.Int64("mediaferry.bytes", part.Length))
	out, err := w.Provider.PutPart(ctx, session, part, body)
	over(err)
	return out, err
}

// Finish calls the provider.
func (w *watched) Finish(ctx context.Context, session providers.Session, stored []parts.Stored) (uploads.Asset, error) {
	ctx, over := w.begin(ctx, string(providers.CallFinish))
	out, err := w.Provider.Finish(ctx, session, stored)
	over(err)
	return out, err
}

// Probe calls the provider.
func (w *watched) Probe(ctx context.Context, account providers.Account, media providers.Media, session providers.Session) (providers.Outcome, error) {
	ctx, over := w.begin(ctx, string(providers.CallProbe))
	out, err := w.Provider.Probe(ctx, account, media, session)
	over(err)
	return out, err
}

// Abort calls the provider.
func (w *watched) Abort(ctx context.Context, session providers.Session) error {
	ctx, over := w.begin(ctx, string(providers.CallAbort))
	err := w.Provider.Abort(ctx, session)
	over(err)
	return err
}

// CheckAccount asks the provider, if it has rules.
func (w *watched) CheckAccount(account providers.Account) error {
	if c, ok := w.Provider.(providers.AccountChecker); ok {
		return c.CheckAccount(account)
	}
	return nil
}

// CheckMedia asks the provider, if it has rules.
func (w *watched) CheckMedia(media providers.Media) error {
	if c, ok := w.Provider.(providers.MediaChecker); ok {
		return c.CheckMedia(media)
	}
	return nil
}

// Unwrap returns the provider that is measured.
func (w *watched) Unwrap() providers.Provider { return w.Provider }

// CheckCredentials calls the provider, if it can tell.
func (w *watched) CheckCredentials(ctx context.Context, account providers.Account) (string, error) {
	c, ok := w.Provider.(providers.CredentialChecker)
	if !ok {
		return "", providers.ErrNoCheck
	}
	ctx, over := w.begin(ctx, "check")
	evidence, err := c.CheckCredentials(ctx, account)
	over(err)
	return evidence, err
}

// NeededDigests asks the provider, if it chooses.
func (w *watched) NeededDigests(account providers.Account, media providers.Media) []hashing.Kind {
	if c, ok := w.Provider.(providers.DigestChooser); ok {
		return c.NeededDigests(account, media)
	}
	return w.Limits().ObjectDigests
}

// renewals is the Renewer of a provider that has it, measured. It is apart from
// watched because having the method means that the provider can renew.
type renewals struct {
	of      *watched
	renewer providers.Renewer
}

// Renew calls the provider.
func (r renewals) Renew(ctx context.Context, account providers.Account, media providers.Media, session providers.Session) (providers.Session, error) {
	ctx, over := r.of.begin(ctx, "renew")
	out, err := r.renewer.Renew(ctx, account, media, session)
	over(err)
	return out, err
}
