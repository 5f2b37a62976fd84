package main

import (
	"fmt"
	"os"
	"regexp"
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
	film.AckedBytes, film.FoundBytes = 40*mib, 40*mib // which have no part in the rate
	p.set("1", uploadStatus(film))
	for range 9 {
		c.pass(time.Second)
		film.AckedBytes += 40 * mib
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

// Of many uploads as many are shown as the terminal has room for, and a line for
// all of them; what has ended goes first.
func TestManyLines(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	c := &clock{at: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	p := newProgress(&out, c.now)
	p.width, p.rows = 80, 6
	p.expect(9, 9<<20)
	for i := range 9 {
		c.pass(time.Second)
		u := client.Upload{Name: fmt.Sprintf("%d.mp4", i), Account: "vod", State: "uploading", Source: client.Object{Size: 1 << 20}}
		if i < 3 {
			u.State, u.AckedBytes = "completed", 1<<20
		}
		p.set(u.Name, uploadStatus(u))
	}
	p.close()
	frames := regexp.MustCompile("\x1b\\[[0-9]+A").Split(out.String(), -1)
	last := strings.NewReplacer("\r\x1b[2K", "").Replace(frames[len(frames)-1])
	want := `3.mp4 → vod  uploading    0%  0 B of 1.0 MiB
4.mp4 → vod  uploading    0%  0 B of 1.0 MiB
5.mp4 → vod  uploading    0%  0 B of 1.0 MiB
… and 3 more
total  3 of 9      33%  3.0 MiB of 9.0 MiB  256 KiB/s  16s left
`
	if diff := cmp.Diff(want, last); diff != "" {
		t.Errorf("last picture (-want +got):\n%s", diff)
	}
	for _, frame := range frames {
		if n := strings.Count(frame, "\n"); n >= p.rows {
			t.Errorf("%d lines on a terminal of %d", n, p.rows)
		}
	}
}

// Nothing is said of the time left before there is a basis, and one slow moment
// does not change all.
func TestTimeLeft(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	var l line
	total := int64(1 << 30)
	at := func(done int64) string {
		l.take(status{done: done, total: total}, c.now())
		return l.moving()
	}
	at(0)
	for i := range int64(4) {
		c.pass(time.Second)
		if text := at((i + 1) << 20); strings.Contains(text, "left") {
			t.Errorf("after %d seconds: %s", i+1, text)
		}
	}
	var text string
	for i := int64(4); i < 24; i++ {
		c.pass(time.Second)
		text = at((i + 1) << 20)
	}
	if want := "1.0 MiB/s  16m40s left"; text != want {
		t.Errorf("after a while %q, want %q", text, want)
	}
	c.pass(2 * time.Second) // in which nothing came
	if text, want := at(24<<20), "819 KiB/s  17m5s left"; text != want {
		t.Errorf("after a pause %q, want %q", text, want)
	}
	for seconds, want := range map[float64]string{0.2: "1s", 59.4: "59s", 121: "2m0s", 4000: "1h7m", 1e300: "very long"} {
		if got := leftText(seconds); got != want {
			t.Errorf("%g seconds are %q, want %q", seconds, got, want)
		}
	}
}

// A note stands above what is redrawn, and stays.
func TestNote(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	c := &clock{at: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	p := newProgress(&out, c.now)
	p.width = 60
	u := client.Upload{Name: "a.mp4", Account: "vod", State: "queued", Source: client.Object{Size: 1 << 20}}
	p.set("1", uploadStatus(u))
	p.note("it waits")
	c.pass(time.Second)
	p.set("1", uploadStatus(u))
	p.close()
	line := "CRESC[2Ka.mp4 → vod  queued\n"
	want := line + "ESC[1ACRESC[Jit waits\n" + line + "ESC[1A" + line + "ESC[1A" + line
	if got := strings.NewReplacer("\x1b", "ESC", "\r", "CR").Replace(out.String()); got != want {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, got))
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
