package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/minio/crc64nvme"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sys/unix"

	"mediaferry/bench/movers"
)

// dataset is a bucket full of incompressible objects of one size. It is made
// once and kept; the same names and sizes always hold the same bytes.
type dataset struct {
	name  string // "large" or "small": in the table and in the figures' names
	count int
	size  int64
	crc64 map[string]string // by key, base64; filled by prepare
}

// uploadPart is the part size of large objects in the source. What a platform's
// staging holds came through multipart uploads, so its ETags are no MD5s.
const uploadPart = 64 << 20

// parseDataset reads "4x1GiB" or "200x512KiB".
func parseDataset(name, text string) (*dataset, error) {
	count, size, ok := strings.Cut(text, "x")
	n, err := strconv.Atoi(count)
	if !ok || err != nil || n < 1 {
		return nil, fmt.Errorf("%s: %q is not of the form 4x1GiB", name, text)
	}
	digits := strings.TrimRight(size, "KMGiB")
	units := map[string]int64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
	unit, known := units[size[len(digits):]]
	each, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !known || each < 1 {
		return nil, fmt.Errorf("%s: %q is not a size such as 1GiB or 512KiB", name, size)
	}
	return &dataset{name: name, count: n, size: each * unit}, nil
}

func (d *dataset) bucket() string { return fmt.Sprintf("%s-%dx%d", d.name, d.count, d.size) }

func (d *dataset) bytes() int64 { return int64(d.count) * d.size }

func (d *dataset) keys() []string {
	keys := make([]string, d.count)
	for i := range keys {
		keys[i] = fmt.Sprintf("clip-%05d.mp4", i)
	}
	return keys
}

// prepare makes the objects through the gateway, so that they carry what an S3
// server stores with them, unless an earlier run left them whole.
func (d *dataset) prepare(ctx context.Context, client *minio.Client, folder string) error {
	manifest := filepath.Join(folder, d.bucket()+".json")
	text, err := os.ReadFile(manifest) //nolint:gosec // the folder that -data names
	if err == nil && json.Unmarshal(text, &d.crc64) == nil && d.whole(folder) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read manifest: %w", err)
	}

	d.crc64 = make(map[string]string, d.count)
	exists, err := client.BucketExists(ctx, d.bucket())
	if err != nil {
		return fmt.Errorf("look for bucket %s: %w", d.bucket(), err)
	}
	if !exists {
		if err := client.MakeBucket(ctx, d.bucket(), minio.MakeBucketOptions{}); err != nil {
			return fmt.Errorf("make bucket %s: %w", d.bucket(), err)
		}
	}
	for i, key := range d.keys() {
		seed := [32]byte{byte(i), byte(i >> 8), byte(i >> 16)}
		copy(seed[8:], d.bucket())
		sum := crc64nvme.New()
		body := io.TeeReader(io.LimitReader(rand.NewChaCha8(seed), d.size), sum)
		opts := minio.PutObjectOptions{ContentType: "video/mp4", PartSize: uploadPart, DisableContentSha256: true}
		if _, err := client.PutObject(ctx, d.bucket(), key, body, d.size, opts); err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
		d.crc64[key] = base64.StdEncoding.EncodeToString(sum.Sum(nil))
	}
	if text, err = json.Marshal(d.crc64); err != nil {
		return fmt.Errorf("encode manifest: %w", err)
	}
	if err := os.WriteFile(manifest, text, 0o600); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	unix.Sync() // else the kernel writes it back in the middle of the first run
	return nil
}

func (d *dataset) whole(folder string) bool {
	for _, key := range d.keys() {
		info, err := os.Stat(filepath.Join(folder, d.bucket(), key))
		if err != nil || info.Size() != d.size || d.crc64[key] == "" {
			return false
		}
	}
	return len(d.crc64) == d.count
}

// warm reads every byte, so that a run finds it in the page cache: idle pages are
// dropped after a minute or so, and the next mover would pay for that.
func (d *dataset) warm(ctx context.Context, folder string, buf []byte) error {
	for _, key := range d.keys() {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read ahead: %w", err)
		}
		if err := readThrough(filepath.Join(folder, d.bucket(), key), buf); err != nil {
			return err
		}
	}
	return nil
}

func readThrough(path string, buf []byte) error {
	file, err := os.Open(path) //nolint:gosec // the folder that -data names
	if err != nil {
		return fmt.Errorf("read ahead: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	// io.Copy would let the kernel move the pages itself, without reading them.
	for {
		if _, err := file.Read(buf); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read ahead: %w", err)
		}
	}
}

// sourceClient is for making the data only; no mover uses it.
func sourceClient(env movers.Env) (*minio.Client, error) {
	client, err := minio.New(strings.TrimPrefix(env.Source, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(env.AccessKey, env.SecretKey, ""), Region: "us-east-1",
	})
	if err != nil {
		return nil, fmt.Errorf("client of the source: %w", err)
	}
	return client, nil
}
