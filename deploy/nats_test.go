package deploy_test

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// The server takes the file, with passwords from the environment.
func TestNATSPermissionsAreTaken(t *testing.T) {
	want := map[string]string{"dispatcher": "trial-only", "worker": "p@ss/word+1=", "submitter": "12345678", "notifier": "n0t"}
	t.Setenv("NATS_DISPATCHER_PASSWORD", want["dispatcher"])
	t.Setenv("NATS_WORKER_PASSWORD", want["worker"])
	t.Setenv("NATS_SUBMITTER_PASSWORD", `"`+want["submitter"]+`"`) // a number is to be quoted
	t.Setenv("NATS_NOTIFIER_PASSWORD", want["notifier"])
	opts, err := server.ProcessConfigFile("nats/permissions.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range opts.Users {
		if user.Password != want[user.Username] || user.Permissions == nil || user.Permissions.Publish == nil || user.Permissions.Subscribe == nil {
			t.Errorf("user %s with %q and %+v", user.Username, user.Password, user.Permissions)
		}
		delete(want, user.Username)
	}
	if len(want) > 0 {
		t.Errorf("no users for %v", want)
	}
}
