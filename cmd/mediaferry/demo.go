package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"mediaferry/client"
	"mediaferry/internal/staging"
)

const (
	demoSeconds  = 10        // of video
	demoLeast    = 200 << 20 // bytes
	demoMade     = 256 << 20 // bytes of a file that ffmpeg did not make
	demoKillAt   = 5         // one worker is killed when this percentage has arrived
	demoPatience = 15 * time.Minute
)

// demo is the main job, shown from end to end on one machine.
type demo struct {
	*app

	stack  *stack
	bucket *staging.Store
	size   int64
	sum    string // SHA-256 of the source, hex
	rows   []demoRow
	sent   map[string]int64 // bytes that each account's platform had received, by account
}

// demoRow is a line of the closing table.
type demoRow struct {
	upload   client.Upload
	took     time.Duration
	twice    int64 // bytes that reached the platform more than once
	verified bool
}

func (a *app) demoCommand() *cobra.Command {
	var file string
	var slots int
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Push a real file to six local platforms, kill a worker on the way, and check every byte",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.demo(cmd.Context(), file, slots)
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "file to push; a video is made if empty")
	cmd.Flags().IntVar(&slots, "slots", 4, "jobs that each of the three workers takes at once")
	return cmd
}

func (a *app) demo(ctx context.Context, file string, slots int) (err error) {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	logs := new(tail)
	a.printf("starting NATS, Postgres, an S3 server, local platforms, a dispatcher and three workers\n")
	s, err := startStack(ctx, stackOptions{workers: 3, slots: slots, api: "127.0.0.1:0", level: "info", logs: logs})
	if err != nil {
		a.printf("%s", logs)
		return err
	}
	d := &demo{app: a, stack: s, sent: map[string]int64{}}
	defer func() {
		err = errors.Join(err, s.stop())
		if err != nil {
			a.printf("the last lines of the logs:\n%s", logs)
		}
	}()
	if d.bucket, err = s.openStaging(); err != nil {
		return err
	}
	s.onStop(func() error { d.bucket.Close(); return nil })
	if file == "" {
		if file, err = d.makeVideo(ctx); err != nil {
			return err
		}
	}
	key := filepath.Base(file)
	if err := d.stage(ctx, file, key); err != nil {
		return err
	}
	a.printf("\n1. to %s at once; one of the three workers is killed on the way\n", accountNames(s.destinations))
	if err := d.push(ctx, key, true, s.destinations); err != nil {
		return err
	}
	again := slices.DeleteFunc(slices.Clone(s.destinations), func(d destination) bool { return !d.instant })
	a.printf("\n2. the same file to %s again: these platforms know its bytes, so none are sent\n", accountNames(again))
	if err := d.push(ctx, key, false, again); err != nil {
		return err
	}
	return d.conclude()
}

func accountNames(destinations []destination) string {
	var names []string
	for _, d := range destinations {
		names = append(names, d.account)
	}
	return strings.Join(names, ", ")
}

// makeVideo makes a video with ffmpeg, or a file of random bytes where there
// is none.
func (d *demo) makeVideo(ctx context.Context) (string, error) {
	path := d.stack.dir.Join("demo.mp4")
	if ffmpeg, err := exec.LookPath("ffmpeg"); err == nil {
		// Noise does not compress, so that seconds of it are hundreds of megabytes.
		cmd := exec.CommandContext(ctx, ffmpeg, "-hide_banner", "-loglevel", "error", //nolint:gosec // our own arguments
			"-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25,noise=alls=80:allf=t", "-t", strconv.Itoa(demoSeconds),
			"-c:v", "mpeg4", "-q:v", "1", "-y", path)
		out, err := cmd.CombinedOutput()
		if info, serr := os.Stat(path); err == nil && serr == nil && info.Size() >= demoLeast {
			d.printf("made %d s of video with ffmpeg, %s\n", demoSeconds, humanize.IBytes(uint64(info.Size()))) //nolint:gosec // a size
			return path, nil
		}
		d.printf("ffmpeg made no video of %s: %s\n", humanize.IBytes(demoLeast), bytes.TrimSpace(out))
	}
	f, err := os.Create(path) //nolint:gosec // in our own folder
	if err != nil {
		return "", fmt.Errorf("make a file: %w", err)
	}
	defer f.Close() //nolint:errcheck // closed below where it counts
	random := rand.NewChaCha8([32]byte{'d', 'e', 'm', 'o'})
	if _, err := io.CopyN(f, random, demoMade); err != nil {
		return "", fmt.Errorf("make a file: %w", err)
	}
	d.printf("no ffmpeg here: made a file of %s random bytes in place of a video\n", humanize.IBytes(demoMade))
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("make a file: %w", err)
	}
	return path, nil
}

