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
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mediaferry/client"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// stagedAtOnce is how many local files are put into staging side by side.
const stagedAtOnce = 4

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
	timeout        time.Duration
}

func (a *app) pushCommand() *cobra.Command {
	p := &push{app: a}
	var labels, options []string
	cmd := &cobra.Command{
		Use:   "push SOURCE... --to ACCOUNT,...",
		Short: "Submit files, folders, staging objects, and what patterns select",
		Long: `Submit files, folders, staging objects, and what patterns select.

A SOURCE is

  film.mp4                  a local file
  masters/                  every file below a folder, but for hidden and empty ones
  'masters/*.mov'           local files that a pattern selects
  s3://staging/a/film.mp4   a staging object
  s3://staging/a/           every object below a prefix; s3://staging is the whole bucket
  's3://staging/a/*.mov'    objects whose whole key a pattern selects

In patterns * stands for any text without a slash, ? for one character, and
[a-z] for one of these; a \ before them takes that away. Quote them, so that the
shell leaves them alone.

Local files are put into staging first. The command returns as soon as the
uploads are accepted, and prints them; with --wait it follows them to the end
and fails if one of them does. Progress goes to standard error. Where one source
or account fails, the others are still brought.

More than one upload is a batch: its id goes to standard error, and
mediaferry batches show tells how it stands. A push of more than 10,000 files and
objects is several batches.`,
		Example: `  mediaferry push film.mp4 --to archive,vod --wait
  mediaferry push masters/ 's3://staging/2026/*.mov' --to archive -o jsonl`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if len(p.accounts) == 0 {
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
			return p.run(cmd.Context(), args)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&p.accounts, "to", nil, "accounts, with commas; each gets uploads of its own")
	f.StringVar(&p.name, "name", "", "file name at the platform (default: that of the file or key)")
	f.StringVar(&p.contentType, "content-type", "", "MIME type (default: by the file's ending)")
	f.StringVar(&p.bucket, "bucket", a.env("MEDIAFERRY_STAGING_BUCKET", "staging"),
		"staging bucket for local files, also MEDIAFERRY_STAGING_BUCKET")
	f.StringVar(&p.key, "key", "", "staging key for a local file (default: a fresh one)")
	f.IntVar(&p.priority, "priority", 0, "higher goes first, -100 to 100")
	f.StringArrayVar(&labels, "label", nil, "key=value to keep with the upload; may be repeated")
	f.StringArrayVar(&options, "option", nil, "key=value for the provider; may be repeated")
	f.StringVar(&p.idempotencyKey, "idempotency-key", "",
		"the same key is the same upload, or with several accounts the same batch")
	f.BoolVar(&p.wait, "wait", false, "follow the uploads to the end")
	timeoutFlag(cmd, &p.timeout)
	f.StringVar(&p.staging.Endpoint, "staging-endpoint", a.getenv("MEDIAFERRY_STAGING_ENDPOINT"),
		"URL of the staging store for local files, also MEDIAFERRY_STAGING_ENDPOINT")
	f.StringVar(&p.staging.Region, "staging-region", a.env("MEDIAFERRY_STAGING_REGION", "us-east-1"),
		"its region, also MEDIAFERRY_STAGING_REGION")
	f.StringVar(&p.staging.AccessKey, "staging-access-key", "",
		"its access key, also MEDIAFERRY_STAGING_ACCESS_KEY; the secret key is MEDIAFERRY_STAGING_SECRET_KEY alone")
	a.completeAccounts(cmd, "to")
	return cmd
}

func (p *push) run(ctx context.Context, args []string) error {
	all, err := findSources(args, func(path, why string) { _, _ = fmt.Fprintln(p.stderr, printable(leftOutText(path, why))) })
	if err != nil {
		return err
	}
	if err := all.checkOne(p.name, p.key, p.idempotencyKey); err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	out := newLines(p.app, uploadColumns(), acceptedText)
	if p.wait {
		out.line = result
	}
	b := &brought{out: out, hold: p.wait}
	if len(all.files) > 0 {
		if err := p.checkAccounts(ctx); err != nil {
			return err
		}
	}
	local, err := p.stage(ctx, all.files)
	if ctx.Err() != nil {
		p.tellStaged(local)
		return fmt.Errorf("nothing was submitted: %w", context.Cause(ctx)) // each file would say so
	}
	errs := []error{err}
	staged := local
	for _, source := range all.objects {
		staged = append(staged, stagedFile{Source: source, contentType: p.contentType})
	}
	switch {
	case len(p.accounts) == 1 && len(staged) == 1 && len(all.prefixes) == 0:
		err = p.object(ctx, p.accounts[0], staged[0], b)
	case len(p.accounts) == 1 && len(staged) == 0 && len(all.prefixes) == 1:
		err = p.prefix(ctx, p.accounts[0], all.prefixes[0], b)
	case len(staged)+len(all.prefixes) > 0:
		err = p.batch(ctx, p.sources(staged, all.prefixes), b)
	}
	if err != nil {
		p.tellStaged(local)
	}
	errs = append(errs, err)
	if p.wait && len(b.uploads) > 0 {
		errs = append(errs, p.follow(ctx, p.api, b.uploads, out, p.timeout))
	}
	return out.finish(errs...)
}

// check finds what the API would refuse of the flags, before files are put into
// staging for nothing.
func (p *push) check() error {
	for i, account := range p.accounts {
		if slices.Contains(p.accounts[:i], account) {
			return usagef("--to names %s twice; leave one out", account)
		}
		s := uploads.Submission{
			Account: account, Source: uploads.Object{Bucket: "any", Key: "any"}, Name: p.name, ContentType: p.contentType,
			Priority: p.priority, Labels: p.labels, Options: p.options, IdempotencyKey: p.idempotencyKey,
		}
		if err := s.Validate(); err != nil {
			return &usageError{err}
		}
	}
	return nil
}

// checkAccounts fails for accounts that are not there, before files are put into
// staging for nothing. Who may submit and not read finds out when submitting.
func (p *push) checkAccounts(ctx context.Context) error {
	there, err := p.api.Accounts(ctx)
	if err != nil {
		if client.IsRefused(err) {
			return nil
		}
		return err
	}
	for _, name := range p.accounts {
		if !slices.ContainsFunc(there, func(a client.Account) bool { return a.Name == name }) {
			return usagef("there is no account %q; mediaferry accounts list names them", name)
		}
	}
	return nil
}

// brought is the uploads that were accepted. Those that are followed are printed
// at their end.
type brought struct {
	out     *printer[client.Upload]
	hold    bool
	uploads []client.Upload
}

func (b *brought) add(u client.Upload) error {
	if b.hold {
		b.uploads = append(b.uploads, u)
		return nil
	}
	return b.out.add(u)
}

func acceptedText(u client.Upload) string { return u.ID + "  " + u.Account + "  " + u.Name }

// stagedFile is a local file that was put into staging, or an object that was there.
type stagedFile struct {
	client.Source

	contentType string
	path        string // of the file
}

// tellStaged says where files are in staging whose submission came to nothing, so
// that they need not be brought there again.
func (p *push) tellStaged(files []stagedFile) {
	for i, f := range files {
		if i == namedAtMost {
			p.note(fmt.Sprintf("and %d more files are in staging", len(files)-i))
			return
		}
		p.note(fmt.Sprintf("%s is in staging and can be pushed from there: s3://%s/%s", f.path, f.Bucket, f.Key))
	}
}

// stage puts local files into staging. What could not be put is told in the
// error, the other files are returned in their order.
func (p *push) stage(ctx context.Context, files []localFile) ([]stagedFile, error) {
	if len(files) == 0 {
		return nil, nil
	}
	put, err := p.wayToStaging()
	if err != nil {
		return nil, err
	}
	bar, end := p.progress()
	var bytes int64
	for _, f := range files {
		bytes += f.size
	}
	bar.expect(len(files), bytes)
	// A key that is used again would change the object under an upload that
	// still reads it; one that follows the idempotency key may, since the
	// content is to be the same.
	folder := path.Join("push", cmp.Or(p.idempotencyKey, uuid.NewString()))
	var (
		g    errgroup.Group
		mu   sync.Mutex
		done = make([]*stagedFile, len(files))
		errs []error
	)
	g.SetLimit(stagedAtOnce)
	used := map[string]bool{}
	for i, f := range files {
		key := cmp.Or(p.key, path.Join(folder, f.as))
		if used[key] { // two folders have files of one name
			key = path.Join(folder, uuid.NewString(), f.as)
		}
		used[key] = true
		g.Go(func() error {
			staged, err := p.stageOne(ctx, put, f, key, bar)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return nil
			}
			done[i] = &staged
			return nil
		})
	}
	_ = g.Wait() // errors are gathered, so that one does not hide the others
	end()
	var all []stagedFile
	for _, s := range done {
		if s != nil {
			all = append(all, *s)
		}
	}
	return all, errors.Join(errs...)
}

