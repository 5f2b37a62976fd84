package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"mediaferry/client"
	"mediaferry/internal/devstack"
)

// The demo ends with what it saw, and fails if a platform holds other bytes
// than the source, be it after one push of several.
func TestConclude(t *testing.T) {
	t.Parallel()
	row := func(account string, instant, verified bool) demoRow {
		u := client.Upload{Account: account, Instant: instant, PartCount: 2, Asset: &client.Asset{ID: "id"}}
		u.Source.Size = 100
		return demoRow{upload: u, took: time.Second, verified: verified}
	}
	first := row("a", false, true)
	first.twice = 5
	for name, tt := range map[string]struct {
		rows []demoRow
		want []string
		fail bool
	}{
		"all verified": {
			rows: []demoRow{first, row("b", false, true), row("a", true, true)},
			want: []string{
				"figure demo_uploads_verified 3 count", "figure platforms_verified 2 count",
				"figure demo_bytes_sent_twice_pct 2.50 %", "demo: 3 of 3 uploads completed, every byte verified",
			},
		},
		"other bytes at the end": {
			rows: []demoRow{first, row("b", false, true), row("a", true, false)},
			want: []string{"figure demo_uploads_verified 2 count", "figure platforms_verified 1 count"},
			fail: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			d := &demo{app: &app{stdout: &out}, stack: &stack{processes: devstack.NewProcesses(io.Discard)}, rows: tt.rows}
			if err := d.conclude(); (err != nil) != tt.fail {
				t.Errorf("error %v, want one: %t", err, tt.fail)
			}
			for _, line := range tt.want {
				if !strings.Contains(out.String(), line+"\n") {
					t.Errorf("%q is not in:\n%s", line, &out)
				}
			}
			if tt.fail && strings.Contains(out.String(), "every byte verified") {
				t.Errorf("it claims success:\n%s", &out)
			}
		})
	}
}
