package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"mediaferry/bench/figures"
	"mediaferry/bench/movers"
)

// ours is the name under which mediaferry takes part.
const ours = "ours"

// wanted are the figures that are not ratios of two movers. They come from our
// own mover (movers.Reporter, or the peaks of its roles).
func wanted() []string {
	return []string{
		"acks_per_second", "worker_rss_mb", "dispatcher_rss_mb",
		"submit_to_first_byte_p99_ms", "last_ack_to_finish_p99_ms",
	}
}

// compare fills the sheet with what the medians say about ours against the
// others. Every ratio compares runs of the same benchmark.
func compare(sheet *figures.Sheet, all []summary) {
	byName := map[string]summary{}
	for _, s := range all {
		byName[s.Set+" "+s.Mover] = s
	}
	ratio := func(name, set, other string, of func(us, them summary) float64) {
		us, them := byName[set+" "+ours], byName[set+" "+other]
		for _, s := range []struct {
			summary
			mover string
		}{{us, ours}, {them, other}} {
			if s.Rounds == 0 {
				why := s.Why
				if why == "" {
					why = "not run"
				}
				sheet.Miss(name, fmt.Sprintf("%s over the %s objects: %s", s.mover, set, firstLine(why)))
				return
			}
		}
		sheet.Set(name, of(us, them), "x")
	}
	// The bytes are the same, so megabytes per CPU-second compare as the inverse of CPU-seconds.
	perCPU := func(us, them summary) float64 { return them.CPU / us.CPU }
	ratio("large_vs_rclone_cpu", "large", "rclone", perCPU)
	ratio("small_vs_rclone_cpu", "small", "rclone", perCPU)
	ratio("large_vs_rclone_tuned_cpu", "large", "rclone-tuned", perCPU)
	ratio("small_vs_rclone_tuned_cpu", "small", "rclone-tuned", perCPU)
	ratio("large_vs_rclone_single_cpu", "large", "rclone-single", perCPU)
	ratio("large_vs_mc_cpu", "large", "mc", perCPU)
	ratio("small_vs_mc_cpu", "small", "mc", perCPU)
	// Against the floor the other way about: how many times the least possible we spend.
	ratio("large_vs_floor_cpu", "large", "floor", func(us, them summary) float64 { return us.CPU / them.CPU })
	ratio("large_worker_vs_floor_cpu", "large", "floor", func(us, them summary) float64 { return us.ByRole[movers.RoleWorker] / them.CPU })
	ratio("large_vs_rclone_wall", "large", "rclone", func(us, them summary) float64 { return them.Wall / us.Wall })
}

// peaks sets the memory figures: the highest of all our runs, large and small.
func peaks(sheet *figures.Sheet, runs []result) {
	for figure, role := range map[string]string{"worker_rss_mb": movers.RoleWorker, "dispatcher_rss_mb": movers.RoleDispatcher} {
		highest := 0.0
		for _, r := range runs {
			if r.Mover == ours {
				highest = max(highest, r.PeakRSS[role])
			}
		}
		if highest > 0 {
			sheet.Set(figure, highest, "MB")
		}
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// table shows one line for each dataset and mover.
func table(sets []*dataset, all []summary) string {
	var out strings.Builder
	for _, set := range sets {
		var rows strings.Builder
		rows.WriteString("mover\tMB/s\tCPU-s\tMB per CPU-s\tpeak RSS MB\trounds\t  CPU-s by role\n")
		mb := megabytes(set.bytes())
		for _, s := range all {
			switch {
			case s.Set != set.name:
			case s.Rounds == 0:
				fmt.Fprintf(&rows, "%s\t-\t-\t-\t-\t-\t  no result: %s\n", s.Mover, firstLine(s.Why))
			default:
				fmt.Fprintf(&rows, "%s\t%.0f\t%.2f\t%.0f\t%.0f\t%d\t  %s\n",
					s.Mover, mb/s.Wall, s.CPU, mb/s.CPU, s.PeakRSS, s.Rounds, roles(s.ByRole))
			}
		}
		fmt.Fprintf(&out, "\n%s: %d × %s\n", set.name, set.count, humanSize(set.size))
		columns := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
		_, _ = columns.Write([]byte(rows.String())) // into memory: neither this nor Flush can fail
		_ = columns.Flush()
	}
	return out.String()
}

func roles(byRole map[string]float64) string {
	var parts []string
	for _, role := range slices.Sorted(maps.Keys(byRole)) {
		parts = append(parts, fmt.Sprintf("%s %.2f", role, byRole[role]))
	}
	return strings.Join(parts, ", ")
}

func humanSize(size int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if size%unit.bytes == 0 {
			return fmt.Sprintf("%d %s", size/unit.bytes, unit.name)
		}
	}
	return fmt.Sprintf("%d B", size)
}
