package devstack_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"mediaferry/internal/devstack"
	"mediaferry/internal/devstack/devtest"
)

// roleEnv makes the test binary a process of another kind.
const roleEnv = "DEVSTACK_TEST_ROLE"

// natsArg makes the test binary a NATS server that devstack starts as a command.
const natsArg = "serve-nats"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == natsArg {
		if err := serveNATS(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	devstack.ChildMain()
	switch os.Getenv(roleEnv) {
	case "obedient": // says that it runs, ends on SIGTERM
		fmt.Println("ready")
		wait()
	case "stubborn": // does not
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		wait()
	case "talker":
		fmt.Print("one\ntwo\nno end of line")
		os.Exit(3)
	case "stack":
		if err := runStack(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		wait()
	}
	devtest.Main(m)
}

// wait blocks until a signal or, were all else to fail, the end of the input.
func wait() {
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	select {}
}

// stackReport is what the role "stack" says once everything runs.
type stackReport struct {
	Dir       string
	Addresses []string // host:port of each server
	PIDs      []int
}

// runStack is a `dev` that is about to be killed.
func runStack() error {
	if err := os.Unsetenv(roleEnv); err != nil {
		return err
	}
	ctx := context.Background()
	dir, err := devstack.TempDir()
	if err != nil {
		return err
	}
	pg, err := devstack.StartPostgres(ctx, dir.Join("postgres"), devstack.PostgresOptions{Volatile: true})
	if err != nil {
		return err
	}
	s3, err := devstack.StartS3(ctx, dir.Join("s3"), devstack.S3Options{Buckets: []string{"staging"}})
	if err != nil {
		return err
	}
	processes := devstack.NewProcesses(os.Stderr)
	if _, err := processes.Start(ctx, devstack.Command{Name: "worker", Env: []string{roleEnv + "=obedient"}}); err != nil {
		return err
	}
	report := stackReport{Dir: dir.Path(), Addresses: []string{hostOf(pg.DSN()), hostOf(s3.Endpoint())}, PIDs: processes.PIDs()}
	return json.NewEncoder(os.Stdout).Encode(report)
}

// serveNATS serves as standard input says, until that ends.
func serveNATS() error {
	decoder := json.NewDecoder(os.Stdin)
	var config devstack.NATSConfig
	if err := decoder.Decode(&config); err != nil {
		return err
	}
	_, text, _ := net.SplitHostPort(config.Address)
	port, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	server, err := devstack.StartNATS(config.Root, port)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	server.Stop()
	return nil
}
