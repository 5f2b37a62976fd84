package api_test

import (
	"net/http"
	"strings"
	"testing"

	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	_, url := setup(t)
	u := decode[wire.Upload](t, call(t, "POST", url+"/v1/uploads", first))
	u = decode[wire.Upload](t, call(t, "POST", url+"/v1/uploads/"+u.ID+"/pause", `{"reason":"quota","by":"ann"}`))
	if !u.Paused || len(u.Pauses) != 1 || u.Pauses[0].Scope != "upload" || u.Pauses[0].Reason != "quota" || u.Pauses[0].By != "ann" || u.Pauses[0].At.IsZero() {
		t.Errorf("paused: %+v", u.Pauses)
	}
	only := decode[wire.UploadList](t, call(t, "GET", url+"/v1/uploads?paused=true", ""))
	if len(only.Uploads) != 1 || only.Uploads[0].ID != u.ID {
		t.Errorf("list of what is paused: %+v", only)
	}
	if u = decode[wire.Upload](t, call(t, "POST", url+"/v1/uploads/"+u.ID+"/resume", "")); u.Paused {
		t.Errorf("resumed: %+v", u.Pauses)
	}
	if a := call(t, "POST", url+"/v1/uploads/"+u.ID+"/pause", `{"reason":"`+strings.Repeat("x", 501)+`"}`); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a long reason: %d %s", a.status, a.body)
	}
	if a := call(t, "POST", url+"/v1/uploads/"+u.ID+"/pause", "", "X-Mediaferry-Tenant", "other"); a.status != http.StatusNotFound {
		t.Errorf("pause by another tenant: %d", a.status)
	}
	call(t, "POST", url+"/v1/uploads/"+u.ID+"/cancel", "")
	if a := call(t, "POST", url+"/v1/uploads/"+u.ID+"/pause", ""); a.status != http.StatusConflict {
		t.Errorf("pause of a cancelled upload: %d %s", a.status, a.body)
	}
}

func TestActionsByFilter(t *testing.T) {
	t.Parallel()
	uc, url := setup(t)
	call(t, "POST", url+"/v1/uploads", first)
	for id := range uc.IDs() {
		uc.Change(id, func(u *uploads.Upload) {
			u.State, u.Failure = uploads.Failed, &uploads.Failure{Cause: uploads.CauseMismatch, Message: "m"}
			u.Labels = map[string]string{"show": "a=b,c"}
		})
	}
	list := decode[wire.UploadList](t, call(t, "GET", url+"/v1/uploads?cause=mismatch&label=show=a%3Db%2Cc", ""))
	if len(list.Uploads) != 1 {
		t.Errorf("list by cause and label: %+v", list)
	}
	dry := decode[wire.Changed](t, call(t, "POST", url+"/v1/uploads/retry", `{"causes":["mismatch"],"dry_run":true}`))
	if !dry.DryRun || dry.Matched != 1 || dry.Changed != 0 || len(dry.First) != 1 || dry.First[0] != list.Uploads[0].ID {
		t.Errorf("dry run: %+v", dry)
	}
	if none := decode[wire.Changed](t, call(t, "POST", url+"/v1/uploads/cancel", `{"all":true}`)); none.Matched != 0 || none.First == nil {
		t.Errorf("cancel of what has failed: %+v", none)
	}
	if done := decode[wire.Changed](t, call(t, "POST", url+"/v1/uploads/retry", `{"all":true}`)); done.Changed != 1 {
		t.Errorf("retry: %+v", done)
	}
	for _, body := range []string{`{}`, `{"all":true,"account":"main"}`, `{"states":["done"]}`, `{"batch":"x"}`, `{"colour":"red"}`, ``} {
		if a := call(t, "POST", url+"/v1/uploads/cancel", body); a.status != http.StatusUnprocessableEntity && a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if a := call(t, "GET", url+"/v1/uploads?label=show", ""); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `"location":"query.label"`) {
		t.Errorf("a label without a value: %d %s", a.status, a.body)
	}
}

func TestPauseOfAccountsAndTenants(t *testing.T) {
	t.Parallel()
	_, url := setup(t)
	a := decode[wire.Account](t, call(t, "POST", url+"/v1/accounts/main/pause", `{"reason":"quota"}`))
	if !a.Paused || len(a.Pauses) != 1 || a.Pauses[0].Scope != "account" || a.Pauses[0].Name != "main" {
		t.Errorf("account: %+v", a)
	}
	tenant := decode[wire.Tenant](t, call(t, "POST", url+"/v1/tenants/default/pause", ""))
	if !tenant.Paused || tenant.Pause == nil || tenant.Pause.Scope != "tenant" || len(tenant.Accounts) == 0 {
		t.Errorf("tenant: %+v", tenant)
	}
	if a = decode[wire.Account](t, call(t, "POST", url+"/v1/accounts/main/resume", "")); !a.Paused || len(a.Pauses) != 1 || a.Pauses[0].Scope != "tenant" {
		t.Errorf("account of a paused tenant: %+v", a)
	}
	if tenant = decode[wire.Tenant](t, call(t, "POST", url+"/v1/tenants/default/resume", "")); tenant.Paused {
		t.Errorf("tenant: %+v", tenant)
	}
	if a := call(t, "POST", url+"/v1/tenants/default/pause", "", "X-Mediaferry-Tenant", "other"); a.status != http.StatusNotFound {
		t.Errorf("pause of a tenant by another: %d %s", a.status, a.body)
	}
	for _, path := range []string{"/v1/accounts/nowhere/pause", "/v1/accounts/nowhere/resume", "/v1/tenants/nobody/pause", "/v1/tenants/nobody/resume"} {
		if a := call(t, "POST", url+path, ""); a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}
