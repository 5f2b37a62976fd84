package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ByteSize is a number of bytes that reads and prints as "64MiB".
type ByteSize int64

// unit is a suffix and what it stands for.
type unit struct {
	suffix string
	bytes  int64
}

// units lists the binary ones from large to small, then the decimal ones.
func units() []unit {
	return []unit{
		{"TiB", 1 << 40},
		{"GiB", 1 << 30},
		{"MiB", 1 << 20},
		{"KiB", 1 << 10},
		{"TB", 1e12},
		{"GB", 1e9},
		{"MB", 1e6},
		{"KB", 1e3},
		{"B", 1},
		{"", 1},
	}
}

// UnmarshalText reads a whole number with a unit: B, KB, MB, GB, TB are powers
// of 1000, KiB, MiB, GiB, TiB of 1024, none is bytes. Case does not matter.
func (b *ByteSize) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	suffix := strings.TrimSpace(s[end:])
	for _, u := range units() {
		if !strings.EqualFold(suffix, u.suffix) {
			continue
		}
		n, err := strconv.ParseInt(s[:end], 10, 64)
		if err != nil || n > math.MaxInt64/u.bytes {
			break
		}
		*b = ByteSize(n * u.bytes)
		return nil
	}
	return fmt.Errorf("%.40q is not a size; give a whole number and a unit, such as 64MiB", s)
}

// String prints the size with the largest binary unit that divides it.
func (b ByteSize) String() string {
	for _, u := range units()[:4] {
		if b != 0 && int64(b)%u.bytes == 0 {
			return strconv.FormatInt(int64(b)/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// MarshalText writes what String returns.
func (b ByteSize) MarshalText() ([]byte, error) { return []byte(b.String()), nil }
