package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"mediaferry/internal/hashing"
	"mediaferry/internal/uploads"
)

// login returns a connection of the role, which may submit by SQL and no more.
func (b *bundle) login(t *testing.T, role string, tenants ...string) *pgx.Conn {
	t.Helper()
	admin, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())                                  //nolint:errcheck // a failure shows in what it was to do
	role += "_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:8] // roles are of the whole server
	for _, statement := range []string{
		"CREATE ROLE " + role + " LOGIN PASSWORD 'trial'",
		"GRANT USAGE ON SCHEMA mediaferry TO " + role,
		"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mediaferry TO " + role,
	} {
		if _, err := admin.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, tenant := range tenants {
		if _, err := admin.Exec(t.Context(), "INSERT INTO submitters (role, tenant) VALUES ($1, $2)", role, tenant); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := pgx.ParseConfig(b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Password = role, "trial"
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_ = conn.Close(ctx)
		admin, err := pgx.Connect(ctx, b.dsn)
		if err != nil {
			t.Error(err)
			return
		}
		_, err = admin.Exec(ctx, "DROP OWNED BY "+role+"; DROP ROLE "+role)
		if err = errors.Join(err, admin.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	return conn
}

type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func submitSQL(t *testing.T, q queryer, arguments string) uploads.ID {
	t.Helper()
	var id uploads.ID
	if err := q.QueryRow(t.Context(), "SELECT mediaferry.submit("+arguments+")").Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

func stateSQL(t *testing.T, q queryer, id uploads.ID) string {
	t.Helper()
	var state string
	err := q.QueryRow(t.Context(), "SELECT state FROM mediaferry.upload($1)", id).Scan(&state)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
	return state
}

// accept takes up what is claimed as if all of it were in order.
func (b *bundle) accept(t *testing.T, hash string) (accepted map[uploads.ID]bool, taken []uploads.ID) {
	t.Helper()
	lease, claimed, err := b.ClaimSubmissions(t.Context(), 100, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	accepted, taken, err = b.AcceptSubmissions(t.Context(), lease, takenOf(claimed, hash))
	if err != nil {
		t.Fatal(err)
	}
	return accepted, taken
}

// acceptAll takes up what is claimed with the hashes that a dispatcher makes.
func (b *bundle) acceptAll(t *testing.T) {
	t.Helper()
	lease, claimed, err := b.ClaimSubmissions(t.Context(), 100, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	list := takenOf(claimed, "")
	for i, c := range claimed {
		s := c.Submission
		for _, text := range c.Digests {
			sum, err := hashing.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			s.Digests = append(s.Digests, sum)
		}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		list[i].RequestHash = s.Hash()
	}
	if accepted, _, err := b.AcceptSubmissions(t.Context(), lease, list); err != nil || len(accepted) != len(claimed) {
		t.Fatalf("accepted %v of %d, %v", accepted, len(claimed), err)
	}
}

func takenOf(claimed []uploads.ClaimedSubmission, hash string) []uploads.TakenSubmission {
	var list []uploads.TakenSubmission
	for _, c := range claimed {
		o := c.Submission.Source
		o.ETag, o.Size = "etag", 7
		list = append(list, uploads.TakenSubmission{
			IntakeItem: uploads.IntakeItem{ID: c.ID, RequestHash: []byte(hash), Source: o, Name: "n"},
			Account:    c.Submission.Account, Provider: "fake", Pool: "default", Digests: c.Digests,
		})
	}
	return list
}

func TestSubmitBySQLNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.login(t, "pipeline")
	for _, tc := range []struct{ arguments, field, problem, remedy string }{
		{"NULL, 'staging', 'k'", "account", "account: is missing", "configured accounts"},
		{"'a.b', 'staging', 'k'", "account", "account: 'a.b' is no name", "configured accounts"},
		{"'acc', '', 'k'", "bucket", "bucket: is missing", "staging bucket"},
		{"'acc', 'a/b', 'k'", "bucket", "is no name of a bucket", "staging bucket"},
		{"'acc', 'staging', ' '", "key", "key: is missing", "object's key"},
		{"'acc', 'staging', repeat('ß', 600)", "key", "key: has 1200 bytes", "at most 1024"},
		{"'acc', 'staging', 'k', name => 'a/b'", "name", "is not a file name", "without slashes"},
		{"'acc', 'staging', 'k', name => E'a\\nb'", "name", "is not a file name", "without slashes"},
		{"'acc', 'staging', 'k', idempotency_key => repeat('x', 257)", "idempotency_key", "has 257 bytes", "at most 256"},
		{"'acc', 'staging', 'k', priority => 101", "priority", "is 101", "-100 to 100"},
		{"'acc', 'staging', 'k', not_before => 'infinity'", "not_before", "is infinity", "leave it out"},
		{"'acc', 'staging', 'k', digests => '{x}'", "digests[0]", "not a digest of the form kind:hex", "sha256:"},
		{"'acc', 'staging', 'k', digests => ARRAY['crc32c:0000000A', NULL]", "digests[1]", "not a digest of the form kind:hex", "sha256:"},
		{"'acc', 'staging', 'k', digests => ARRAY['md5:' || repeat('a', 40)]", "digests[0]", "not a digest of the form kind:hex", "sha256:"},
		{"'acc', 'staging', 'k', digests => ARRAY['sha256:' || repeat('a', 1000000)]", "digests[0]", "not a digest of the form kind:hex", "sha256:"},
		{"'acc', 'staging', 'k', digests => '{crc32c:00000001,crc32c:00000002}'", "digests", "two of one kind", "leave the wrong one out"},
		{"'acc', 'staging', 'k', (SELECT jsonb_object_agg('o' || n, '') FROM generate_series(1, 65) n)", "options", "more than 64", "leave some out"},
		{"'acc', 'staging', 'k', jsonb_build_object('o', repeat('x', 8193))", "options.o", "is not a text that fits", "0 to 8192"},
		{"'acc', 'staging', 'k', '{\"\": \"x\"}'", "options.", "is not a text that fits", "1 to 256"},
		{"'acc', 'staging', 'k', content_type => E'video/mp4\\r\\nX: 1'", "content_type", "is not a MIME type", "video/mp4"},
		{"'acc', 'staging', 'k', content_type => repeat('x', 257)", "content_type", "is not a MIME type", "video/mp4"},
		{"'acc', 'staging', 'k', version => repeat('x', 1025)", "version", "has 1025 bytes", "at most 1024"},
		{"'acc', 'staging', 'k', etag => repeat('x', 1025)", "etag", "has 1025 bytes", "at most 1024"},
		{"'acc', '10.0.0.1', 'k'", "bucket", "is no name of a bucket", "staging bucket"},
		{"'acc', 'staging', 'a/..'", "name", "is not a file name", "without slashes"},
		{"'acc', 'staging', 'k', '[]'", "options", "is of the type array", "JSON object"},
		{`'acc', 'staging', 'k', '{"class_id": 7}'`, "options.class_id", "is of the type number", "as text"},
		{`'acc', 'staging', 'k', labels => '{"show": null}'`, "labels.show", "is not a text", "1 and 0 to 256"},
		{"'acc', 'staging', 'k', labels => (SELECT jsonb_object_agg('l' || n, '') FROM generate_series(1, 33) n)", "labels", "more than 32", "leave some out"},
		{"'', '', 'k'", "account", "account: is missing; bucket: is missing", "staging bucket"},
		{"'acc', 'staging', 'k', tenant => 'films'", "tenant", "may not submit for 'films'", "INSERT INTO public.submitters"},
	} {
		var id uploads.ID
		err := conn.QueryRow(t.Context(), "SELECT mediaferry.submit("+tc.arguments+")").Scan(&id)
		e, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || e.ColumnName != tc.field || strings.Count(e.Message, "; ") != strings.Count(e.Hint, "; ") || !strings.Contains(e.Message, tc.problem) || !strings.Contains(e.Hint, tc.remedy) || (e.Code != "22023" && e.Code != "42501") {
			t.Errorf("submit(%s): %v (%+v)", tc.arguments, err, e)
		}
	}
	if n := b.query(t, "SELECT count(*)::text FROM submissions"); n[0] != "0" {
		t.Errorf("%s submissions are left", n[0])
	}
}

// The role has the two functions and nothing else.
func TestSubmittersMayDoNothingElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.login(t, "pipeline")
	submitSQL(t, conn, "'acc', 'staging', 'k'")
	for _, statement := range []string{
		"SELECT count(*) FROM public.submissions", "SELECT count(*) FROM public.uploads", "DELETE FROM public.submissions",
		"INSERT INTO public.submitters VALUES (session_user, '*')", "SELECT count(*) FROM public.submitters",
		"CREATE FUNCTION mediaferry.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz'",
	} {
		if _, err := conn.Exec(t.Context(), statement); err == nil {
			t.Errorf("%s is allowed", statement)
		}
	}
	// Neither tables nor functions of the caller's own are taken for ours.
	for _, statement := range []string{
		"CREATE TEMP TABLE submissions (id uuid)", "CREATE TEMP TABLE uploads (id uuid)",
		"CREATE FUNCTION pg_temp.btrim(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 1/0 || $1 $$",
		"SET search_path = pg_temp, public",
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	submitSQL(t, conn, "'acc', 'staging', 'k'")
	if n := b.query(t, "SELECT count(*)::text FROM submissions"); n[0] != "2" {
		t.Errorf("%s submissions, want 2", n[0])
	}
}

func TestSubmittersAreBoundToTheirTenants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	films, both, all, plain := b.login(t, "films", "films"), b.login(t, "both", "films", "news"), b.login(t, "ops", "*"), b.login(t, "plain")
	ofFilms := submitSQL(t, films, "'acc', 'staging', 'k'")
	ofNews := submitSQL(t, both, "'acc', 'staging', 'k', tenant => 'news'")
	ofDefault := submitSQL(t, plain, "'acc', 'staging', 'k'")
	if got := b.query(t, "SELECT tenant FROM submissions ORDER BY id"); !slices.Equal(got, []string{"films", "news", "default"}) {
		t.Errorf("tenants %v", got)
	}
	for _, tc := range []struct {
		conn *pgx.Conn
		sees []uploads.ID
	}{{films, []uploads.ID{ofFilms}}, {both, []uploads.ID{ofFilms, ofNews}}, {all, []uploads.ID{ofFilms, ofNews, ofDefault}}, {plain, []uploads.ID{ofDefault}}} {
		for _, id := range []uploads.ID{ofFilms, ofNews, ofDefault} {
			if seen := stateSQL(t, tc.conn, id) == "submitted"; seen != slices.Contains(tc.sees, id) {
				t.Errorf("%s sees %s: %t", tc.conn.Config().User, id, seen)
			}
		}
	}
	var id uploads.ID
	if err := both.QueryRow(t.Context(), "SELECT mediaferry.submit('acc', 'staging', 'k')").Scan(&id); err == nil || !strings.Contains(err.Error(), "tenant: is missing") {
		t.Errorf("of two tenants neither is named: %v", err)
	}
	submitSQL(t, all, "'acc', 'staging', 'k', tenant => 'sports'")
}

// A submission is part of the caller's transaction.
func TestSubmitBySQLIsTheCallersTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.login(t, "pipeline")
	heard := make(chan struct{}, 10)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.ListenSubmissions(ctx, func() { heard <- struct{}{} })
	}()
	t.Cleanup(func() { stop(); <-ended })
	<-heard // it listens
	for _, commit := range []bool{false, true} {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		id := submitSQL(t, tx, "'acc', 'staging', 'k', idempotency_key => 'once'")
		if id.Version() != 7 || time.Since(time.Unix(id.Time().UnixTime())).Abs() > time.Minute {
			t.Errorf("id %s is no UUIDv7 of now", id)
		}
		if again := submitSQL(t, tx, "'acc', 'staging', 'k', idempotency_key => 'once'"); again != id {
			t.Errorf("twice in one transaction: %s, then %s", id, again)
		}
		if state := stateSQL(t, tx, id); state != "submitted" {
			t.Errorf("before the commit its state is %q", state)
		}
		if _, claimed, err := b.ClaimSubmissions(t.Context(), 10, time.Minute); err != nil || len(claimed) > 0 {
			t.Fatalf("before the commit %v, %v", claimed, err)
		}
		if !commit {
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if state := stateSQL(t, conn, id); state != "" {
				t.Errorf("after a rollback its state is %q", state)
			}
			continue
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-heard
		accepted, _ := b.accept(t, "hash")
		if len(accepted) != 1 || !accepted[id] || stateSQL(t, conn, id) != "queued" {
			t.Errorf("accepted %v, state %s", accepted, stateSQL(t, conn, id))
		}
	}
}

func TestOneUploadForOneKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn, other := b.login(t, "pipeline"), b.login(t, "other")
	const submission = "'acc', 'staging', 'k', '{\"a\": \"b\"}', 'once'"
	id := submitSQL(t, conn, submission)
	if again := submitSQL(t, other, submission); again != id {
		t.Errorf("waiting: %s, then %s", id, again)
	}
	taken := func(arguments string) {
		t.Helper()
		var got uploads.ID
		err := conn.QueryRow(t.Context(), "SELECT mediaferry.submit("+arguments+")").Scan(&got)
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "23505" || e.ColumnName != "idempotency_key" || e.Hint == "" {
			t.Errorf("another submission under the key: %s, %v", got, err)
		}
	}
	taken("'acc', 'staging', 'k2', idempotency_key => 'once'")
	b.acceptAll(t)
	if again := submitSQL(t, conn, submission); again != id {
		t.Errorf("taken up: %s, then %s", id, again)
	}
	taken("'acc', 'staging', 'k2', idempotency_key => 'once'")

	// Another transaction holds the key: it is waited for, and found.
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := submitSQL(t, tx, "'acc', 'staging', 'k', idempotency_key => 'both'")
	second := make(chan uploads.ID, 1)
	go func() {
		var got uploads.ID
		_ = other.QueryRow(t.Context(), "SELECT mediaferry.submit('acc', 'staging', 'k', idempotency_key => 'both')").Scan(&got)
		second <- got
	}()
	for b.query(t, "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")[0] == "0" {
		time.Sleep(time.Millisecond)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-second; got != first {
		t.Errorf("side by side: %s and %s", first, got)
	}

	// An upload comes under the key by another way before the row is taken up.
	late := submitSQL(t, conn, "'acc', 'staging', 'k', idempotency_key => 'late'")
	differs := submitSQL(t, conn, "'acc', 'staging', 'k', idempotency_key => 'differs'")
	one, two := item(t, "k", 5), item(t, "k", 5)
	one.IdempotencyKey, one.RequestHash, two.IdempotencyKey = "late", []byte("hash"), "differs"
	if _, err := b.Insert(t.Context(), intake(one, two)); err != nil {
		t.Fatal(err)
	}
	accepted, refused := b.accept(t, "hash")
	if len(accepted) != 1 || !accepted[first] || !slices.Equal(refused, []uploads.ID{differs}) {
		t.Errorf("accepted %v, refused %v", accepted, refused)
	}
	var upload uploads.ID
	if err := conn.QueryRow(t.Context(), "SELECT upload_id FROM mediaferry.upload($1)", late).Scan(&upload); err != nil || upload != one.ID {
		t.Errorf("the upload of %s is %s, %v; want %s", late, upload, err, one.ID)
	}
}

// submissionOf is the submission that a random submission by SQL is of, and its
// arguments.
func drawSubmission(t *rapid.T) (s uploads.Submission, args []any) {
	text := func(name string) string {
		return rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune("<>&\u2028\u2029\"\\\b\f\n\r\t\x01\x7f\u0085/.. aZ€😀")), rapid.Rune())).
			Filter(func(s string) bool { return !strings.Contains(s, "\x00") && len(s) <= 200 }).Draw(t, name)
	}
	texts := rapid.MapOfN(rapid.StringN(1, 20, 80).Filter(func(s string) bool { return !strings.Contains(s, "\x00") }),
		rapid.StringN(0, 20, 80).Filter(func(s string) bool { return !strings.Contains(s, "\x00") }), 0, 4)
	s = uploads.Submission{
		Tenant: "default", Account: "acc", IdempotencyKey: "key " + text("idempotency key"),
		Source:      uploads.Object{Bucket: "staging", Key: "k" + text("key"), Version: text("version"), ETag: text("etag")},
		Name:        rapid.SampledFrom([]string{"", "film.mp4", "ein <Film> & \u2028.mp4"}).Draw(t, "name"),
		ContentType: rapid.SampledFrom([]string{"", "video/mp4"}).Draw(t, "content type"),
		Options:     texts.Draw(t, "options"), Labels: texts.Draw(t, "labels"), Priority: rapid.IntRange(-100, 100).Draw(t, "priority"),
	}
	var notBefore *time.Time
	if rapid.Bool().Draw(t, "later") {
		at := time.UnixMicro(rapid.Int64Range(-1e15, 200e15).Draw(t, "not before"))
		s.NotBefore, notBefore = at, &at
	}
	sums := []string{}
	for _, kind := range rapid.SliceOfDistinct(rapid.SampledFrom([]hashing.Kind{
		hashing.MD5, hashing.SHA1, hashing.SHA256, hashing.CRC32C, hashing.CRC64NVME, hashing.CRC64ECMA, hashing.SMH,
	}), rapid.ID).Draw(t, "digests") {
		sum := hashing.New(kind, rapid.SliceOfN(rapid.Byte(), kind.Size(), kind.Size()).Draw(t, "sum"))
		s.Digests = append(s.Digests, sum)
		sums = append(sums, strings.ToUpper(sum.String()), sum.String())
	}
	return s, []any{s.Source.Key, s.Options, s.IdempotencyKey, s.Name, s.ContentType, s.Labels, s.Priority, notBefore, sums, s.Source.Version, s.Source.ETag}
}

