package api

import (
	"context"

	"mediaferry/internal/api/wire"
)

type digestsAnswer struct {
	Body wire.DigestChain
}

func (s *server) digests(ctx context.Context, in *UploadParam) (*digestsAnswer, error) {
	id, err := parseID("id", in.ID)
	if err != nil {
		return nil, s.problem("digests", err)
	}
	links, err := s.uc.DigestChain(ctx, in.Tenant, id)
	if err != nil {
		return nil, s.problem("digests", err)
	}
	out := wire.DigestChain{Upload: in.ID, Links: make([]wire.DigestLink, len(links))}
	for i, l := range links {
		out.Links[i] = wire.DigestLink{
			Epoch: l.Epoch, Part: l.Part, Stage: string(l.Stage), Kind: l.Kind,
			Expected: l.Expected, ExpectedFrom: l.ExpectedFrom, Got: l.Got, GotFrom: l.GotFrom,
			Compared: l.Compared, Matched: l.Matched, Note: l.Note, At: l.At.UTC(),
		}
	}
	return &digestsAnswer{Body: out}, nil
}
