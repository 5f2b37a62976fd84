package dispatch

import (
	"strings"
	"testing"
)

// What a platform answered is said once, whether or not its error names kind and code.
func TestWhyAWindowWasCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, code, message, want string }{
		{"throttled", "503", "UploadPart: throttled (503): slow down", "throttled (503): UploadPart: slow down"},
		{"transient", "stalled", "no byte moved for 30s", "transient (stalled): no byte moved for 30s"},
		{"transient", "", "connection reset", "transient: connection reset"},
	} {
		if got := why(c.kind, c.code, c.message); got != c.want {
			t.Errorf("why(%q, %q, %q) = %q, want %q", c.kind, c.code, c.message, got, c.want)
		}
	}
	if got := why("transient", "", strings.Repeat("é", 300)); len(got) > 200+len("…") {
		t.Errorf("%d bytes are kept", len(got))
	}
}
