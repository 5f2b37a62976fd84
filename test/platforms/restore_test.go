package platforms_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"mediaferry/client"
	"mediaferry/internal/providers"
	"mediaferry/internal/upstreams"
)

// TestRestore finishes an upload and then puts a database in place that was copied
// before: one that has the upload in mid-way, and one in which it was not begun.
// The platform's own log says that finish was called once, and its files that
// there is one asset.
func TestRestore(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		start  func(t *testing.T, accounts int) platform
		finish []string // the calls that make an asset
		queued string   // how an upload ends that the copy has as queued
	}{
		"tencentugc": {startTencentUGC, []string{upstreams.ActionFinish}, "completed"},
		"tencentvod": {startTencentVOD, []string{upstreams.ActionServerFinish}, "completed"},
		// ApplyUpload hands out a place of its own each time, and nothing else leads
		// to what was stored in another. CommitUpload may be repeated by a probe.
		"tencentcos": {startTencentCOS, []string{upstreams.COSComplete}, "failed"},
		// The breakpoint id leads to a video only while that is unfinished.
		"cdnetworks": {startCDNetworks, []string{upstreams.ActionMakeFile, upstreams.ActionForm}, "failed"},
		"tencentsmh": {startTencentSMH, []string{upstreams.ActionSMHConfirm}, "completed"},
	} {
		t.Run(name+"/in mid-upload", func(t *testing.T) {
			t.Parallel()
			testRestore(t, tt.start(t, 1), tt.finish, "", "completed")
		})
		t.Run(name+"/queued", func(t *testing.T) {
			t.Parallel()
			testRestore(t, tt.start(t, 1), tt.finish, notBegun, tt.queued)
		})
	}
}

// notBegun makes of the record what it was before the upload began.
const notBegun = `UPDATE uploads SET state = 'queued', epoch = 0, session = NULL, session_expires = NULL, part_size = NULL,
	part_count = NULL, fed = 0, fed_bytes = 0, acked_parts = 0, acked_bytes = 0, digests = '{}', begun_at = NULL`

func testRestore(t *testing.T, p platform, finish []string, change, end string) {
	t.Helper()
	from := startSource(t)
	if _, err := from.put(t.Context(), "film.mp4", 20*mib); err != nil {
		t.Fatal(err)
	}
	o := startOurs(t, from, p.accounts)
	o.stop()
	o.run(t, false)
	u, _, err := o.api.Submit(t.Context(), client.Submission{Account: p.accounts[0].Name, Source: client.Source{Bucket: bucket, Key: "film.mp4"}})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "step of the upload", func() bool {
		u, err = o.api.Show(t.Context(), u.ID)
		return err == nil && (u.State == "uploading" || u.State == "digesting")
	})
	o.stop()
	restore := o.copyRecord(t)
	o.run(t, true)
	first, err := o.api.Wait(t.Context(), u.ID, nil)
	if err != nil || first.Asset == nil {
		t.Fatalf("%s, %+v, %v", first.State, first.Failure, err)
	}
	o.stop()
	finished := p.count(finish)
	if finished == 0 {
		t.Fatalf("no call of %v: %+v", finish, p.calls())
	}
	restore()
	if change != "" {
		o.exec(t, change)
	}
	o.run(t, true)
	again, err := o.api.Wait(t.Context(), u.ID, nil)
	if err != nil || again.State != end {
		t.Fatalf("%s, %+v, %v; want %s", again.State, again.Failure, err, end)
	}
	if end == "completed" && again.Asset.ID != first.Asset.ID {
		t.Errorf("asset %s, want %s: that of before", again.Asset.ID, first.Asset.ID)
	}
	if end == "failed" && again.Failure.Cause != "needs_human" {
		t.Errorf("failed with %+v, want needs_human", again.Failure)
	}
	if n := p.count(finish); n != finished {
		t.Errorf("%v was called %d times before the restore and %d times after it", finish, finished, n-finished)
	}
	assets := slices.DeleteFunc(p.files(), func(f file) bool { return f.asset == "" })
	if len(assets) != 1 {
		t.Errorf("the platform has %d assets, want 1", len(assets))
	}
}

// count returns how often the calls were made.
func (p platform) count(actions []string) (n int) {
	for _, c := range p.calls() {
		if slices.Contains(actions, c.Action) {
			n++
		}
	}
	return n
}

// copyRecord copies the database while nobody uses it, and returns what puts the
// copy in its place.
func (o *ours) copyRecord(t *testing.T) (restore func()) {
	t.Helper()
	u, err := url.Parse(o.cfg.Postgres.DSN.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	if err := o.db.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.Path = "/postgres"
	admin := &ours{}
	admin.cfg.Postgres.DSN = providers.Secret(u.String())
	admin.exec(t, "CREATE DATABASE "+name+"_copy TEMPLATE "+name)
	t.Cleanup(func() { admin.exec(t, "DROP DATABASE IF EXISTS "+name+"_copy WITH (FORCE)") })
	return func() {
		admin.exec(t, "DROP DATABASE "+name+" WITH (FORCE)")
		admin.exec(t, "ALTER DATABASE "+name+"_copy RENAME TO "+name)
	}
}

// exec runs a statement on a connection of its own.
func (o *ours) exec(t *testing.T, statement string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // cleanups run it too
	conn, err := pgx.Connect(ctx, o.cfg.Postgres.DSN.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
