package upstreams

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Fault is one way to misbehave: which calls it is for, and what happens to
// them. A zero field changes nothing.
type Fault struct {
	Action  string `json:"action,omitempty"`  // the platform's name of the call; "" for any
	Account string `json:"account,omitempty"` // access key of the account; "" for any
	File    string `json:"file,omitempty"`    // SHA-1 of the file; "" for any
	From    int    `json:"from,omitempty"`    // first matching call that is hit, from 1; 0 means 1
	Times   int    `json:"times,omitempty"`   // how many are hit; 0 for all further ones

	// Chance hits each of the calls above with this probability only, 0 to 1; 0
	// hits all of them. Seed makes the draws: the nth call fares alike each time.
	Chance float64 `json:"chance,omitempty"`
	Seed   uint64  `json:"seed,omitempty"`

	DelayMS        int64 `json:"delay_ms,omitempty"`         // wait before anything else, milliseconds
	BytesPerSecond int   `json:"bytes_per_second,omitempty"` // bound on the body of each such call
	Apply          bool  `json:"apply,omitempty"`            // carry the call out, then fail it as below

	Status     int    `json:"status,omitempty"`      // answer this HTTP status
	RetryAfter int    `json:"retry_after,omitempty"` // with Status, seconds
	Code       int    `json:"code,omitempty"`        // answer this code of the platform
	CanRetry   int    `json:"can_retry,omitempty"`   // with Code
	ErrorCode  string `json:"error_code,omitempty"`  // answer this error of the platform, where its codes are words
	Text       string `json:"text,omitempty"`        // answer 200 with this body
	Reset      bool   `json:"reset,omitempty"`       // reset the connection
	AfterBytes int64  `json:"after_bytes,omitempty"` // with Reset: bytes of body read before

	// FlipBit damages the bytes of a part on their way here. In a call that
	// finishes the upload it damages stored bytes, before they are looked at.
	FlipBit  bool  `json:"flip_bit,omitempty"`
	FlipAt   int64 `json:"flip_at,omitempty"`   // which bit of the body, or of the first part; 0 is the first
	HidePart int   `json:"hide_part,omitempty"` // leave the part of this number out of a list
	ListAll  bool  `json:"list_all,omitempty"`  // list every part as stored, whether it is or not
	Forget   bool  `json:"forget,omitempty"`    // forget the unfinished upload before the call
}

// fails reports whether the fault replaces the call's answer.
func (f Fault) fails() bool {
	return f.Status != 0 || f.Code != 0 || f.ErrorCode != "" || f.Text != "" || f.Reset
}

// faultList is the faults in force, with how many calls each has matched.
type faultList struct {
	mu     sync.Mutex
	faults []*armed
}

type armed struct {
	Fault
	matched int
	draws   *rand.Rand // nil without Chance
}

func (l *faultList) add(faults ...Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range faults {
		a := &armed{Fault: f}
		if f.Chance > 0 {
			a.draws = rand.New(rand.NewPCG(f.Seed, 0)) //nolint:gosec // to be repeatable is the point
		}
		l.faults = append(l.faults, a)
	}
}

func (l *faultList) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = nil
}

// hit counts the call against every fault that is for it and returns the first
// one that hits it, or the zero Fault.
func (l *faultList) hit(action, account, file string) Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found Fault
	var ok bool
	for _, f := range l.faults {
		if (f.Action != "" && f.Action != action) || (f.Account != "" && f.Account != account) || (f.File != "" && f.File != file) {
			continue
		}
		f.matched++
		from := max(f.From, 1)
		if f.draws != nil && f.draws.Float64() >= f.Chance {
			continue
		}
		if !ok && f.matched >= from && (f.Times == 0 || f.matched < from+f.Times) {
			found, ok = f.Fault, true
		}
	}
	return found
}

