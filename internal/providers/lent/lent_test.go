package lent_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"mediaferry/internal/providers/lent"
)

// gate is a reader that says when it is read and blocks until it is opened.
type gate struct{ reading, open chan struct{} }

func (g gate) Read([]byte) (int, error) {
	close(g.reading)
	<-g.open
	return 0, io.EOF
}

func TestReturnWaitsForTheReadInHand(t *testing.T) {
	t.Parallel()
	var loan lent.Loan
	g := gate{reading: make(chan struct{}), open: make(chan struct{})}
	r := loan.Reader(g)
	go func() { _, _ = r.Read(nil) }()
	<-g.reading
	returned := make(chan struct{})
	go func() {
		loan.Return()
		close(returned)
	}()
	select {
	case <-returned:
		t.Error("Return did not wait for the read in hand")
	case <-time.After(10 * time.Millisecond): // a missing wait shows at once
	}
	close(g.open)
	<-returned
}

func TestNothingIsReadAfterReturn(t *testing.T) {
	t.Parallel()
	var loan lent.Loan
	under := strings.NewReader("abc")
	r := loan.Reader(under)
	loan.Return()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, lent.ErrReturned) {
		t.Errorf("read returned %v, want ErrReturned", err)
	}
	if under.Len() != 3 {
		t.Errorf("%d bytes are left of 3", under.Len())
	}
}

// TestWholeReadsToTheEnd has a transport that asks for no more than it needs.
func TestWholeReadsToTheEnd(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{"to its end": "", "and a byte more": "d"} {
		r := strings.NewReader("abc" + more)
		got := make([]byte, 3)
		if _, err := io.ReadFull(lent.Whole(r, 3), got); err != nil || string(got) != "abc" || r.Len() != 0 {
			t.Errorf("%s: %q, %v, %d bytes were left", name, got, err, r.Len())
		}
	}
}
