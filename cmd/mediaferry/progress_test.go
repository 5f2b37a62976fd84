package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/client"
)

// clock is a time that the test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func (c *clock) pass(d time.Duration) { c.at = c.at.Add(d) }

// scene plays two uploads on a fake clock and returns what was written.
func scene(width int) string {
	var out strings.Builder
	c := &clock{at: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	p := newProgress(&out, c.now)
	p.width = width
	const mib = 1 << 20
	film := client.Upload{Name: "film.mp4", Account: "archive", State: "queued", Source: client.Object{Size: 400 * mib}}
	clip := client.Upload{
		Name: "a-clip-whose-name-is-longer-than-the-column.mov", Account: "vod", State: "digesting",
		Source: client.Object{Size: 64 * mib}, DigestedBytes: 16 * mib,
	}
	p.set("1", uploadStatus(film))
	p.set("2", uploadStatus(clip))
	film.State = "uploading"
	for range 5 {
		c.pass(time.Second)
		film.AckedBytes += 80 * mib
		p.set("1", uploadStatus(film))
		p.set("1", uploadStatus(film)) // at once again: nothing is drawn
	}
	film.State = "finishing"
	p.set("1", uploadStatus(film))
	film.State = "completed"
	p.set("1", uploadStatus(film))
	clip.State = "failed"
	p.set("2", uploadStatus(clip))
	p.close()
	p.set("2", uploadStatus(film)) // late, and so ignored
	return out.String()
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for file, width := range map[string]int{"plain.golden": 0, "terminal.golden": 110, "narrow.golden": 40} {
		want, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		// Escapes are written out in the files, to be read in a diff.
		got := strings.NewReplacer("\x1b", "ESC", "\r", "CR").Replace(scene(width))
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

// What is redrawn must fit the terminal, else the lines above are not found again.
func TestLinesFitTheTerminal(t *testing.T) {
	t.Parallel()
	for width := 10; width < 200; width++ {
		for text := range strings.SplitSeq(scene(width), "\n") {
			text = strings.TrimPrefix(text[strings.LastIndex(text, "K")+1:], "\r")
			if n := len([]rune(text)); n >= width && !strings.HasPrefix(text, "\x1b") {
				t.Errorf("%d characters on a terminal of %d: %q", n, width, text)
			}
		}
	}
}

func TestBatchStatus(t *testing.T) {
	t.Parallel()
	all := []client.Upload{
		{State: "completed", Source: client.Object{Size: 10}},
		{State: "uploading", Source: client.Object{Size: 20}, AckedBytes: 5},
		{State: "failed", ID: "f", Source: client.Object{Size: 30}},
	}
	s, failed := batchStatus("vod", all)
	want := status{name: "2 of 3", to: "vod", stage: "uploading", done: 15, total: 30, rest: 1}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(status{})); diff != "" || len(failed) != 1 || failed[0].ID != "f" {
		t.Errorf("batch (-want +got):\n%s%v", diff, failed)
	}
}

func TestResult(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	u := client.Upload{
		Name: "a.mp4", Account: "vod", State: "completed", Source: client.Object{Size: 3 << 20},
		Asset: &client.Asset{ID: "5145", URL: "http://there/a"}, SubmittedAt: start, FinishedAt: start.Add(1500 * time.Millisecond),
	}
	instant := u
	instant.Instant = true
	failed := client.Upload{Name: "a.mp4", Account: "vod", State: "failed", Failure: &client.Failure{Cause: "rejected", Message: "no"}}
	for want, u := range map[string]client.Upload{
		"completed  a.mp4 → vod  asset 5145  http://there/a  (3.0 MiB in 1.5s)":      u,
		"completed  a.mp4 → vod  asset 5145  http://there/a  (it was there already)": instant,
		"failed  a.mp4 → vod  rejected: no":                                          failed,
	} {
		if got := result(u); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
