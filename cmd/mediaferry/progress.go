package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"

	"mediaferry/client"
)

// How progress is drawn.
const (
	plainPause = 2 * time.Second        // between lines of one upload where nothing can be redrawn
	redraw     = 100 * time.Millisecond // between redraws of a terminal
	rateSpan   = 10 * time.Second       // that the rate is taken over
	leftBasis  = 5 * time.Second        // of one stage, before which nothing is said of the time left
	leftSmooth = 15 * time.Second       // over which the rate for it levels out
	maxName    = 24                     // characters
	movingText = 22                     // characters, so that the bar keeps its length
	minBar     = 10                     // characters
)

// status is what is shown of one upload.
type status struct {
	name        string
	to          string // the account, "" where it goes to none
	stage       string
	done, total int64 // bytes; total is 0 where it has no meaning
	found       int64 // of done: were there already, and say nothing of the rate
	moved       int64 // bytes that count towards the total of all
	ended       bool  // nothing more will become of it
}

// progress draws one line per upload, and one for all together where there are
// several: redrawn in place on a terminal, as plain lines every two seconds
// elsewhere. It has no clock of its own: it draws when it is told of something.
type progress struct {
	w     io.Writer
	now   func() time.Time
	width int // of the terminal, 0 where there is none
	rows  int // of the terminal, 0 for any number

	mu    sync.Mutex
	keys  []string // in the order of their lines
	lines map[string]*line
	all   line // all of them; drawn where expected is above 1
	// What is to come in all, 0 if nobody said.
	expected int
	ended    int
	drawn    int       // lines on the terminal
	last     time.Time // of drawing them
	done     bool      // closed: a transport may read on for a moment, and so report
}

// line is one upload and how fast it moves.
type line struct {
	status
	samples []sample  // of the present stage, oldest first, within rateSpan
	begun   time.Time // of the present stage
	level   float64   // bytes per second, for the time left; 0 before there is a basis
	printed time.Time
	shown   string // stage that was printed last
}

type sample struct {
	at   time.Time
	done int64
}

// newProgress draws on w, in place if it is a terminal.
func newProgress(w io.Writer, now func() time.Time) *progress {
	p := &progress{w: w, now: now, lines: map[string]*line{}}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.width = 80
		if width, rows, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			p.width, p.rows = width, rows
		}
	}
	return p
}

// expect tells how many there will be, of how many bytes together.
func (p *progress) expect(count int, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = count
	p.all.status = status{name: "total", total: bytes}
}

// set tells how an upload stands.
func (p *progress) set(key string, s status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return
	}
	l, ok := p.lines[key]
	if !ok {
		l = &line{}
		p.lines[key] = l
		p.keys = append(p.keys, key)
	}
	now := p.now()
	changed := l.stage != s.stage
	if changed {
		l.samples, l.begun, l.level = nil, now, 0 // another stage has another rate
	}
	all := p.all.status
	all.done += s.moved - l.moved
	all.found += s.found - l.found
	if s.ended && !l.ended {
		p.ended++
	}
	all.stage = fmt.Sprintf("%d of %d", p.ended, p.expected)
	l.take(s, now)
	p.all.take(all, now)
	switch {
	case p.width > 0 && (changed || now.Sub(p.last) >= redraw):
		p.draw(now)
	case p.width == 0 && (l.shown != s.stage || now.Sub(l.printed) >= plainPause):
		l.printed, l.shown = now, s.stage
		_, _ = fmt.Fprintln(p.w, l.plain())
		if p.expected > 1 && (now.Sub(p.all.printed) >= plainPause || p.ended == p.expected) {
			p.all.printed = now
			_, _ = fmt.Fprintln(p.w, p.all.plain())
		}
	}
}

// take notes how it stands now.
func (l *line) take(s status, now time.Time) {
	l.status = s
	if l.begun.IsZero() {
		l.begun = now
	}
	n := len(l.samples)
	if n > 0 && now.Sub(l.samples[n-1].at) < redraw {
		return
	}
	l.samples = append(l.samples, sample{now, s.done - s.found})
	for len(l.samples) > 2 && now.Sub(l.samples[1].at) >= rateSpan {
		l.samples = slices.Delete(l.samples, 0, 1)
	}
	switch rate := l.rate(); {
	case now.Sub(l.begun) < leftBasis:
	case l.level == 0:
		l.level = rate
	default:
		l.level += (rate - l.level) * (1 - math.Exp(-now.Sub(l.samples[len(l.samples)-2].at).Seconds()/leftSmooth.Seconds()))
	}
}

// close leaves the last state on the screen; what is set after it is ignored.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width > 0 && p.drawn > 0 && !p.done {
		p.draw(p.now())
	}
	p.done = true
}

// note writes a line above all others.
func (p *progress) note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn == 0 || p.done {
		_, _ = fmt.Fprintln(p.w, text)
		return
	}
	_, _ = fmt.Fprintf(p.w, "\x1b[%dA\r\x1b[J%s\n", p.drawn, text)
	p.drawn = 0
	p.draw(p.now())
}

// draw writes all lines over those that were drawn before.
func (p *progress) draw(now time.Time) {
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn)
	}
	texts := p.texts()
	for _, text := range texts {
		b.WriteString("\r\x1b[2K" + text + "\n")
	}
	if len(texts) < p.drawn {
		b.WriteString("\x1b[J") // what is left of the lines before
	}
	p.drawn, p.last = len(texts), now
	_, _ = io.WriteString(p.w, b.String())
}

