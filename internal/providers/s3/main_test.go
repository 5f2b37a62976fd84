package s3

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"mediaferry/internal/devstack"
	"mediaferry/internal/devstack/devtest"
)

const bucket = "media"

// gateway is the server that all tests share.
var gateway *devstack.S3 //nolint:gochecknoglobals // TestMain stops it

func TestMain(m *testing.M) {
	devstack.ChildMain()
	os.Exit(runWithGateway(m))
}

// runWithGateway runs the tests beside a server.
func runWithGateway(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "gateway")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if gateway, err = devtest.StartS3(ctx, dir, bucket); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	gateway.Stop()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func newCore(transport http.RoundTripper) (*minio.Core, error) {
	config := gateway.Config()
	core, err := minio.NewCore(strings.TrimPrefix(gateway.Endpoint(), "http://"), &minio.Options{
		Creds:  credentials.NewStaticV4(config.AccessKey.Reveal(), config.SecretKey.Reveal(), ""),
		Region: defaultRegion, Transport: transport, MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", gateway.Endpoint(), err)
	}
	return core, nil
}
