// Package api is the HTTP API of the dispatcher. It turns requests into calls
// of the use cases and their errors into problem documents (RFC 9457); it
// decides nothing itself and keeps no state.
package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.uber.org/zap"

	"mediaferry/internal/api/web"
	"mediaferry/internal/uploads"
)

// useCases is what the API serves. Its errors are told apart by the sentinels
// and types of the uploads package.
type useCases interface {
	// Submit is durable on return. created is false where the idempotency key
	// and content are those of an upload that is there already.
	Submit(ctx context.Context, s uploads.Submission) (u uploads.Upload, created bool, err error)
	// SubmitPrefix submits every object below template.Source.Key whose key is of
	// the pattern match, "" for all; it may be repeated after an error, and then
	// submits again what was submitted.
	SubmitPrefix(ctx context.Context, template uploads.Submission, match string) (uploads.PrefixResult, error)
	// SubmitMany submits the lines that can be taken, in one transaction.
	SubmitMany(ctx context.Context, tenant string, lines []uploads.Line) (uploads.BulkResult, error)
	Upload(ctx context.Context, tenant string, id uploads.ID) (uploads.Upload, error)
	Uploads(ctx context.Context, f uploads.Filter) ([]uploads.Upload, error)
	// DigestChain returns the comparisons of digests of an upload.
	DigestChain(ctx context.Context, tenant string, id uploads.ID) ([]uploads.DigestLink, error)
	// Explain says why an upload is where it is.
	Explain(ctx context.Context, tenant string, id uploads.ID) (uploads.Explanation, error)
	controls
	checks
	// Accounts returns the accounts of all tenants.
	Accounts(ctx context.Context) ([]uploads.AccountStatus, error)
	Workers(ctx context.Context) []uploads.WorkerStatus
	recoveryCases
	reportCases
	pictures
	webhookCases
	batchCases
	presignCases
	followCases
}

// Bounds of a request.
const (
	maxBody      = 256 << 10 // bytes; a submission with every field full is far below
	readHeader   = 5 * time.Second
	readRequest  = 30 * time.Second
	writeAnswer  = 10 * time.Minute // a prefix is listed and submitted in one request
	idle         = 2 * time.Minute
	readyTimeout = 2 * time.Second
	maxHeader    = 64 << 10 // bytes

	lookupTimeout = 5 * time.Second // of a token
)

type server struct {
	uc     useCases
	tokens Tokens
	seen   *tokenCache
	ready  func(context.Context) error
	log    *zap.Logger
	bulk   chan struct{} // one bulk submission at a time

	guard    *guard
	streams  *places         // of callers that follow
	stopping context.Context // ends with the server, not with a request
}

// Guarding says how requests are let in.
type Guarding struct {
	Tokens Tokens
	// Open lets everybody do everything, for development on one machine.
	Open bool
}

// NewServer returns the server of the API, not yet listening; the caller gives
// it a listener and shuts it down. ready says what the dispatcher cannot reach,
// nil when all is well; it is given two seconds.
func NewServer(uc useCases, guarding Guarding, ready func(context.Context) error, log *zap.Logger) *http.Server {
	s := &server{uc: uc, tokens: guarding.Tokens, seen: newTokenCache(guarding.Tokens), ready: ready, log: log.Named("api"), bulk: make(chan struct{}, 1), streams: newPlaces(maxStreams)}
	stopping, stop := context.WithCancel(context.Background())
	s.stopping = stopping
	mux := http.NewServeMux()
	s.register(mux)
	g := &guard{mux: mux, scopes: scopes(), sites: http.NewCrossOriginProtection(), log: s.log}
	if !guarding.Open {
		g.tokens = s.seen
	}
	s.guard = g
	s.registerPages(mux, web.New(), g)
	srv := &http.Server{
		Handler:           g,
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: readHeader,
		ReadTimeout:       readRequest,
		WriteTimeout:      writeAnswer,
		IdleTimeout:       idle,
		ErrorLog:          zap.NewStdLog(s.log),
	}
	srv.RegisterOnShutdown(stop) // streams have no end that it could wait for
	return srv
}