// putFile puts the content of a file into staging, under the key if it may choose.
type putFile func(ctx context.Context, file localFile, key, contentType string, body io.ReaderAt) (client.Source, error)

// wayToStaging is straight into the bucket where its endpoint is known, else by
// URLs of the API.
func (p *push) wayToStaging() (putFile, error) {
	if p.staging.Endpoint == "" {
		return p.presigned, nil
	}
	settings := p.staging
	settings.AccessKey = cmp.Or(settings.AccessKey, p.getenv("MEDIAFERRY_STAGING_ACCESS_KEY"))
	// It has no flag: other processes can read those.
	settings.SecretKey = providers.Secret(p.getenv("MEDIAFERRY_STAGING_SECRET_KEY"))
	store, err := p.app.staging(settings)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, file localFile, key, contentType string, body io.ReaderAt) (client.Source, error) {
		var o uploads.Object
		err := p.api.Repeat(ctx, stagingAway, func() (err error) {
			o, err = store.Put(ctx, p.bucket, key, contentType, io.NewSectionReader(body, 0, file.size), file.size)
			if err != nil {
				return fmt.Errorf("put %s into staging: %w", file.path, err)
			}
			return nil
		})
		return client.Source{Bucket: o.Bucket, Key: o.Key, Version: o.Version, ETag: o.ETag}, err
	}, nil
}