// What is the same submission is one thing, by whatever way it comes: SQL takes
// what the API takes, and comes to the same hash.
func TestSQLAndTheAPIAgreeOnWhatIsTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	rapid.Check(t, func(rt *rapid.T) {
		s, args := drawSubmission(rt)
		wrong := s.Validate()
		tx, err := conn.Begin(t.Context())
		if err != nil {
			rt.Fatal(err)
		}
		defer tx.Rollback(t.Context()) //nolint:errcheck // nothing is kept
		var id uploads.ID
		err = tx.QueryRow(t.Context(), `SELECT mediaferry.submit('acc', 'staging', $1, options => $2, idempotency_key => $3, name => $4,
			content_type => $5, labels => $6, priority => $7, not_before => $8, digests => $9, version => $10, etag => $11)`, args...).Scan(&id)
		if (err != nil) != (wrong != nil) {
			rt.Fatalf("by SQL %v, else %v", err, wrong)
		}
		if err != nil {
			return
		}
		var hash []byte
		if err := tx.QueryRow(t.Context(), `SELECT submission_hash(s) FROM submissions s WHERE id = $1`, id).Scan(&hash); err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(hash, s.Hash()) {
			rt.Fatalf("another hash for %+v", s)
		}
	})
}

// Under a key that is taken, every difference is one, whether the other was
// taken up already or not, and by whatever way it came.
func TestAnotherSubmissionUnderAKeyIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.login(t, "pipeline")
	const base = `'acc', 'staging', 'a/k.mp4', '{"o": "1"}', 'once', content_type => 'video/mp4', labels => '{"l": "1"}', priority => 1,
		not_before => '2126-01-01 00:00Z', digests => '{crc32c:0000000a}', version => 'v', etag => 'e'`
	same := []string{
		base,
		strings.Replace(base, "'once',", "'once', name => 'k.mp4',", 1),
		strings.Replace(base, "0000000a", "0000000A", 1),
		strings.Replace(base, "00:00Z", "01:00+01", 1),
		strings.Replace(base, "'e'", `'"e"'`, 1),
		strings.Replace(base, "{crc32c", "{CRC32C:0000000A,crc32c", 1),
	}
	other := []string{
		strings.Replace(base, "'once',", "'once', name => 'film.mp4',", 1),
		strings.Replace(base, "video/mp4", "video/quicktime", 1),
		strings.Replace(base, `"o": "1"`, `"o": "2"`, 1),
		strings.Replace(base, `"l": "1"`, `"l": "2"`, 1),
		strings.Replace(base, "priority => 1", "priority => 2", 1),
		strings.Replace(base, "2126", "2127", 1),
		strings.Replace(base, "not_before => '2126-01-01 00:00Z'", "not_before => NULL", 1),
		strings.Replace(base, "0000000a", "0000000b", 1),
		strings.Replace(base, "'{crc32c:0000000a}'", "'{}'", 1),
		strings.Replace(base, "version => 'v'", "version => 'w'", 1),
		strings.Replace(base, "etag => 'e'", "etag => 'f'", 1),
		strings.Replace(base, "'acc'", "'bcc'", 1),
		strings.Replace(base, "'staging'", "'other'", 1),
		strings.Replace(base, "a/k.mp4", "b/k.mp4", 1),
	}
	id := submitSQL(t, conn, base)
	check := func(when string) {
		t.Helper()
		for _, arguments := range same {
			if again := submitSQL(t, conn, arguments); again != id {
				t.Errorf("%s, submit(%s) is %s, not %s", when, arguments, again, id)
			}
		}
		for _, arguments := range other {
			var got uploads.ID
			err := conn.QueryRow(t.Context(), "SELECT mediaferry.submit("+arguments+")").Scan(&got)
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "23505" || e.ColumnName != "idempotency_key" {
				t.Errorf("%s, submit(%s) is %s, %v; want that the key is taken", when, arguments, got, err)
			}
		}
	}
	check("waiting")
	b.acceptAll(t)
	check("taken up")
}

