// Command floor copies a bucket from one S3 endpoint to another with as little
// work as the protocol allows: a ranged GET whose body is the body of a PUT. No
// digest, no retry, no resume, no record. It shows what moving the bytes costs
// by itself, and so what a mover adds.
package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/minio/minio-go/v7/pkg/signer"
	"golang.org/x/sync/errgroup"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

type mover struct {
	http                 *http.Client
	from, to             string // bucket URLs
	accessKey, secretKey string
	partSize             int64
}

func run(ctx context.Context, args []string, getenv func(string) string) error {
	m := &mover{accessKey: getenv("BENCH_ACCESS_KEY"), secretKey: getenv("BENCH_SECRET_KEY")}
	flags := flag.NewFlagSet("floor", flag.ContinueOnError)
	flags.StringVar(&m.from, "from", "", "URL of the bucket to read")
	flags.StringVar(&m.to, "to", "", "URL of the bucket to write")
	flags.Int64Var(&m.partSize, "part", 64<<20, "bytes of a part; an object no larger takes a single PUT")
	streams := flags.Int("streams", 8, "GET → PUT pairs at a time")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = *streams
	transport.DisableCompression = true
	m.http = &http.Client{Transport: transport}

	// Objects are opened one after the other, their parts moved side by side.
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(*streams)
	after := ""
	for ctx.Err() == nil {
		next, err := m.page(ctx, group, after)
		if err != nil {
			group.Go(func() error { return err }) // Wait tells the first error, not what it cancelled
			break
		}
		if next == "" {
			break
		}
		after = next
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("move: %w", err)
	}
	return nil
}

// page lists up to a thousand objects and hands them to the group. It returns where
// the next page starts, "" after the last one.
func (m *mover) page(ctx context.Context, group *errgroup.Group, after string) (string, error) {
	query := url.Values{"list-type": {"2"}}
	if after != "" {
		query.Set("continuation-token", after)
	}
	answer, err := m.do(ctx, http.MethodGet, m.from+"?"+query.Encode(), nil, 0, "")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close() //nolint:errcheck // only read
	var listed struct {
		Contents []struct {
			Key  string
			Size int64
		}
		NextContinuationToken string // only where there is more
	}
	if err := xml.NewDecoder(answer.Body).Decode(&listed); err != nil {
		return "", fmt.Errorf("list %s: %w", m.from, err)
	}
	for _, o := range listed.Contents {
		if err := m.object(ctx, group, o.Key, o.Size); err != nil {
			return "", err
		}
	}
	return listed.NextContinuationToken, nil
}

// object hands the parts of one object to the group; the last one to finish
// completes it.
func (m *mover) object(ctx context.Context, group *errgroup.Group, key string, size int64) error {
	if size <= m.partSize {
		group.Go(func() error {
			_, err := m.move(ctx, key, "", 0, size)
			return err
		})
		return nil
	}

	id, err := m.begin(ctx, key)
	if err != nil {
		return err
	}
	count := int((size + m.partSize - 1) / m.partSize)
	etags := make([]string, count)
	var left atomic.Int64
	left.Store(int64(count))
	for i := range count {
		group.Go(func() error {
			offset := int64(i) * m.partSize
			query := "?partNumber=" + strconv.Itoa(i+1) + "&uploadId=" + id
			etag, err := m.move(ctx, key, query, offset, min(m.partSize, size-offset))
			if err != nil {
				return err
			}
			etags[i] = etag
			if left.Add(-1) > 0 {
				return nil
			}
			return m.complete(ctx, key, id, etags)
		})
	}
	return nil
}

// move streams one range into one PUT and returns the ETag.
func (m *mover) move(ctx context.Context, key, query string, offset, length int64) (string, error) {
	ranged := fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
	get, err := m.do(ctx, http.MethodGet, m.from+"/"+key, nil, 0, ranged)
	if err != nil {
		return "", err
	}
	defer get.Body.Close() //nolint:errcheck // read to its end or given up
	put, err := m.do(ctx, http.MethodPut, m.to+"/"+key+query, get.Body, length, "")
	if err != nil {
		return "", err
	}
	return put.Header.Get("ETag"), drain(put)
}

func (m *mover) begin(ctx context.Context, key string) (string, error) {
	answer, err := m.do(ctx, http.MethodPost, m.to+"/"+key+"?uploads=", nil, 0, "")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()            //nolint:errcheck // only read
	var result struct{ UploadId string } //nolint:revive // S3's spelling
	if err := xml.NewDecoder(answer.Body).Decode(&result); err != nil {
		return "", fmt.Errorf("begin %s: %w", key, err)
	}
	return result.UploadId, nil
}

func (m *mover) complete(ctx context.Context, key, id string, etags []string) error {
	var list bytes.Buffer
	list.WriteString("<CompleteMultipartUpload>")
	for i, etag := range etags {
		fmt.Fprintf(&list, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, etag)
	}
	list.WriteString("</CompleteMultipartUpload>")
	answer, err := m.do(ctx, http.MethodPost, m.to+"/"+key+"?uploadId="+id, &list, int64(list.Len()), "")
	if err != nil {
		return err
	}
	return drain(answer)
}

// do sends one signed request with an unsigned payload; an answer other than
// 2xx is an error.
func (m *mover) do(ctx context.Context, method, address string, body io.Reader, length int64, ranged string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, address, err)
	}
	req.ContentLength = length
	req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	if ranged != "" {
		req.Header.Set("Range", ranged)
	}
	answer, err := m.http.Do(signer.SignV4(*req, m.accessKey, m.secretKey, "", "us-east-1"))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, address, err)
	}
	if answer.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10)) // best effort: the status says enough
		_ = answer.Body.Close()
		return nil, fmt.Errorf("%s %s: %s: %s", method, address, answer.Status, text)
	}
	return answer, nil
}

func drain(answer *http.Response) error {
	defer answer.Body.Close() //nolint:errcheck // read to its end below
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}