func (p *push) stageOne(ctx context.Context, put putFile, file localFile, key string, bar *progress) (stagedFile, error) {
	f, err := os.Open(file.path)
	if err != nil {
		return stagedFile{}, fmt.Errorf("put into staging: %w", err)
	}
	defer func() { _ = f.Close() }()
	before, err := f.Stat()
	if err != nil {
		return stagedFile{}, fmt.Errorf("put into staging: %w", err)
	}
	body := &counter{ReaderAt: f, report: func(done int64) {
		bar.set(key, status{
			name: printable(filepath.Base(file.path)), stage: "staging", done: done, total: file.size, moved: done, ended: done == file.size,
		})
	}}
	contentType := cmp.Or(p.contentType, mime.TypeByExtension(filepath.Ext(file.path)))
	source, err := put(ctx, file, key, contentType, body)
	if err != nil {
		return stagedFile{}, err
	}
	// Half of a film that somebody is still writing is worse than none.
	after, err := f.Stat()
	if err != nil {
		return stagedFile{}, fmt.Errorf("put into staging: %w", err)
	}
	if before.Size() != file.size || after.Size() != file.size || !after.ModTime().Equal(before.ModTime()) {
		return stagedFile{}, fmt.Errorf("%s changed while it was read, from %d to %d bytes; push it when nobody writes to it", file.path, file.size, after.Size())
	}
	return stagedFile{source, contentType, file.path}, nil
}

// counter reports how far it has been read.
type counter struct {
	io.ReaderAt

	report func(done int64)
}

func (c *counter) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(b, off)
	c.report(off + int64(n))
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// object submits one staging object to an account.
func (p *push) object(ctx context.Context, account string, source stagedFile, b *brought) error {
	u, _, err := p.api.Submit(ctx, client.Submission{
		Account: account, Source: source.Source, Name: p.name, ContentType: source.contentType,
		Options: p.options, Labels: p.labels, Priority: p.priority, IdempotencyKey: p.keyOfCall(),
	})
	if err != nil {
		return unknownIfCut(ctx, err)
	}
	return b.add(u)
}

// keyOfCall is the idempotency key of a submission: without one of the user's, one
// of its own, so that it may be made again where its answer is lost.
func (p *push) keyOfCall() string { return cmp.Or(p.idempotencyKey, "push-"+uuid.NewString()) }

// unknownIfCut says of a submission that was cut short that it may have been taken.
func unknownIfCut(ctx context.Context, err error) error {
	if ctx.Err() == nil && !client.IsAway(err) {
		return err
	}
	return fmt.Errorf("%w; it may have been taken: mediaferry uploads list and mediaferry batches list tell", err)
}

