package devstack_test

import (
	"os"
	"testing"

	"github.com/nats-io/nats.go"

	"mediaferry/internal/devstack"
)

// A server that is not ours goes and comes like one that is.
func TestS3ByCommand(t *testing.T) {
	t.Parallel()
	server, err := devstack.StartS3(t.Context(), t.TempDir(), devstack.S3Options{Buckets: []string{bucket}, Command: []string{self(t)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	for range 2 {
		server.Stop()
		if listening(t.Context(), hostOf(server.Endpoint())) {
			t.Error("still listens after Stop")
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNATSByCommand(t *testing.T) {
	t.Parallel()
	server, err := devstack.StartNATSCommand(t.TempDir(), []string{self(t), natsArg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	stream := func() *nats.StreamInfo {
		conn, err := nats.Connect(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		js, err := conn.JetStream()
		if err != nil {
			t.Fatal(err)
		}
		info, err := js.AddStream(&nats.StreamConfig{Name: "S", Subjects: []string{"s"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish("s", nil); err != nil {
			t.Fatal(err)
		}
		return info
	}
	stream()
	for _, wipe := range []bool{false, true} {
		if err := server.Wipe(); err == nil {
			t.Error("a running server was wiped")
		}
		server.Stop()
		if listening(t.Context(), hostOf(server.URL())) {
			t.Error("still listens after Stop")
		}
		if wipe {
			if err := server.Wipe(); err != nil {
				t.Fatal(err)
			}
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		if kept := stream().State.Msgs > 0; kept == wipe {
			t.Errorf("wiped: %v, kept: %v", wipe, kept)
		}
	}
}

// self is the test binary, which is whatever server TestMain finds that it is to be.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