// serve answers /_local/faults.
func (l *faultList) serve(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodDelete:
		l.clear()
	case http.MethodPost:
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		faults, err := parseFaults(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		l.add(faults...)
	default:
		http.Error(w, "POST a fault or DELETE all", http.StatusMethodNotAllowed)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// parseFaults reads one fault or a list of them.
func parseFaults(body []byte) ([]Fault, error) {
	decode := func(into any) error {
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		return d.Decode(into)
	}
	var list []Fault
	if err := decode(&list); err == nil {
		return list, nil
	}
	var one Fault
	if err := decode(&one); err != nil {
		return nil, fmt.Errorf("neither a fault nor a list of faults: %w", err)
	}
	return []Fault{one}, nil
}

// wait sleeps for d unless the caller goes away first.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("delay: %w", context.Cause(ctx))
	}
}

// slow bounds a reader to bytesPerSecond.
type slow struct {
	ctx     context.Context // the reader lives as long as the request it is of
	r       io.Reader
	limiter *rate.Limiter
}

// slowed returns r, bounded where bytesPerSecond is positive.
func slowed(ctx context.Context, r io.Reader, bytesPerSecond int) io.Reader {
	if bytesPerSecond <= 0 {
		return r
	}
	burst := min(max(bytesPerSecond/20, 1), 64<<10)
	return &slow{ctx: ctx, r: r, limiter: rate.NewLimiter(rate.Limit(bytesPerSecond), burst)}
}

func (s *slow) Read(p []byte) (int, error) {
	n, err := s.r.Read(p[:min(len(p), s.limiter.Burst())])
	if werr := s.limiter.WaitN(s.ctx, n); werr != nil {
		return n, fmt.Errorf("slowed read: %w", werr)
	}
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

// flipped returns r, with one bit inverted if the fault asks for it.
func flipped(r io.Reader, f Fault) io.Reader {
	if !f.FlipBit {
		return r
	}
	return &flip{r: r, left: f.FlipAt / 8, mask: 0x80 >> (f.FlipAt % 8)}
}

type flip struct {
	r    io.Reader
	left int64 // bytes before the one that is damaged; negative once it was
	mask byte
}

func (f *flip) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if f.left >= 0 && f.left < int64(n) {
		p[f.left] ^= f.mask
	}
	f.left -= int64(n)
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

// flipStored inverts a bit of a kept file, as a disk might.
func flipStored(path string, bit int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // the name is ours
	if err != nil {
		return fmt.Errorf("flip bit: %w", err)
	}
	one := make([]byte, 1)
	_, err = f.ReadAt(one, bit/8)
	if err == nil {
		one[0] ^= 0x80 >> (bit % 8)
		_, err = f.WriteAt(one, bit/8)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("flip bit %d: %w", bit, err)
	}
	return nil
}

// reset breaks the connection off so that the caller sees a reset, not an end.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // the connection is gone already
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // else the close is orderly; nothing more can be done
	}
	_ = conn.Close()
}

// statusAnswer writes the HTTP error that the fault asks for.
func (f Fault) statusAnswer(w http.ResponseWriter) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	http.Error(w, "asked to fail", f.Status)
}

// asked is the platform's message for a call that a fault refuses. Like a server
// that says too much, it quotes what authorised the call, between << and >>:
// whoever passes the message on must strike that out.
func asked(r *http.Request) string {
	var words strings.Builder
	words.WriteString("asked to fail")
	for _, name := range []string{"Authorization", "X-Cos-Security-Token"} {
		if value := r.Header.Get(name); value != "" {
			words.WriteString(" <<" + value + ">>")
		}
	}
	params := r.URL.Query()
	maps.Copy(params, r.PostForm) // of calls that have read their form
	for _, name := range []string{"signature", "Signature", "SecretId", "vodSessionKey", "library_secret", "access_token"} {
		if value := params.Get(name); value != "" {
			words.WriteString(" <<" + value + ">>")
		}
	}
	return words.String()
}
