// Command natsserver runs the NATS server of the benchmark in a process of its
// own, so that its cost can be told from the others'. It prints its address and
// ends with its standard input.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"mediaferry/internal/devstack"
)

func main() {
	folder := flag.String("folder", "", "folder for the streams")
	flag.Parse()
	server, err := devstack.StartNATS(*folder, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, "natsserver:", err)
		os.Exit(1)
	}
	_, _ = fmt.Fprintln(os.Stdout, strings.TrimPrefix(server.URL(), "nats://"))
	_, _ = io.Copy(io.Discard, os.Stdin) // until whoever started us is gone
	server.Stop()
}