// stage puts the file into the staging bucket, hashing it on the way.
func (d *demo) stage(ctx context.Context, file, key string) error {
	f, err := os.Open(file) //nolint:gosec // the user's own file
	if err != nil {
		return usagef("%w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the file: %w", err)
	}
	d.size = info.Size()
	hash := sha256.New()
	start := d.now()
	if _, err := d.bucket.Put(ctx, stagingBucket, key, "video/mp4", io.TeeReader(f, hash), d.size); err != nil {
		return err
	}
	d.sum = hex.EncodeToString(hash.Sum(nil))
	d.printf("%s is in staging as s3://%s/%s, %s, SHA-256 %s… (%.1f s)\n", file, stagingBucket, key,
		humanize.IBytes(uint64(d.size)), d.sum[:16], d.now().Sub(start).Seconds()) //nolint:gosec // a size
	return nil
}

// push submits the object to the destinations, follows the uploads to their
// end, and checks what arrived. Either a worker is killed on the way, or all
// uploads must be instant.
func (d *demo) push(ctx context.Context, key string, kill bool, destinations []destination) error {
	// A name with an extension of its own is what all platforms take.
	name := "demo" + cmp.Or(filepath.Ext(key), ".mp4")
	var accepted []client.Upload
	for _, to := range destinations {
		u, _, err := d.stack.api.Submit(ctx, client.Submission{
			Account: to.account, Source: client.Source{Bucket: stagingBucket, Key: key}, Name: name, Options: to.options,
		})
		if err != nil {
			return err
		}
		accepted = append(accepted, u)
	}
	killed := make(chan error, 1)
	if kill {
		go func() { killed <- d.killWorker(ctx) }()
	} else {
		killed <- nil
	}
	out := newLines(d.app, uploadColumns(), result)
	if err := out.finish(d.follow(ctx, d.stack.api, accepted, out, 0)); err != nil {
		return errors.Join(err, <-killed)
	}
	if err := <-killed; err != nil {
		return err
	}
	for i, was := range accepted {
		u, err := d.stack.api.Show(ctx, was.ID)
		if err != nil {
			return err
		}
		if !kill && !u.Instant {
			return fmt.Errorf("%s did not know the bytes again", u.Account)
		}
		row, err := d.check(ctx, destinations[i], u)
		if err != nil {
			return err
		}
		d.rows = append(d.rows, row)
	}
	return nil
}