// sources are what is submitted together.
func (p *push) sources(objects []stagedFile, prefixes []prefixSource) []client.BatchSource {
	var all []client.BatchSource
	for _, o := range objects {
		all = append(all, client.BatchSource{
			Bucket: o.Bucket, Key: o.Key, Version: o.Version, ETag: o.ETag, Name: p.name, ContentType: o.contentType,
		})
	}
	for _, below := range prefixes {
		all = append(all, client.BatchSource{Bucket: below.bucket, Prefix: &below.prefix, Match: below.match})
	}
	return all
}

// batch submits sources to every account, as one batch, or as few as they fit in.
func (p *push) batch(ctx context.Context, all []client.BatchSource, b *brought) error {
	var errs []error
	for sources := range slices.Chunk(all, uploads.MaxBatchSources) {
		batch, _, err := p.api.SubmitBatch(ctx, client.BatchSubmission{
			Accounts: p.accounts, Sources: sources, ContentType: p.contentType,
			Options: p.options, Labels: p.labels, Priority: p.priority, IdempotencyKey: p.keyOfCall(),
		})
		if err != nil {
			errs = append(errs, unknownIfCut(ctx, err))
			continue
		}
		p.tellBatch(batch.ID, strings.Join(p.accounts, ","), batch.Uploads, batch.Rejected, batch.FirstRejected)
		if batch.Rejected > 0 {
			errs = append(errs, fmt.Errorf("%d rejected; mediaferry batches show %s says what, and why", batch.Rejected, batch.ID))
		}
		var made []client.Upload // newest first
		err = eachOf(ctx, p.api, batch.ID, func(u client.Upload) error {
			made = append(made, u)
			return nil
		})
		if client.IsRefused(err) && !p.wait {
			_, _ = fmt.Fprintln(p.stderr, "the token may submit and not read: the uploads are not listed")
			err = nil
		}
		errs = append(errs, err)
		for _, u := range slices.Backward(made) {
			errs = append(errs, b.add(u))
		}
	}
	return errors.Join(errs...)
}

// tellBatch says on standard error what was submitted together, and what was not.
func (p *push) tellBatch(id, accounts string, submitted, rejected int, first []client.Rejected) {
	_, _ = fmt.Fprintf(p.stderr, "batch %s  %s  %d submitted, %d rejected\n", cmp.Or(id, "-"), accounts, submitted, rejected)
	for _, r := range first {
		_, _ = fmt.Fprintln(p.stderr, printable(fmt.Sprintf("rejected  %s  %s: %s", cmp.Or(r.Account, accounts), r.Key, r.Error)))
	}
}

// prefix submits every object that is selected to an account, as one batch.
func (p *push) prefix(ctx context.Context, account string, source prefixSource, b *brought) error {
	res, err := p.api.SubmitPrefix(ctx, client.PrefixSubmission{
		Account: account, Bucket: source.bucket, Prefix: source.prefix, Match: source.match, ContentType: p.contentType,
		Options: p.options, Labels: p.labels, Priority: p.priority,
	})
	if err != nil {
		return unknownIfCut(ctx, err)
	}
	p.tellBatch(res.Batch, account, res.Submitted, len(res.Rejected), res.Rejected)
	var errs []error
	switch {
	case len(res.Rejected) > 0:
		errs = append(errs, fmt.Errorf("%d objects of %s were not taken for %s", len(res.Rejected), source, account))
	case res.Submitted == 0:
		errs = append(errs, usagef("%s has no objects; nothing was submitted to %s", source, account))
	}
	if res.Submitted > 0 {
		errs = append(errs, eachOf(ctx, p.api, res.Batch, b.add))
	}
	return errors.Join(errs...)
}

// eachOf reads every page of a batch.
func eachOf(ctx context.Context, api *client.Client, batch string, found func(client.Upload) error) error {
	for after := ""; ; {
		page, err := api.List(ctx, client.Filter{Batch: batch, After: after, Limit: 1000})
		if err != nil {
			return err
		}
		for _, u := range page.Uploads {
			if err := found(u); err != nil {
				return err
			}
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
}

// pairs reads key=value flags.
func pairs(flag string, list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil // no pairs
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
