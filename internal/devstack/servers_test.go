package devstack_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/minio/crc64nvme"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mediaferry/internal/devstack"
	"mediaferry/internal/devstack/devtest"
)

func itoa(i int) string { return strconv.Itoa(i) }

func TestNATSKeepsOrLosesItsStore(t *testing.T) {
	t.Parallel()
	server := devtest.NATS(t)
	messages := func() uint64 {
		conn, err := nats.Connect(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		js, err := jetstream.New(conn)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "s", nil); err != nil {
			t.Fatal(err)
		}
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs
	}
	address := server.URL()
	if got := messages(); got != 1 {
		t.Errorf("%d messages at first", got)
	}
	if err := server.Wipe(); err == nil {
		t.Error("the store of a running server was wiped")
	}
	server.Stop()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if got := messages(); got != 2 {
		t.Errorf("%d messages after stop and start, want 2", got)
	}
	server.Stop()
	if err := server.Wipe(); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if got := messages(); got != 1 {
		t.Errorf("%d messages after the loss of the store, want 1", got)
	}
	if server.URL() != address {
		t.Errorf("moved from %s to %s", address, server.URL())
	}
}

func query[T any](t *testing.T, dsn, statement string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var value T
	if err := conn.QueryRow(t.Context(), statement).Scan(&value); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

func execute(t *testing.T, dsn, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func TestPostgresKeepsItsData(t *testing.T) {
	t.Parallel()
	dir := tempDir(t).Join("a-long-name-" + strings.Repeat("x", 150)) // no socket would fit
	pg, err := devstack.StartPostgres(t.Context(), dir, devstack.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pg.Stop)
	execute(t, pg.DSN(), "CREATE TABLE kept AS SELECT 7 AS x")
	for setting, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "TimeZone": "UTC", "listen_addresses": "127.0.0.1"} {
		if got := query[string](t, pg.DSN(), "SHOW "+setting); got != want {
			t.Errorf("%s is %s, want %s", setting, got, want)
		}
	}
	address := pg.DSN()
	if err := pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pg.DSN() != address {
		t.Error("moved to another address")
	}
	if got := query[int](t, pg.DSN(), "SELECT x FROM kept"); got != 7 {
		t.Errorf("x = %d", got)
	}
	pg.Stop()
	if listening(t.Context(), hostOf(address)) {
		t.Error("still listens after Stop")
	}
	again, err := devstack.StartPostgres(t.Context(), dir, devstack.PostgresOptions{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Stop)
	if got := query[int](t, again.DSN(), "SELECT x FROM kept"); got != 7 {
		t.Errorf("x = %d", got)
	}
	if got := query[string](t, again.DSN(), "SHOW fsync"); got != "off" {
		t.Errorf("volatile, and fsync is %s", got)
	}
}

func TestPostgresWantsThePassword(t *testing.T) {
	t.Parallel()
	pg, err := devstack.StartPostgres(t.Context(), tempDir(t).Join("pg"), devstack.PostgresOptions{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pg.Stop)
	config, err := pgx.ParseConfig(pg.DSN())
	if err != nil {
		t.Fatal(err)
	}
	config.Password = "guess"
	if conn, err := pgx.ConnectConfig(t.Context(), config); err == nil {
		_ = conn.Close(t.Context())
		t.Error("any password will do")
	}
}

func TestPostgresOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := tempDir(t).Join("pg")
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := devstack.StartPostgres(t.Context(), dir, devstack.PostgresOptions{})
	if err == nil || !strings.Contains(err.Error(), "written by Postgres 9") {
		t.Errorf("got %v", err)
	}
}

// As root, a folder that the server's account cannot enter is named.
func TestPostgresOutOfReach(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server under another account")
	}
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := devstack.StartPostgres(t.Context(), filepath.Join(closed, "pg"), devstack.PostgresOptions{})
	if err == nil || !strings.Contains(err.Error(), "may not enter") {
		t.Errorf("got %v", err)
	}
}

// As root the server has another account, which a folder made under a umask of 077
// would keep out.
func TestPostgresInAClosedFolder(t *testing.T) {
	t.Parallel()
	dir := tempDir(t).Join("pg")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	server, err := devstack.StartPostgres(t.Context(), dir, devstack.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
}

// Not parallel, since it changes the environment.
func TestPostgresThatIsNotThere(t *testing.T) {
	t.Setenv("MEDIAFERRY_PG_BIN", t.TempDir())
	_, err := devstack.StartPostgres(t.Context(), tempDir(t).Join("pg"), devstack.PostgresOptions{})
	if err == nil || !strings.Contains(err.Error(), "MEDIAFERRY_PG_BIN") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

const bucket = "staging"

// core returns minio-go's low-level client, set up as those who rely on the
// server's checks set it up.
func core(t *testing.T) *minio.Core {
	t.Helper()
	server := devtest.S3(t, bucket)
	config := server.Config()
	client, err := minio.NewCore(hostOf(server.Endpoint()), &minio.Options{
		Creds:           credentials.NewStaticV4(config.AccessKey.Reveal(), config.SecretKey.Reveal(), ""),
		Region:          "us-east-1",
		TrailingHeaders: true,
		MaxRetries:      1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func crc(data []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc64nvme.Checksum(data)))
}

// What we rely on in uploads to S3: a CRC-64/NVME after the bytes, whose
// payload is not signed, is checked by the server.
func TestS3ChecksTrailingChecksums(t *testing.T) {
	t.Parallel()
	client := core(t)
	data := bytes.Repeat([]byte("mediaferry "), 1<<20)
	info, err := client.Client.PutObject(t.Context(), bucket, "whole", bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{
		AutoChecksum: minio.ChecksumCRC64NVME, DisableContentSha256: true, DisableMultipart: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if info.ChecksumCRC64NVME != crc(data) {
		t.Errorf("PUT: the server says CRC %q, want %q", info.ChecksumCRC64NVME, crc(data))
	}

	upload, err := client.NewMultipartUpload(t.Context(), bucket, "parts", minio.PutObjectOptions{
		UserMetadata: map[string]string{"X-Amz-Checksum-Algorithm": "CRC64NVME", "X-Amz-Checksum-Type": "FULL_OBJECT"},
	})
	if err != nil {
		t.Fatal(err)
	}
	half := len(data) / 2
	var parts []minio.CompletePart
	for i, piece := range [][]byte{data[:half], data[half:]} {
		part, err := client.PutObjectPart(t.Context(), bucket, "parts", upload, i+1, bytes.NewReader(piece), int64(len(piece)), minio.PutObjectPartOptions{
			DisableContentSha256: true, Trailer: trailer(crc(piece)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if part.ChecksumCRC64NVME != crc(piece) {
			t.Errorf("UploadPart: the server says CRC %q, want %q", part.ChecksumCRC64NVME, crc(piece))
		}
		parts = append(parts, minio.CompletePart{PartNumber: i + 1, ETag: part.ETag, ChecksumCRC64NVME: part.ChecksumCRC64NVME})
	}
	_, err = client.PutObjectPart(t.Context(), bucket, "parts", upload, 3, bytes.NewReader(data), int64(len(data)), minio.PutObjectPartOptions{
		DisableContentSha256: true, Trailer: trailer(crc([]byte("other bytes"))),
	})
	if err == nil {
		t.Error("UploadPart: a wrong CRC was accepted")
	}
	done, err := client.CompleteMultipartUpload(t.Context(), bucket, "parts", upload, parts, minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if done.ChecksumCRC64NVME != crc(data) {
		t.Errorf("Complete: the server says CRC %q, want %q", done.ChecksumCRC64NVME, crc(data))
	}
}

func trailer(sum string) map[string][]string {
	return map[string][]string{"X-Amz-Checksum-Crc64nvme": {sum}}
}

// What we rely on in reads: a range is refused once the object is another one.
func TestS3HonoursIfMatchOnRanges(t *testing.T) {
	t.Parallel()
	client := core(t)
	put := func(text string) minio.UploadInfo {
		info, err := client.Client.PutObject(t.Context(), bucket, "k", strings.NewReader(text), int64(len(text)), minio.PutObjectOptions{DisableContentSha256: true})
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	get := func(etag string) (string, error) {
		opts := minio.GetObjectOptions{}
		opts.Set("If-Match", `"`+etag+`"`)
		opts.Set("Range", "bytes=2-4")
		body, _, _, err := client.GetObject(t.Context(), bucket, "k", opts)
		if err != nil {
			return "", err
		}
		defer func() { _ = body.Close() }()
		text, err := io.ReadAll(body)
		return string(text), err
	}
	first := put("0123456789")
	if got, err := get(first.ETag); got != "234" || err != nil {
		t.Errorf("got %q, %v; want 234", got, err)
	}
	second := put("abcdefghij")
	if got, err := get(first.ETag); minio.ToErrorResponse(err).StatusCode != 412 {
		t.Errorf("got %q, %v of the new object under the old ETag; want status 412", got, err)
	}
	if got, err := get(second.ETag); got != "cde" || err != nil {
		t.Errorf("got %q, %v; want cde", got, err)
	}
}

func TestS3KeepsItsObjects(t *testing.T) {
	t.Parallel()
	server, err := devstack.StartS3(t.Context(), t.TempDir(), devstack.S3Options{Buckets: []string{bucket, "second"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	endpoint := server.Endpoint()
	if err := server.Start(t.Context()); err == nil {
		t.Error("a running server was started")
	}
	server.Stop()
	server.Stop()
	if listening(t.Context(), hostOf(endpoint)) {
		t.Error("still listens after Stop")
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if server.Endpoint() != endpoint {
		t.Errorf("moved from %s to %s", endpoint, server.Endpoint())
	}
}

func TestS3OnATakenPort(t *testing.T) {
	t.Parallel()
	first := devtest.S3(t)
	port, err := strconv.Atoi(first.Endpoint()[strings.LastIndex(first.Endpoint(), ":")+1:])
	if err != nil {
		t.Fatal(err)
	}
	second, err := devstack.StartS3(t.Context(), t.TempDir(), devstack.S3Options{Port: port})
	if err == nil {
		second.Stop()
		t.Fatal("two servers listen on one port")
	}
	if !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}

// A port that is taken is named at once.
func TestNATSOnATakenPort(t *testing.T) {
	t.Parallel()
	_, text, err := net.SplitHostPort(hostOf(devtest.NATS(t).URL()))
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	second, err := devstack.StartNATS(t.TempDir(), port)
	if err == nil {
		second.Stop()
		t.Fatal("two servers listen on one port")
	}
	if !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}
