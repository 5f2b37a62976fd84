// Package platforms_test runs the real dispatcher and workers against the local
// servers of the platforms and asks those servers what came of it, instead of
// our own record.
package platforms_test

import (
	"flag"
	"runtime"
	"strconv"
	"testing"

	"mediaferry/internal/devstack/devtest"
)

// The flags have values for a quick run of all tests; the Makefile has those of
// the figures.
const (
	flagUploads = "uploads"
	flagSize    = "size"
	flagFlips   = "flips"
)

func TestMain(m *testing.M) {
	flag.Int(flagUploads, 100, "uploads with unknown outcomes, over all platforms")
	flag.Int(flagSize, 16, "MiB of the upload that is resumed")
	flag.Int(flagFlips, 60, "bits that are turned over, one in each upload")
	// These tests wait, for pauses before further tries above all, more than they
	// compute. The command line may still say otherwise.
	testing.Init()
	if err := flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	flag.Parse()
	devtest.Main(m)
}

func intFlag(t *testing.T, name string) int {
	t.Helper()
	n, ok := flag.Lookup(name).Value.(flag.Getter).Get().(int)
	if !ok || n <= 0 {
		t.Fatalf("flag %s is %v, want a number above 0", name, flag.Lookup(name).Value)
	}
	return n
}
