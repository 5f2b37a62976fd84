package service

import "testing"

func TestSlotsWithinOpenFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ slots, files, want int }{
		{256, 64, 16}, {16, 64, 16}, {256, filesFor(256), 256}, {256, filesFor(256) - 1, 255}, {4, 10, 1}, {1, 1 << 20, 1},
	} {
		if got := slotsWithin(tt.slots, tt.files); got != tt.want {
			t.Errorf("%d slots and %d files make %d slots, want %d", tt.slots, tt.files, got, tt.want)
		}
	}
	if n := openFiles(); n < 16 {
		t.Errorf("%d files may be open", n)
	}
}