// killWorker kills a worker with jobs in hand once a share of all bytes has
// been acknowledged.
func (d *demo) killWorker(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		page, err := d.stack.api.List(ctx, client.Filter{})
		if err != nil {
			return err
		}
		var acked, all int64
		ended := true
		for _, u := range page.Uploads {
			acked += u.AckedBytes
			all += u.Source.Size
			ended = ended && !u.FinishedAt.IsZero()
		}
		if ended {
			return errors.New("everything had arrived before a worker could be killed; give a larger file")
		}
		if acked*100 >= all*demoKillAt {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	pid := d.stack.processes.PIDs()[1]
	if err := d.stack.processes.Kill(1); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(d.stderr, "--- killed worker-1 (process %d) with SIGKILL ---\n\n\n", pid)
	return nil
}

// check compares what the platform assembled with the source, and asks it how
// many bytes it received.
func (d *demo) check(ctx context.Context, at destination, u client.Upload) (demoRow, error) {
	row := demoRow{upload: u, took: u.FinishedAt.Sub(u.SubmittedAt)}
	sum, err := d.digest(ctx, u)
	if err != nil {
		return row, fmt.Errorf("check what %s holds: %w", u.Account, err)
	}
	need := u.Source.Size
	if u.Instant {
		need = 0
	}
	received := at.received()
	row.twice = received - d.sent[u.Account] - need
	d.sent[u.Account] = received
	row.verified = sum == d.sum
	return row, nil
}

// digest returns the SHA-256 of the upload's asset, hex, as the platform
// gives it out.
func (d *demo) digest(ctx context.Context, u client.Upload) (string, error) {
	var body io.ReadCloser
	var err error
	if u.Account == accountS3 {
		body, err = d.openObject(ctx, u.Name) // the bucket answers to signed requests only
	} else {
		body, err = openURL(ctx, u.Asset.URL)
	}
	if err != nil {
		return "", err
	}
	defer body.Close() //nolint:errcheck // read only
	hash := sha256.New()
	if _, err := io.Copy(hash, body); err != nil {
		return "", fmt.Errorf("read the asset: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func (d *demo) openObject(ctx context.Context, key string) (io.ReadCloser, error) {
	object, err := d.bucket.Stat(ctx, destBucket, key)
	if err != nil {
		return nil, err
	}
	return d.bucket.Open(ctx, object, 0, object.Size)
}

func openURL(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("read the asset: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("read the asset: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return nil, fmt.Errorf("read the asset: %s", res.Status)
	}
	return res.Body, nil
}

// conclude prints the table and the figures, and fails unless all is well.
func (d *demo) conclude() error {
	d.printf("\n")
	table := newTable(d.stdout)
	_, _ = fmt.Fprintln(table, "destination\tparts\tbytes\ttime\tMB/s\tsent twice\tverified\tasset")
	verified := 0
	accounts, wrong := map[string]bool{}, map[string]bool{}
	var total, twice int64
	for _, r := range d.rows {
		parts, rate := strconv.Itoa(r.upload.PartCount), fmt.Sprintf("%.0f", float64(r.upload.Source.Size)/1e6/r.took.Seconds())
		if r.upload.Instant {
			parts, rate = "instant", "-"
		} else {
			total += r.upload.Source.Size
		}
		twice += r.twice
		accounts[r.upload.Account] = true
		word := "SHA-256"
		if r.verified {
			verified++
		} else {
			wrong[r.upload.Account] = true
			word = "NO"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%d\t%.2f s\t%s\t%d\t%s\t%s\n", r.upload.Account, parts, r.upload.Source.Size,
			r.took.Seconds(), rate, r.twice, word, r.upload.Asset.ID)
	}
	_ = table.Flush()
	d.printf("\npeak memory: %s\n", strings.Join(d.memory(), ", "))
	d.printf("figure demo_uploads_verified %d count\n", verified)
	d.printf("figure platforms_verified %d count\n", len(accounts)-len(wrong))
	d.printf("figure demo_bytes_sent_twice_pct %.2f %%\n", 100*float64(twice)/float64(max(total, 1)))
	if verified != len(d.rows) {
		return fmt.Errorf("%d of %d uploads hold other bytes than the source", len(d.rows)-verified, len(d.rows))
	}
	d.printf("demo: %d of %d uploads completed, every byte verified\n", verified, len(d.rows))
	return nil
}

// memory returns the most that each living process has held, as the kernel
// counts it.
func (d *demo) memory() []string {
	var out []string
	for i, pid := range d.stack.processes.PIDs() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // killed, or not Linux
		}
		name := "dispatcher"
		if i > 0 {
			name = "worker-" + strconv.Itoa(i)
		}
		for line := range strings.Lines(string(status)) {
			if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				n, _ := strconv.Atoi(strings.Fields(kib)[0])
				out = append(out, fmt.Sprintf("%s %d MB", name, n*1024/1_000_000))
			}
		}
	}
	return out
}

// tail keeps the last of what is written.
type tail struct{ buf []byte }

const tailSize = 16 << 10 // bytes

// Write never fails. The owner of the processes writes one line at a time.
func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if cut := len(t.buf) - tailSize; cut > 0 {
		t.buf = append(t.buf[:0], t.buf[cut:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.buf) }
