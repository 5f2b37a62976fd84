package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// checks is the use case that tries an account's credentials.
type checks interface {
	// CheckAccount makes one harmless call to the account's platform. It may be
	// repeated, and takes 35 seconds at most, of which 5 are for the published rate.
	CheckAccount(ctx context.Context, tenant, name string) (uploads.AccountCheck, error)
}

func (s *server) registerChecks(api huma.API, op func(method, path, id, summary string, codes ...int) huma.Operation) {
	huma.Register(api, op("POST", "/v1/accounts/{name}/check", "check-account",
		"Try an account's credentials by a call that begins nothing", 404, 422, 503), s.checkAccount)
}

type checkAnswer struct {
	Body wire.AccountCheck
}

func (s *server) checkAccount(ctx context.Context, in *AccountParam) (*checkAnswer, error) {
	c, err := s.uc.CheckAccount(ctx, in.Tenant, in.Name)
	if err != nil {
		return nil, s.problem("check-account", err)
	}
	return &checkAnswer{Body: wire.AccountCheck{
		Account: c.Account, Provider: c.Provider, Result: string(c.Result), Detail: c.Detail, At: c.At.UTC(), TookSeconds: c.Took.Seconds(),
	}}, nil
}
