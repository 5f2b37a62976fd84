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

// Three servers take the file of the cluster, each with variables of its own, and
// the permissions with it.
func TestNATSClusterIsTaken(t *testing.T) {
	t.Setenv("NATS_NAME", "nats-1")
	for name, value := range map[string]string{
		"NATS_STORE": "/data", "NATS_ROUTE_PASSWORD": "p@ss", "NATS_DISPATCHER_PASSWORD": "d", "NATS_WORKER_PASSWORD": "w",
		"NATS_SUBMITTER_PASSWORD": "s", "NATS_NOTIFIER_PASSWORD": "n", "NATS_ROUTE_0": "nats://routes:x@nats-0:6222", "NATS_ROUTE_1": "nats://routes:x@nats-1:6222",
		"NATS_ROUTE_2": "nats://routes:x@nats-2:6222",
	} {
		t.Setenv(name, value)
	}
	opts, err := server.ProcessConfigFile("nats/cluster.conf")
	if err != nil {
		t.Fatal(err)
	}
	if opts.ServerName != "nats-1" || !opts.JetStream || opts.StoreDir != "/data" || opts.Cluster.Password != "p@ss" || len(opts.Routes) != 3 || len(opts.Users) != 4 {
		t.Errorf("%s with JetStream %v in %s, routes %v, %d users", opts.ServerName, opts.JetStream, opts.StoreDir, opts.Routes, len(opts.Users))
	}
}
