package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"mediaferry/client"
)

// sources is what a push was asked to bring.
type sources struct {
	files    []localFile
	objects  []client.Source
	prefixes []prefixSource
}

func (s sources) count() int { return len(s.files) + len(s.objects) + len(s.prefixes) }

// localFile is a file on this machine.
type localFile struct {
	path string
	as   string // what its staging key ends with
	size int64  // bytes
}

// prefixSource is objects of the staging bucket.
type prefixSource struct {
	bucket, prefix string
	match          string // pattern for whole keys, "" for all below the prefix
}

func (p prefixSource) String() string {
	return "s3://" + p.bucket + "/" + cmp.Or(p.match, p.prefix)
}

// findSources reads the arguments of push. leftOut is told which files of a
// folder or pattern are not taken, and why.
func findSources(args []string, leftOut func(path, why string)) (sources, error) {
	var (
		all  sources
		errs []error
	)
	for _, arg := range args {
		bucket, key, isS3 := parseS3(arg)
		switch {
		case isS3 && bucket == "":
			errs = append(errs, usagef("%q has no bucket; give s3://bucket/key, or s3://bucket/prefix/ for many", arg))
		case isS3 && hasPattern(key):
			if _, err := path.Match(key, ""); err != nil {
				errs = append(errs, usagef("%s: the pattern is not complete; * ? and [a-z] may be in it, and \\ before them where they mean themselves", arg))
			}
			literal := key[:strings.IndexAny(key, `*?[\`)]
			all.prefixes = append(all.prefixes, prefixSource{bucket, literal, key})
		case isS3 && (key == "" || strings.HasSuffix(key, "/")):
			all.prefixes = append(all.prefixes, prefixSource{bucket: bucket, prefix: key})
		case isS3:
			all.objects = append(all.objects, client.Source{Bucket: bucket, Key: key})
		default:
			found, err := findFiles(arg, leftOut)
			all.files = append(all.files, found...)
			errs = append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

// parseS3 splits s3://bucket/key. A bucket without a slash after it is the whole bucket.
func parseS3(source string) (bucket, key string, ok bool) {
	rest, ok := strings.CutPrefix(source, "s3://")
	bucket, key, _ = strings.Cut(rest, "/")
	return bucket, key, ok
}

// hasPattern reports whether a text is a pattern, or has escapes of one.
func hasPattern(text string) bool { return strings.ContainsAny(text, `*?[\`) }

// findFiles returns the file that is named, those below a folder, or those that
// a pattern selects where no file has that very name.
func findFiles(arg string, leftOut func(path, why string)) ([]localFile, error) {
	info, err := os.Stat(arg)
	if errors.Is(err, fs.ErrNotExist) && hasPattern(arg) {
		return matchFiles(arg, leftOut)
	}
	switch {
	case err != nil:
		return nil, &usageError{err}
	case info.IsDir():
		return walk(arg, leftOut)
	case !info.Mode().IsRegular():
		return nil, usagef("%s is neither a file nor a folder", arg)
	case info.Size() == 0:
		return nil, usagef("%s is empty; platforms take no empty media", arg)
	}
	return []localFile{{arg, filepath.Base(arg), info.Size()}}, nil
}

func matchFiles(pattern string, leftOut func(path, why string)) ([]localFile, error) {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, usagef("%s: the pattern is not complete; * ? and [a-z] may be in it", pattern)
	}
	var all []localFile
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
			leftOut(name, "is empty")
			continue
		}
		found, err := findFiles(name, leftOut)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, usagef("%s: no file is like that and has something in it", pattern)
	}
	return all, nil
}

// walk returns the files below a folder, whose keys keep the way to them. What
// is hidden, empty, or no file is left out, and links are not followed.
func walk(dir string, leftOut func(path, why string)) ([]localFile, error) {
	var all []localFile
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") && name != dir
		switch {
		case hidden && entry.IsDir():
			return fs.SkipDir
		case hidden || entry.IsDir():
			return nil
		case !entry.Type().IsRegular():
			leftOut(name, "is no file")
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err //nolint:wrapcheck // names the file
		}
		if info.Size() == 0 {
			leftOut(name, "is empty")
			return nil
		}
		below, err := filepath.Rel(dir, name)
		if err != nil {
			return err //nolint:wrapcheck // names the file
		}
		all = append(all, localFile{name, filepath.ToSlash(below), info.Size()})
		return nil
	})
	switch {
	case err != nil:
		return nil, &usageError{err}
	case len(all) == 0:
		return nil, usagef("%s has no files to push", dir)
	}
	return all, nil
}

// checkOne says which flags are for one source alone.
func (s sources) checkOne(name, key, idempotencyKey string) error {
	switch {
	case key != "" && len(s.files) == 0:
		return usagef("--key is for a local file; s3://… names its key itself")
	case s.count() == 1 && len(s.prefixes) == 0:
		return nil
	case name != "" || key != "" || idempotencyKey != "":
		return usagef("--name, --key and --idempotency-key are for one object; these are, or may be, many")
	}
	return nil
}

// leftOutText is the line about a file that is not taken.
func leftOutText(path, why string) string { return fmt.Sprintf("left out: %s %s", path, why) }
