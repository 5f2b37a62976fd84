package api_test

import (
	"net/http"
	"testing"
	"time"

	"mediaferry/internal/api/apitest"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

func TestWebhooks(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 1, 0, 0, 0, time.UTC)
	url := apitest.Start(t, &apitest.UseCases{Webhooks: []uploads.WebhookEndpoint{
		{Name: "cutter", Tenant: "default", Types: []string{"upload.failed"}, Pending: 3, GivenUp: 2, FailingSince: at, LastError: "the endpoint answers 500"},
		{Name: "theirs", Tenant: "other"},
	}}) + "/v1/webhooks"
	list := decode[wire.WebhookList](t, call(t, "GET", url, ""))
	if len(list.Webhooks) != 1 || list.Webhooks[0].Name != "cutter" || list.Webhooks[0].Pending != 3 || !list.Webhooks[0].FailingSince.Equal(at) {
		t.Errorf("list: %+v", list)
	}
	if got := decode[wire.WebhookTest](t, call(t, "POST", url+"/cutter/test", "")); got.Error != "the endpoint answers 500" {
		t.Errorf("test: %+v", got)
	}
	if got := decode[wire.WebhookReplayed](t, call(t, "POST", url+"/cutter/replay", `{"all":true}`)); got.Messages != 2 {
		t.Errorf("replay: %+v", got)
	}
	for _, tt := range []struct {
		path, body string
		want       int
	}{
		{"/cutter/enable", "", http.StatusNoContent},
		{"/theirs/enable", "", http.StatusNotFound},
		{"/theirs/test", "", http.StatusNotFound},
		{"/theirs/replay", `{"all":true}`, http.StatusNotFound},
		{"/cutter/replay", `{}`, http.StatusUnprocessableEntity},
		{"/cutter/replay", `{"all":true,"since":"2026-11-21T01:00:00Z"}`, http.StatusUnprocessableEntity},
		{"/cutter/replay", `{"upload":"x"}`, http.StatusUnprocessableEntity},
		{"/cutter/replay", `{"since":"2026-11-21T01:00:00Z"}`, http.StatusOK},
	} {
		if a := call(t, "POST", url+tt.path, tt.body); a.status != tt.want {
			t.Errorf("%s %s: %d %s, want %d", tt.path, tt.body, a.status, a.body, tt.want)
		}
	}
}
