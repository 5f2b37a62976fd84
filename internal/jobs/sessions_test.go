package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

func serve(tb testing.TB, c *Conn, answer func(context.Context, AssignmentRequest) (parts.Assignment, error)) (stop func()) {
	tb.Helper()
	return serveAll(tb, c, func(ctx context.Context, asks []AssignmentRequest) []Answer {
		answers := make([]Answer, len(asks))
		for i, a := range asks {
			answers[i].Assignment, answers[i].Err = answer(ctx, a)
		}
		return answers
	})
}

func serveAll(tb testing.TB, c *Conn, answer func(context.Context, []AssignmentRequest) []Answer) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.ServeAssignments(ctx, answer); err != nil {
			tb.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	tb.Cleanup(stop)
	eventually(tb, "the dispatcher listens", func() bool { return c.nc.NumSubscriptions() > 0 })
	if err := c.nc.Flush(); err != nil {
		tb.Fatal(err)
	}
	return stop
}

// Invariant 11: the session is nowhere in clear on its way.
func TestAssignmentIsSealed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	worker, dispatcher := s.connect(Config{}), s.connect(Config{})
	const secret = "the-upstream-session-token"
	want := parts.Assignment{
		Provider: "s3", Source: uploads.Object{Bucket: "staging", Key: "a.mp4", ETag: "e", Size: 10},
		Plan: parts.Plan{Size: 10, PartSize: 5}, Session: []byte(secret), Acked: []int{1},
	}
	req := AssignmentRequest{
		Upload: newID(t), Account: "acme", Epoch: 3, Run: parts.Run{First: 1, Count: 2}, Redelivered: true, Worker: "w1",
	}
	asked := make(chan AssignmentRequest, 2)
	serve(t, dispatcher, func(_ context.Context, r AssignmentRequest) (parts.Assignment, error) {
		asked <- r
		return want, nil
	})
	var mu sync.Mutex
	var sniffed []byte
	replies := 0
	sniffer := s.connect(Config{})
	if _, err := sniffer.nc.Subscribe(">", func(msg *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		sniffed = append(sniffed, msg.Data...)
		if msg.Header.Get(headerKey) != "" {
			replies++
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := sniffer.nc.Flush(); err != nil {
		t.Fatal(err)
	}

	for range 2 {
		got, err := worker.AskAssignment(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("assignment (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(req, receive(t, asked, "the request")); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
	}
	eventually(t, "both replies were overheard", func() bool { mu.Lock(); defer mu.Unlock(); return replies == 2 })
	mu.Lock()
	defer mu.Unlock()
	// In JSON a session is base64; neither that nor anything beside it is to be seen.
	for _, plain := range []string{secret, "dGhlLXVwc3RyZWFt", "staging"} {
		if bytes.Contains(sniffed, []byte(plain)) {
			t.Errorf("%q was overheard", plain)
		}
	}
}

func TestAskAssignmentErrors(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	worker, dispatcher := s.connect(Config{RequestTimeout: patience}), s.connect(Config{})
	impatient := s.connect(Config{RequestTimeout: 500 * time.Millisecond})
	req := AssignmentRequest{Upload: newID(t), Account: "acme", Worker: "w1"}

	unavailable := &uploads.UnavailableError{}
	if _, err := worker.AskAssignment(t.Context(), req); !errors.As(err, &unavailable) || unavailable.What != "dispatcher" {
		t.Errorf("without a dispatcher: %v", err)
	}
	answers := make(chan error, 1)
	stop := serve(t, dispatcher, func(ctx context.Context, _ AssignmentRequest) (parts.Assignment, error) {
		err := <-answers
		if err == nil {
			<-ctx.Done() // says nothing
		}
		return parts.Assignment{}, err
	})
	answers <- errors.Join(errors.New("cancelled"), ErrStale)
	if _, err := worker.AskAssignment(t.Context(), req); !errors.Is(err, ErrStale) {
		t.Errorf("got %v, want ErrStale", err)
	}
	answers <- errors.New("postgres is away")
	if _, err := worker.AskAssignment(t.Context(), req); err == nil || errors.Is(err, ErrStale) || !strings.Contains(err.Error(), "postgres is away") {
		t.Errorf("got %v, want what the dispatcher said", err)
	}
	answers <- nil
	if _, err := impatient.AskAssignment(t.Context(), req); !errors.As(err, &unavailable) {
		t.Errorf("without an answer: %v", err)
	}
	// Nonsense is answered, not left to time out.
	reply, err := worker.nc.Request(sessionSubject, []byte("{"), patience)
	if err != nil || reply.Header.Get(headerKey) != "" || !strings.Contains(string(reply.Data), "cannot be read") {
		t.Errorf("a request that cannot be read: %v, %v", reply, err)
	}
	stop()
}

// What slots ask while a request is under way shares the next one, and each
// gets the answer to its own question.
func TestAsksShareRequests(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	worker, dispatcher := s.connect(Config{RequestTimeout: patience}), s.connect(Config{RequestTimeout: patience})
	const slots = 40
	var taken, requests atomic.Int32
	proceed := make(chan struct{})
	serveAll(t, dispatcher, func(_ context.Context, asks []AssignmentRequest) []Answer {
		requests.Add(1)
		taken.Add(int32(len(asks)))
		<-proceed
		answers := make([]Answer, len(asks))
		for i, r := range asks {
			answers[i].Assignment.Provider = r.Account
			if r.Epoch%7 == 0 {
				answers[i] = Answer{Err: ErrStale}
			}
		}
		return answers
	})
	var asking sync.WaitGroup
	for i := range slots {
		asking.Go(func() {
			account := fmt.Sprintf("account-%d", i)
			got, err := worker.AskAssignment(t.Context(), AssignmentRequest{Upload: newID(t), Account: account, Epoch: i})
			if i%7 == 0 {
				if !errors.Is(err, ErrStale) {
					t.Errorf("ask %d: %v, want ErrStale", i, err)
				}
			} else if err != nil || got.Provider != account {
				t.Errorf("ask %d: %+v, %v; want that of %s", i, got, err, account)
			}
		})
	}
	// Nothing is answered yet, so all that is not taken waits to share.
	asked := func() bool {
		worker.asks.mu.Lock()
		defer worker.asks.mu.Unlock()
		return int(taken.Load())+len(worker.asks.waiting) == slots
	}
	for deadline := time.Now().Add(patience); !asked() && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	close(proceed)
	asking.Wait()
	if n := requests.Load(); n > 2*maxAsking {
		t.Errorf("%d requests for %d asks, want at most %d: those under way and one more of each", n, slots, 2*maxAsking)
	}
}

// A dispatcher that stands still holds up those that asked it, not who asks
// meanwhile, nor who asks later.
func TestASlowRequestHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	worker, dispatcher := s.connect(Config{RequestTimeout: patience}), s.connect(Config{RequestTimeout: patience})
	asked, proceed := make(chan struct{}), make(chan struct{})
	serveAll(t, dispatcher, func(_ context.Context, asks []AssignmentRequest) []Answer {
		if asks[0].Account == "slow" {
			close(asked)
			<-proceed
		}
		return make([]Answer, len(asks))
	})
	ask := func(account string) error {
		_, err := worker.AskAssignment(t.Context(), AssignmentRequest{Upload: newID(t), Account: account})
		return err
	}
	slow := make(chan error, 1)
	go func() { slow <- ask("slow") }()
	receive(t, asked, "the slow request")
	for range 2 {
		if err := ask("quick"); err != nil {
			t.Error(err)
		}
	}
	close(proceed)
	if err := receive(t, slow, "its answer"); err != nil {
		t.Error(err)
	}
}

func TestOneDispatcherAnswersAndAnotherTakesOver(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	worker := s.connect(Config{RequestTimeout: patience})
	var mu sync.Mutex
	answered := map[string]int{}
	answer := func(name string) func(context.Context, AssignmentRequest) (parts.Assignment, error) {
		return func(context.Context, AssignmentRequest) (parts.Assignment, error) {
			mu.Lock()
			defer mu.Unlock()
			answered[name]++
			return parts.Assignment{Provider: name}, nil
		}
	}
	stopA := serve(t, s.connect(Config{}), answer("a"))
	serve(t, s.connect(Config{}), answer("b"))
	var asking sync.WaitGroup
	for i := range 200 {
		asking.Go(func() {
			if i == 50 {
				stopA() // in the middle, without a lost request
			}
			if _, err := worker.AskAssignment(t.Context(), AssignmentRequest{Upload: newID(t)}); err != nil &&
				!strings.Contains(err.Error(), "stopping") {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	mu.Lock()
	defer mu.Unlock()
	if total := answered["a"] + answered["b"]; total > 200 || answered["b"] == 0 {
		t.Errorf("answered: %v", answered)
	}
}

func BenchmarkAskAssignment(b *testing.B) {
	s := newServer(b)
	worker, dispatcher := s.connect(Config{}), s.connect(Config{})
	serve(b, dispatcher, func(context.Context, AssignmentRequest) (parts.Assignment, error) {
		return parts.Assignment{Provider: "s3", Session: make([]byte, 1024)}, nil
	})
	req := AssignmentRequest{Upload: newID(b), Account: "acme", Worker: "w1"}
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := worker.AskAssignment(b.Context(), req); err != nil {
				b.Error(err)
			}
		}
	})
}
