package movers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Peers lists every mover that is a program run from start to end: the floor and
// the tools that people use today.
func Peers(env Env) []Mover {
	return []Mover{
		&floor{env: env},
		&rclone{env: env, name: "rclone"},
		// What rclone's users do for speed: more transfers, no checksums.
		&rclone{env: env, name: "rclone-tuned", flags: []string{"--transfers=16", "--ignore-checksum", "--s3-disable-checksum"}},
		// One PUT an object, which S3 allows up to 5 GiB: it spares rclone the
		// digests of its parts, and costs the whole object when a connection breaks.
		&rclone{env: env, name: "rclone-single", flags: []string{
			"--transfers=16", "--ignore-checksum", "--s3-disable-checksum", "--multi-thread-streams=0", "--s3-upload-cutoff=5G",
		}},
		&mc{env: env},
		&s5cmd{env: env},
	}
}

// find returns ErrAbsent for a program that is not in the folder.
func find(folder, program string) error {
	if _, err := os.Stat(filepath.Join(folder, program)); err != nil {
		return fmt.Errorf("%s: %w", program, ErrAbsent)
	}
	return nil
}

// floor is this repository's GET → PUT loop, which does nothing else.
type floor struct{ env Env }

func (f *floor) Name() string { return "floor" }

func (f *floor) Prepare(context.Context) error { return find(f.env.Bin, "floor") }

func (f *floor) Move(ctx context.Context, srcBucket, dstBucket string, _ []string) (Cost, error) {
	cmd := Command(ctx, filepath.Join(f.env.Bin, "floor"),
		"-from", f.env.Source+"/"+srcBucket, "-to", f.env.Sink+"/"+dstBucket)
	cmd.Env = append(os.Environ(), "BENCH_ACCESS_KEY="+f.env.AccessKey, "BENCH_SECRET_KEY="+f.env.SecretKey)
	return run(ctx, cmd)
}

// rclone copies from one remote to another, streaming.
type rclone struct {
	env   Env
	name  string
	flags []string
}

func (r *rclone) Name() string { return r.name }

func (r *rclone) Prepare(context.Context) error {
	if err := find(r.env.Peers, "rclone"); err != nil {
		return err
	}
	remote := "type = s3\nprovider = Other\naccess_key_id = " + r.env.AccessKey +
		"\nsecret_access_key = " + r.env.SecretKey + "\nregion = us-east-1\nendpoint = "
	text := "[src]\n" + remote + r.env.Source + "\n[dst]\n" + remote + r.env.Sink + "\n"
	if err := os.WriteFile(r.config(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("configure rclone: %w", err)
	}
	return nil
}

func (r *rclone) config() string { return filepath.Join(r.env.Work, "rclone.conf") }

func (r *rclone) Move(ctx context.Context, srcBucket, dstBucket string, _ []string) (Cost, error) {
	args := append([]string{"copy", "--config", r.config()}, r.flags...)
	return run(ctx, Command(ctx, filepath.Join(r.env.Peers, "rclone"), append(args, "src:"+srcBucket, "dst:"+dstBucket)...))
}

// mc mirrors between two aliases, streaming.
type mc struct{ env Env }

func (m *mc) Name() string { return "mc" }

func (m *mc) Prepare(context.Context) error { return find(m.env.Peers, "mc") }

func (m *mc) Move(ctx context.Context, srcBucket, dstBucket string, _ []string) (Cost, error) {
	cmd := Command(ctx, filepath.Join(m.env.Peers, "mc"),
		"--config-dir", filepath.Join(m.env.Work, "mc"), "--quiet", "mirror", "src/"+srcBucket, "dst/"+dstBucket)
	cmd.Env = append(os.Environ(), "MC_HOST_src="+m.alias(m.env.Source), "MC_HOST_dst="+m.alias(m.env.Sink))
	return run(ctx, cmd)
}

func (m *mc) alias(url string) string {
	return strings.Replace(url, "://", "://"+m.env.AccessKey+":"+m.env.SecretKey+"@", 1)
}

// s5cmd knows one endpoint at a time, so it downloads and then uploads.
type s5cmd struct{ env Env }

func (s *s5cmd) Name() string { return "s5cmd" }

func (s *s5cmd) Prepare(context.Context) error { return find(s.env.Peers, "s5cmd") }

func (s *s5cmd) Move(ctx context.Context, srcBucket, dstBucket string, _ []string) (Cost, error) {
	scratch, err := os.MkdirTemp(s.env.Work, "s5cmd")
	if err != nil {
		return Cost{}, fmt.Errorf("scratch folder: %w", err)
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // Work goes as a whole at the end
	down, err := s.step(ctx, s.env.Source, "s3://"+srcBucket+"/*", scratch+"/")
	if err != nil {
		return Cost{}, err
	}
	up, err := s.step(ctx, s.env.Sink, scratch+"/", "s3://"+dstBucket+"/")
	if err != nil {
		return Cost{}, err
	}
	return down.then(up), nil
}

func (s *s5cmd) step(ctx context.Context, endpoint, from, to string) (Cost, error) {
	cmd := Command(ctx, filepath.Join(s.env.Peers, "s5cmd"), "--endpoint-url", endpoint, "--log", "error", "cp", from, to)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+s.env.AccessKey, "AWS_SECRET_ACCESS_KEY="+s.env.SecretKey, "AWS_REGION=us-east-1")
	return run(ctx, cmd)
}