// OpenAPI returns the API's description, OpenAPI 3.1 as JSON.
func OpenAPI() ([]byte, error) {
	api := (&server{}).register(http.NewServeMux())
	text, err := json.MarshalIndent(api.OpenAPI(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the description of the API: %w", err)
	}
	return append(text, '\n'), nil
}

func (s *server) register(mux *http.ServeMux) huma.API {
	mux.HandleFunc("GET /livez", s.live)
	mux.HandleFunc("GET /readyz", s.readiness)
	mux.HandleFunc("GET /startupz", s.live) // the API is not served before

	cfg := huma.DefaultConfig("mediaferry", "1")
	cfg.CreateHooks = nil // no $schema in answers
	cfg.Transformers = append(cfg.Transformers, tellPlaces)
	cfg.DocsPath = "" // its page loads scripts from elsewhere
	// As unknown fields of bodies are: a misspelt filter must not select everything.
	cfg.RejectUnknownQueryParameters = true
	cfg.Formats = map[string]huma.Format{"application/json": jsonFormat(), "json": jsonFormat()}
	api := humago.New(mux, cfg)
	api.UseMiddleware(plainly(api))
	op := func(method, path, id, summary string, codes ...int) huma.Operation {
		return huma.Operation{
			Method: method, Path: path, OperationID: id, Summary: summary,
			MaxBodyBytes: maxBody, BodyReadTimeout: readRequest, Errors: codes,
		}
	}
	huma.Register(api, op("POST", "/v1/uploads", "submit",
		"Submit one staging object", 409, 422, 503), s.submit)
	huma.Register(api, op("POST", "/v1/uploads/prefix", "submit-prefix",
		"Submit every object below a prefix", 422, 503), s.submitPrefix)
	bulk := op("POST", "/v1/uploads/bulk", "submit-bulk",
		"Submit up to 100,000 staging objects, as JSON lines or CSV", 413, 422, 503)
	bulk.MaxBodyBytes = maxBulkBody
	bulk.Middlewares = huma.Middlewares{s.oneBulk(api)}
	huma.Register(api, bulk, s.submitBulk)
	huma.Register(api, op("GET", "/v1/uploads/{id}", "show",
		"Show an upload", 404, 422, 503), s.show)
	huma.Register(api, op("GET", "/v1/uploads", "list",
		"List uploads, newest first", 422, 503), s.list)
	huma.Register(api, op("GET", "/v1/uploads/{id}/digests", "digests",
		"Show what was hashed where, and compared with what", 404, 422, 503), s.digests)
	huma.Register(api, op("GET", "/v1/uploads/{id}/explain", "explain",
		"Say what an upload waits for", 404, 422, 503), s.explain)
	s.registerControls(api, op)
	s.registerChecks(api, op)
	huma.Register(api, op("GET", "/v1/workers", "workers",
		"List the workers whose heartbeats arrive"), s.workers)
	huma.Register(api, op("GET", "/v1/accounts", "accounts",
		"List the accounts", 503), s.accounts)
	create := op("POST", "/v1/tokens", "create-token", "Make a token", 422, 503)
	create.DefaultStatus = http.StatusCreated
	huma.Register(api, create, s.createToken)
	huma.Register(api, op("GET", "/v1/tokens", "list-tokens",
		"List the tokens, not their secrets", 503), s.listTokens)
	huma.Register(api, op("DELETE", "/v1/tokens/{id}", "revoke-token",
		"Revoke a token", 404, 422, 503), s.revokeToken)
	huma.Register(api, op("POST", "/v1/reconcile", "reconcile",
		"Compare the record with what the platforms hold", 404, 422, 503), s.reconcile)
	huma.Register(api, op("GET", "/v1/setaside", "list-set-aside",
		"List messages that were set aside, newest first", 422, 503), s.setAsideList)
	huma.Register(api, op("GET", "/v1/setaside/{number}", "show-set-aside",
		"Show a message that was set aside", 404, 422, 503), s.setAsideShow)
	huma.Register(api, op("DELETE", "/v1/setaside/{number}", "drop-set-aside",
		"Forget a message that was set aside", 404, 422, 503), s.setAsideDrop)
	huma.Register(api, op("POST", "/v1/setaside/{number}/replay", "replay-set-aside",
		"Put a message that was set aside back on its stream", 404, 409, 422, 503), s.setAsideReplay)
	s.registerReports(api, op)
	s.registerPictures(api, op)
	s.registerWebhooks(api, op)
	s.registerBatches(api, op)
	s.registerPresign(api, op)
	s.registerEvents(api, op)
	describeTokens(api.OpenAPI())
	return api
}

// describeTokens adds to the description what each operation asks of a token.
func describeTokens(description *huma.OpenAPI) {
	const scheme = "token"
	description.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		scheme: {Type: "http", Scheme: "bearer", Description: "made by: mediaferry tokens create"},
	}
	needed := scopes()
	for path, item := range description.Paths {
		for method, operation := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "DELETE": item.Delete, "PUT": item.Put, "PATCH": item.Patch} {
			if operation == nil {
				continue
			}
			operation.Security = []map[string][]string{{scheme: {string(needed[method+" "+path])}}}
			for code, text := range map[string]string{"401": "the token is missing, unknown, revoked or expired", "403": "the token lacks the scope"} {
				operation.Responses[code] = &huma.Response{Description: text}
			}
		}
	}
}

// live says that the process serves requests at all.
func (s *server) live(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNoContent)
}

// readiness says whether requests can be answered; a balancer sends none while not.
func (s *server) readiness(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := s.ready(ctx); err != nil {
		s.log.Warn("not ready", zap.Error(err))
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
