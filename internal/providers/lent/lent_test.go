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
