package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// submitter is the one use case that submissions on the stream need.
type submitter interface {
	Submit(ctx context.Context, s uploads.Submission) (u uploads.Upload, created bool, err error)
}

// SubmitMessage takes a submission that came by NATS: the JSON of POST
// /v1/uploads. The reply is JSON too: the upload, or what is wrong. id is the
// idempotency key of a message that brings none, so that its redelivery is no
// second upload. What is refused for good has a reply too, and the reason as an
// *uploads.RefusedError. Any other error means that nothing was decided and the
// message, which is of the time at, is to come again: an *uploads.UnknownAccountError
// that a dispatcher with other settings may take it.
func SubmitMessage(ctx context.Context, uc submitter, tenant, id string, at time.Time, payload []byte) (reply []byte, err error) {
	u, err := submitMessage(ctx, uc, tenant, id, payload)
	if uploads.OnlyUnknownAccount(err) && time.Since(at) < uploads.SettingsSpread {
		return nil, err
	}
	var answer wire.StreamReply
	var refused error
	switch fields := uploads.FieldErrors(err); {
	case err == nil:
		seen := view(u)
		answer.Upload = &seen
	case len(fields) > 0:
		for _, f := range fields {
			answer.Errors = append(answer.Errors, f.Error())
		}
	case errors.Is(err, uploads.ErrKeyTaken):
		answer.Errors = []string{uploads.ErrKeyTaken.Error() + "; use another key, or submit the same content"}
	default:
		refusal, ok := errors.AsType[*uploads.RefusedError](err)
		if _, away := errors.AsType[*uploads.UnavailableError](err); !ok || away {
			return nil, err
		}
		answer.Errors = []string{refusal.Reason}
	}
	if len(answer.Errors) > 0 {
		refused = &uploads.RefusedError{Reason: strings.Join(answer.Errors, "; ")}
	}
	reply, err = json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("encode the reply: %w", err)
	}
	return reply, refused
}

func submitMessage(ctx context.Context, uc submitter, tenant, id string, payload []byte) (uploads.Upload, error) {
	var body wire.Submission
	if err := readJSON(payload, &body); err != nil {
		if f, ok := errors.AsType[*uploads.FieldError](err); ok && f.Field == "" {
			f.Field = "message"
		}
		return uploads.Upload{}, err
	}
	s, err := submission(tenant, body)
	if err != nil {
		return uploads.Upload{}, err
	}
	if s.IdempotencyKey == "" {
		s.IdempotencyKey = id
	}
	u, _, err := uc.Submit(ctx, s)
	return u, err
}
