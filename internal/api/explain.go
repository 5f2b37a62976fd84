package api

import (
	"context"

	"mediaferry/internal/api/wire"
)

type explainAnswer struct {
	Body wire.Explanation
}

func (s *server) explain(ctx context.Context, in *UploadParam) (*explainAnswer, error) {
	id, err := parseID("id", in.ID)
	if err != nil {
		return nil, s.problem("explain", err)
	}
	e, err := s.uc.Explain(ctx, in.Tenant, id)
	if err != nil {
		return nil, s.problem("explain", err)
	}
	return &explainAnswer{Body: wire.Explanation{
		Upload: e.Upload.String(), State: string(e.State), Cause: string(e.Why), Summary: e.Summary,
		WaitsFor: e.WaitsFor, Next: e.Next, NextAt: utc(e.NextAt), Facts: e.Facts,
	}}, nil
}
