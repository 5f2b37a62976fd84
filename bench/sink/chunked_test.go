package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestChunkedReader(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body    string
		want    string
		trailer map[string]string
		err     error
	}{
		"unsigned":            {body: "4\r\nsome\r\n6\r\n bytes\r\n0\r\n\r\n", want: "some bytes"},
		"signed":              {body: "4;chunk-signature=ab\r\nsome\r\n0;chunk-signature=cd\r\n\r\n", want: "some"},
		"no final line":       {body: "4\r\nsome\r\n0\r\n", want: "some"},
		"trailer, CRLF":       {body: "4\r\nsome\r\n0\r\nx-a:b\r\n\r\n", want: "some", trailer: map[string]string{"x-a": "b"}},
		"trailer, LF":         {body: "4\r\nsome\r\n0\r\nX-A: b\n\r\n\r\n", want: "some", trailer: map[string]string{"x-a": "b"}},
		"signature after gap": {body: "0;s\r\nx-a:b\n\r\nx-amz-trailer-signature:c\r\n\r\n", trailer: map[string]string{"x-a": "b", "x-amz-trailer-signature": "c"}},
		"empty":               {body: "", err: io.ErrUnexpectedEOF},
		"cut in data":         {body: "4\r\nso", want: "so", err: io.ErrUnexpectedEOF},
		"cut after data":      {body: "4\r\nsome", want: "some", err: io.ErrUnexpectedEOF},
		"cut before last":     {body: "4\r\nsome\r\n", want: "some", err: io.ErrUnexpectedEOF},
		"longer than said":    {body: "4\r\nsomewhat\r\n0\r\n", want: "some", err: errMalformed},
		"not hex":             {body: "x\r\n", err: errMalformed},
		"negative":            {body: "-1\r\n", err: errMalformed},
		"huge":                {body: "7fffffffffffffff\r\n", err: errMalformed},
		"line too long":       {body: strings.Repeat("0", 5<<10), err: errMalformed},
		"trailer too long":    {body: "0\r\n" + strings.Repeat("x-a:b\r\n", 5000), trailer: map[string]string{"x-a": "b"}, err: errMalformed},
		"trailer without :":   {body: "0\r\nnothing\r\n", err: errMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, reader := range []io.Reader{strings.NewReader(tc.body), iotest.OneByteReader(strings.NewReader(tc.body))} {
				c := newChunkedReader(reader)
				got, err := io.ReadAll(c)
				if string(got) != tc.want || !errors.Is(err, tc.err) {
					t.Errorf("read %q, %v; want %q, %v", got, err, tc.want, tc.err)
				}
				if tc.trailer == nil {
					tc.trailer = map[string]string{}
				}
				if diff := cmp.Diff(tc.trailer, c.trailer); diff != "" {
					t.Errorf("trailer (-want +got)\n%s", diff)
				}
			}
		})
	}
}

// FuzzChunkedReader feeds arbitrary bodies, which must never panic or yield more
// than came in, and the same bytes properly framed, which must come back.
func FuzzChunkedReader(f *testing.F) {
	f.Add([]byte("4\r\nsome\r\n0\r\nx-amz-checksum-crc64nvme:AAAAAAAAAAA=\r\n\r\n"), uint16(3))
	f.Add([]byte("4;chunk-signature=ab\r\nsome\r\n0;chunk-signature=cd\r\n\r\n"), uint16(1))
	f.Add([]byte("ffffffffffffffff\r\n"), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, chunk uint16) {
		if out, _ := io.ReadAll(newChunkedReader(bytes.NewReader(data))); len(out) > len(data) {
			t.Fatalf("%d bytes out of %d", len(out), len(data))
		}

		var framed bytes.Buffer
		for rest := data; len(rest) > 0; {
			n := min(int(chunk)+1, len(rest))
			fmt.Fprintf(&framed, "%x;chunk-signature=0\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		framed.WriteString("0\r\nname:value\r\n\r\n")
		c := newChunkedReader(&framed)
		out, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(out, data) || c.trailer["name"] != "value" {
			t.Fatalf("framed %q came back as %q, trailer %v: %v", data, out, c.trailer, err)
		}
	})
}
