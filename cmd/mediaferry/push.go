package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mediaferry/client"
	"mediaferry/internal/providers"
)

// batchPause is the pause between looks at a batch, whose every page is read.
const batchPause = 2 * time.Second

// push is one run of the command: its flags and what it pushes.
type push struct {
	*app
	api     *client.Client
	staging stagingSettings

	accounts       []string
	name           string
	contentType    string
	bucket, key    string
	priority       int
	labels         map[string]string
	options        map[string]string
	idempotencyKey string
	wait           bool
}

func (a *app) pushCommand() *cobra.Command {
	p := &push{app: a}
	var accounts, labels, options []string
	cmd := &cobra.Command{
		Use:   "push FILE | s3://BUCKET/KEY | s3://BUCKET/PREFIX/",
		Short: "Submit a file, a staging object, or every object below a prefix",
		Long: `Submit a file, a staging object, or every object below a prefix.

A local file is put into staging first. The command returns as soon as the
uploads are accepted, and prints their ids; with --wait it follows them to the
end and fails if one of them does.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if p.accounts = accounts; len(accounts) == 0 {
				return usagef("no account is named; give --to")
			}
			if p.labels, err = pairs("label", labels); err != nil {
				return err
			}
			if p.options, err = pairs("option", options); err != nil {
				return err
			}
			if p.api, err = a.connect(); err != nil {
				return err
			}
			defer p.api.Close()
			return p.run(cmd.Context(), args[0])
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&accounts, "to", nil, "accounts, with commas; each is an upload of its own")
	f.StringVar(&p.name, "name", "", "file name at the platform (default: that of the file or key)")
	f.StringVar(&p.contentType, "content-type", "", "MIME type (default: by the file's ending)")
	f.StringVar(&p.bucket, "bucket", a.env("MEDIAFERRY_STAGING_BUCKET", "staging"),
		"staging bucket for a FILE, also MEDIAFERRY_STAGING_BUCKET")
	f.StringVar(&p.key, "key", "", "staging key for a FILE (default: a fresh one)")
	f.IntVar(&p.priority, "priority", 0, "higher goes first, -100 to 100")
	f.StringArrayVar(&labels, "label", nil, "key=value to keep with the upload; may be repeated")
	f.StringArrayVar(&options, "option", nil, "key=value for the provider; may be repeated")
	f.StringVar(&p.idempotencyKey, "idempotency-key", "",
		"the same key is the same upload; with several accounts each has its name added")
	f.BoolVar(&p.wait, "wait", false, "follow the uploads to the end")
	f.StringVar(&p.staging.Endpoint, "staging-endpoint", a.getenv("MEDIAFERRY_STAGING_ENDPOINT"),
		"URL of the staging store for a FILE, also MEDIAFERRY_STAGING_ENDPOINT")
	f.StringVar(&p.staging.Region, "staging-region", a.env("MEDIAFERRY_STAGING_REGION", "us-east-1"),
		"its region, also MEDIAFERRY_STAGING_REGION")
	f.StringVar(&p.staging.AccessKey, "staging-access-key", "",
		"its access key, also MEDIAFERRY_STAGING_ACCESS_KEY; the secret key is MEDIAFERRY_STAGING_SECRET_KEY alone")
	return cmd
}

func (p *push) run(ctx context.Context, source string) error {
	bucket, key, isS3 := parseS3(source)
	switch {
	case isS3 && bucket == "":
		return usagef("%q has no bucket; give s3://bucket/key, or s3://bucket/prefix/ for many", source)
	case isS3 && p.key != "":
		return usagef("--key is for a local file; %s names its key itself", source)
	case isS3 && (key == "" || strings.HasSuffix(key, "/")):
		return p.prefix(ctx, bucket, key)
	case isS3:
		return p.object(ctx, client.Source{Bucket: bucket, Key: key})
	default:
		return p.file(ctx, source)
	}
}

// parseS3 splits s3://bucket/key. A bucket without a slash after it is the whole bucket.
func parseS3(source string) (bucket, key string, ok bool) {
	rest, ok := strings.CutPrefix(source, "s3://")
	bucket, key, _ = strings.Cut(rest, "/")
	return bucket, key, ok
}

// file puts a local file into staging and submits it from there.
func (p *push) file(ctx context.Context, name string) error {
	f, err := os.Open(name) //nolint:gosec // the user names the file
	if err != nil {
		return &usageError{err}
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("push %s: %w", name, err)
	case !info.Mode().IsRegular():
		return usagef("%s is not a file; push one file, or a prefix of the staging bucket", name)
	case info.Size() == 0:
		return usagef("%s is empty; platforms take no empty media", name)
	}
	p.contentType = cmp.Or(p.contentType, mime.TypeByExtension(filepath.Ext(name)))
	if p.staging.Endpoint == "" {
		return p.presigned(ctx, name, f, info.Size())
	}
	if p.key == "" {
		// A key that is used again would change the object under an upload that
		// still reads it; one that follows the idempotency key may, since the
		// content is to be the same.
		p.key = path.Join("push", cmp.Or(p.idempotencyKey, uuid.NewString()), filepath.Base(name))
	}
	settings := p.staging
	settings.AccessKey = cmp.Or(settings.AccessKey, p.getenv("MEDIAFERRY_STAGING_ACCESS_KEY"))
	// It has no flag: other processes can read those.
	settings.SecretKey = providers.Secret(p.getenv("MEDIAFERRY_STAGING_SECRET_KEY"))
	store, err := p.app.staging(settings)
	if err != nil {
		return err
	}
	bar := newProgress(p.stderr, p.now)
	body := &counter{r: f, report: func(done int64) {
		bar.set(name, status{name: filepath.Base(name), stage: "staging", done: done, total: info.Size()})
	}}
	object, err := store.Put(ctx, p.bucket, p.key, p.contentType, body, info.Size())
	bar.close()
	if err != nil {
		return fmt.Errorf("put %s into staging: %w", name, err)
	}
	return p.object(ctx, client.Source{
		Bucket: object.Bucket, Key: object.Key, Version: object.Version, ETag: object.ETag,
	})
}

// counter reports how much has been read.
type counter struct {
	r      io.Reader
	done   int64
	report func(done int64)
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.done += int64(n)
	c.report(c.done)
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// object submits one staging object to every account.
func (p *push) object(ctx context.Context, source client.Source) error {
	var accepted []client.Upload
	for _, account := range p.accounts {
		key := p.idempotencyKey
		if key != "" && len(p.accounts) > 1 {
			key += ":" + account
		}
		u, _, err := p.api.Submit(ctx, client.Submission{
			Account: account, Source: source, Name: p.name, ContentType: p.contentType, Options: p.options,
			Labels: p.labels, Priority: p.priority, IdempotencyKey: key,
		})
		if err != nil {
			return err
		}
		accepted = append(accepted, u)
		if !p.wait {
			p.printf("%s  %s  %s\n", u.ID, u.Account, u.Name)
		}
	}
	if !p.wait {
		return nil
	}
	var ids []string
	for _, u := range accepted {
		ids = append(ids, u.ID)
	}
	return p.follow(ctx, p.api, ids)
}

// prefix submits every object below a prefix to every account.
func (p *push) prefix(ctx context.Context, bucket, prefix string) error {
	if p.name != "" || p.idempotencyKey != "" {
		return usagef("--name and --idempotency-key are for one object; s3://%s/%s may be many", bucket, prefix)
	}
	var errs []error
	for _, account := range p.accounts {
		res, err := p.api.SubmitPrefix(ctx, client.PrefixSubmission{
			Account: account, Bucket: bucket, Prefix: prefix, ContentType: p.contentType,
			Options: p.options, Labels: p.labels, Priority: p.priority,
		})
		if err != nil {
			return err
		}
		for _, r := range res.Rejected {
			p.printf("rejected  %s  %s: %s\n", account, r.Key, r.Error)
		}
		p.printf("batch %s  %s  %d submitted, %d rejected\n", res.Batch, account, res.Submitted, len(res.Rejected))
		if len(res.Rejected) > 0 {
			errs = append(errs, fmt.Errorf("%d objects of s3://%s/%s were not taken for %s", len(res.Rejected), bucket, prefix, account))
		}
		if p.wait && res.Submitted > 0 {
			errs = append(errs, p.followBatch(ctx, res.Batch, account))
		}
	}
	return errors.Join(errs...)
}

// follow shows the uploads until each has come to rest, and fails if one did not
// complete.
func (a *app) follow(ctx context.Context, api *client.Client, ids []string) error {
	bar := newProgress(a.stderr, a.now)
	var (
		g    errgroup.Group
		mu   sync.Mutex
		done = make([]client.Upload, len(ids))
		errs []error
	)
	for i, id := range ids {
		g.Go(func() error {
			u, err := api.Wait(ctx, id, func(u client.Upload) { bar.set(id, uploadStatus(u)) })
			mu.Lock()
			defer mu.Unlock()
			done[i] = u
			if err != nil {
				errs = append(errs, err)
			}
			return nil
		})
	}
	_ = g.Wait() // errors are gathered, so that one does not hide the others
	bar.close()
	for _, u := range done {
		if u.ID == "" {
			continue
		}
		a.printf("%s\n", result(u))
		if u.State != "completed" {
			errs = append(errs, fmt.Errorf("upload %s is %s", u.ID, u.State))
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("no longer watching, the uploads go on; see: mediaferry uploads watch %s", strings.Join(ids, " "))
	}
	return errors.Join(errs...)
}

// followBatch shows a batch as one line until every upload has come to rest.
func (p *push) followBatch(ctx context.Context, batch, account string) error {
	bar := newProgress(p.stderr, p.now)
	defer bar.close()
	for {
		all, err := p.wholeBatch(ctx, batch)
		if err != nil {
			return err
		}
		s, failed := batchStatus(account, all)
		bar.set(batch, s)
		if s.rest == 0 {
			bar.close()
			for _, u := range failed {
				p.printf("%s\n", result(u))
			}
			p.printf("batch %s  %d completed, %d not\n", batch, len(all)-len(failed), len(failed))
			if len(failed) > 0 {
				return fmt.Errorf("%d uploads of batch %s did not complete", len(failed), batch)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no longer watching, the uploads go on; see: mediaferry uploads list --batch %s", batch)
		case <-time.After(batchPause):
		}
	}
}

// wholeBatch reads every page of a batch.
func (p *push) wholeBatch(ctx context.Context, batch string) ([]client.Upload, error) {
	var all []client.Upload
	for after := ""; ; {
		page, err := p.api.List(ctx, client.Filter{Batch: batch, After: after, Limit: 1000})
		if err != nil {
			return nil, err
		}
		all = append(all, page.Uploads...)
		if after = page.Next; after == "" {
			return all, nil
		}
	}
}

// pairs reads key=value flags.
func pairs(flag string, list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil //nolint:nilnil // no pairs
	}
	m := map[string]string{}
	for _, pair := range list {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return nil, usagef("--%s %q is not of the form key=value", flag, pair)
		}
		m[k] = v
	}
	return m, nil
}

// printf writes a result; an output that is gone ends the program by its signal.
func (a *app) printf(format string, args ...any) { _, _ = fmt.Fprintf(a.stdout, format, args...) }
