package s3

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"go.uber.org/goleak"
)

// The gateway runs in a child process, since it changes the working directory
// and there can be one in a process. These name its part to the child.
const (
	gatewayDir     = "MEDIAFERRY_TEST_GATEWAY_DIR"
	gatewayAddress = "MEDIAFERRY_TEST_GATEWAY_ADDRESS"
)

// Keys and bucket of the gateway.
const (
	accessKey = "tester"
	secretKey = "tester-secret"
	bucket    = "media"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(gatewayDir); dir != "" {
		fmt.Fprintln(os.Stderr, serveGateway(dir, os.Getenv(gatewayAddress)))
		os.Exit(1)
	}
	os.Exit(runWithGateway(m))
}

// runWithGateway runs the tests beside a gateway, whose address they find in
// the environment.
func runWithGateway(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gateway")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	stop, err := startGateway(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	stop()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func startGateway(dir string) (stop func(), err error) {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start gateway: %w", err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, fmt.Errorf("start gateway: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start gateway: %w", err)
	}
	child := exec.CommandContext(context.Background(), self)
	child.Env = append(os.Environ(), gatewayDir+"="+dir, gatewayAddress+"="+address)
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := child.Start(); err != nil {
		return nil, fmt.Errorf("start gateway: %w", err)
	}
	stop = func() {
		_ = child.Process.Kill() // it holds nothing that is to be kept
		_ = child.Wait()
	}
	if err := os.Setenv(gatewayAddress, address); err != nil {
		stop()
		return nil, fmt.Errorf("start gateway: %w", err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	core, err := newCore(address, transport)
	for deadline := time.Now().Add(20 * time.Second); err == nil; {
		if err = core.MakeBucket(context.Background(), bucket, minio.MakeBucketOptions{}); err == nil {
			return stop, nil
		}
		if time.Now().Before(deadline) && minio.ToErrorResponse(err).StatusCode == 0 {
			err = nil
			time.Sleep(20 * time.Millisecond) // until it listens
		}
	}
	stop()
	return nil, fmt.Errorf("start gateway: %w", err)
}

func newCore(address string, transport http.RoundTripper) (*minio.Core, error) {
	core, err := minio.NewCore(address, &minio.Options{
		Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: defaultRegion, Transport: transport, MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", address, err)
	}
	return core, nil
}

// serveGateway is the child: an S3 gateway over a folder, until it is killed.
func serveGateway(dir, address string) error {
	root, sidecar := filepath.Join(dir, "objects"), filepath.Join(dir, "metadata")
	for _, d := range []string{root, sidecar} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	store, err := meta.NewSideCar(sidecar)
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	backend, err := posix.New(root, store, posix.PosixOpts{SideCarDir: sidecar})
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	err = embedgw.RunVersityGW(context.Background(), backend, &embedgw.Config{
		RootUserAccess: accessKey, RootUserSecret: secretKey, Region: defaultRegion,
		Ports: []string{address}, MaxConnections: 1000, MaxRequests: 1000, MultipartMaxParts: 10_000,
		Quiet: true, KeepAlive: true,
	})
	return fmt.Errorf("the gateway ended: %w", err)
}