// A submission that was joined with an upload goes with it.
func TestJoinedSubmissionsArePruned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.login(t, "pipeline")
	id := submitSQL(t, conn, "'acc', 'staging', 'k', idempotency_key => 'once'")
	one := item(t, "k", 5)
	one.IdempotencyKey, one.RequestHash = "once", []byte("hash")
	one.ID = uuid.MustParse("0199b1ab-0800-7000-8000-000000000001") // of October 2025
	if _, err := b.Insert(t.Context(), intake(one)); err != nil {
		t.Fatal(err)
	}
	b.accept(t, "hash")
	if state := stateSQL(t, conn, id); state != "queued" {
		t.Fatalf("the joined submission is %q", state)
	}
	waits := submitSQL(t, conn, "'acc', 'staging', 'k', idempotency_key => 'other'")
	b.exec(t, `UPDATE uploads SET state = 'cancelled', finished_at = now() - interval '1 day';
		SELECT make_part_acks_partition('part_acks_202510', '01999d11-9800-0000-0000-000000000000', '019a3cb6-bc00-0000-0000-000000000000')`)
	if err := b.Prune(t.Context(), time.Now(), false, false, func(p uploads.Pruned) {
		if p.Kept != "" {
			t.Errorf("%s is kept: %s", p.Month, p.Kept)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if got := b.query(t, "SELECT id::text FROM submissions"); !slices.Equal(got, []string{waits.String()}) {
		t.Errorf("submissions %v are left, want %s", got, waits)
	}
	if state := stateSQL(t, conn, id); state != "" {
		t.Errorf("what was pruned is still %q", state)
	}
}

// Claims are exclusive, and what a dispatcher does after its lease passed on has
// no effect.
func TestASubmissionIsTakenUpOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.login(t, "pipeline")
	id := submitSQL(t, conn, "'acc', 'staging', 'k'")
	dead, claimed, err := b.ClaimSubmissions(t.Context(), 10, time.Millisecond)
	if err != nil || len(claimed) != 1 {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	var lease uploads.Lease
	for { // until the lease of the first has lapsed
		var again []uploads.ClaimedSubmission
		if lease, again, err = b.ClaimSubmissions(t.Context(), 10, time.Minute); err != nil {
			t.Fatal(err)
		}
		if len(again) == 1 {
			break
		}
	}
	if _, more, err := b.ClaimSubmissions(t.Context(), 10, time.Minute); err != nil || len(more) > 0 {
		t.Errorf("claimed by another: %v, %v", more, err)
	}
	list := takenOf(claimed, "hash")
	if accepted, taken, err := b.AcceptSubmissions(t.Context(), dead, list); err != nil || len(accepted)+len(taken) > 0 {
		t.Errorf("after the lease: %v, %v, %v", accepted, taken, err)
	}
	bad := []uploads.RefusedSubmission{{ID: id, Name: "n", Failure: uploads.Failure{Cause: uploads.CauseInvalid, Message: "no"}}}
	if err := b.RefuseSubmissions(t.Context(), dead, bad); err != nil || stateSQL(t, conn, id) != "submitted" {
		t.Errorf("refused after the lease: %v, %s", err, stateSQL(t, conn, id))
	}
	if err := b.RefuseSubmissions(t.Context(), lease, bad); err != nil || stateSQL(t, conn, id) != "failed" {
		t.Errorf("refused: %v, %s", err, stateSQL(t, conn, id))
	}
	if accepted, _, err := b.AcceptSubmissions(t.Context(), lease, list); err != nil || len(accepted) > 0 {
		t.Errorf("accepted after it was refused: %v, %v", accepted, err)
	}
	events := b.query(t, "SELECT concat(type, ' ', payload -> 'failure' ->> 'cause', ' ', payload ->> 'upload') FROM outbox")
	if !slices.Equal(events, []string{"failed invalid " + id.String()}) {
		t.Errorf("events %v", events)
	}
	if changed, err := b.Apply(t.Context(), uploads.ActionRetry, "default", []uploads.ID{id}, uploads.Note{}); err != nil || len(changed) > 0 {
		t.Errorf("a refused submission is retried: %v, %v", changed, err)
	}
}

func TestListeningEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ended := make(chan error, 1)
	listens := make(chan struct{}, 1)
	go func() { ended <- b.ListenSubmissions(t.Context(), func() { listens <- struct{}{} }) }()
	<-listens
	b.query(t, "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()")
	away, ok := errors.AsType[*uploads.UnavailableError](<-ended)
	if !ok || away.What != "postgres" {
		t.Errorf("ended with %v", away)
	}
}