// texts are the lines that fit the terminal: where not all do, those of uploads
// that have not ended, as far as there is room. What scrolls away cannot be redrawn.
func (p *progress) texts() []string {
	room := len(p.keys)
	if p.rows > 0 && room > p.rows-2 {
		room = max(p.rows-3, 1)
	}
	var texts []string
	hidden := 0
	for _, key := range p.keys {
		l := p.lines[key]
		switch {
		case room < len(p.keys) && l.ended:
		case len(texts) == room:
			hidden++
		default:
			texts = append(texts, l.drawn(p.width))
		}
	}
	if hidden > 0 {
		texts = append(texts, clip(fmt.Sprintf("… and %d more", hidden), p.width))
	}
	if p.expected > 1 {
		texts = append(texts, p.all.drawn(p.width))
	}
	return texts
}

// rate is bytes per second over the last samples, 0 if not known.
func (l *line) rate() float64 {
	first, last := l.samples[0], l.samples[len(l.samples)-1]
	if seconds := last.at.Sub(first.at).Seconds(); seconds > 0 {
		return float64(last.done-first.done) / seconds
	}
	return 0
}

// moving says rate and time left, in words, as far as they are known.
func (l *line) moving() string {
	rate := l.rate()
	if rate <= 0 || l.done >= l.total {
		return ""
	}
	text := bytesText(int64(rate)) + "/s"
	if l.level > 0 {
		text += "  " + leftText(float64(l.total-l.done)/l.level) + " left"
	}
	return text
}

// leftText is a time to come, no more exactly than it can be known.
func leftText(seconds float64) string {
	const most = 100 * 24 * time.Hour
	left := most
	if seconds < most.Seconds() {
		left = time.Duration(seconds * float64(time.Second))
	}
	switch {
	case left >= most:
		return "very long"
	case left >= time.Hour:
		return strings.TrimSuffix(left.Round(time.Minute).String(), "0s")
	case left >= time.Minute:
		return left.Round(5 * time.Second).String()
	default:
		return max(left.Round(time.Second), time.Second).String()
	}
}

// title is the name, as given, and where it goes.
func (l *line) title(name string) string {
	if l.to == "" {
		return name
	}
	return name + " → " + l.to
}

func (l *line) percent() int { return int(float64(l.done) / float64(l.total) * 100) }

func (l *line) plain() string {
	text := l.title(l.name) + ": " + l.stage
	if l.total > 0 {
		text += fmt.Sprintf(" %d%%  %s of %s", l.percent(), bytesText(l.done), bytesText(l.total))
	}
	if m := l.moving(); m != "" {
		text += "  " + m
	}
	return text
}

// drawn is the line within width characters; the bar takes what the words leave.
func (l *line) drawn(width int) string {
	name := []rune(l.name)
	if len(name) > maxName {
		name = append(name[:maxName-1], '…')
	}
	text := fmt.Sprintf("%s  %-9s", l.title(string(name)), l.stage)
	if l.total > 0 {
		tail := fmt.Sprintf("  %3d%%  %s of %s  %-*s",
			l.percent(), bytesText(l.done), bytesText(l.total), movingText, l.moving())
		if room := width - len([]rune(text)) - len(tail) - 5; room >= minBar {
			full := int(float64(room) * float64(l.done) / float64(l.total))
			text += "  [" + strings.Repeat("=", full) + strings.Repeat(" ", room-full) + "]"
		}
		text += tail
	}
	return strings.TrimRight(clip(text, width), " ")
}

// clip cuts a text below the width: a line that wraps cannot be redrawn.
func clip(text string, width int) string {
	if runes := []rune(text); len(runes) >= width {
		return string(runes[:width-1])
	}
	return text
}

// bytesText is a number of bytes for a person.
func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// uploadStatus is what is shown of an upload.
func uploadStatus(u client.Upload) status {
	s := status{name: printable(u.Name), to: u.Account, stage: u.State, moved: u.AckedBytes, ended: u.Final()}
	switch u.State {
	case "digesting":
		s.done, s.total = u.DigestedBytes, u.Source.Size
	case "uploading", "finishing", "completed":
		s.done, s.total, s.found = u.AckedBytes, u.Source.Size, u.FoundBytes
	}
	if u.Instant {
		s.done = s.total
	}
	if s.ended {
		s.moved = u.Source.Size
	}
	return s
}

// result is the last line about an upload.
func result(u client.Upload) string {
	text := fmt.Sprintf("%s  %s → %s", stateText(u), u.Name, u.Account)
	switch {
	case u.Asset != nil:
		text += "  asset " + u.Asset.ID
		if u.Asset.URL != "" {
			text += "  " + u.Asset.URL
		}
		took := u.FinishedAt.Sub(u.SubmittedAt)
		if u.Instant {
			text += "  (it was there already)"
		} else if took > 0 {
			text += fmt.Sprintf("  (%s in %s)", bytesText(u.Source.Size), took.Round(100*time.Millisecond))
		}
	case u.Failure != nil:
		text += "  " + u.Failure.Cause + ": " + u.Failure.Message
	}
	return text
}
