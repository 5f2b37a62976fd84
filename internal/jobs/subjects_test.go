package jobs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"mediaferry/internal/parts"
)

const anID = "01890a5d-ac96-774b-bcce-b302099a8057"

func TestJobSubject(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse(anID)
	for name, test := range map[string]struct {
		job  parts.Job
		want string // "" for an error
	}{
		"part":      {parts.Job{Upload: id, Account: "acme", Pool: "main", Epoch: 2, Run: parts.Run{First: 513, Count: 1}}, "mf.job.main.part.acme." + anID + ".2.513"},
		"digest":    {parts.Job{Upload: id, Account: "acme", Pool: "main"}, "mf.job.main.digest." + anID},
		"no upload": {parts.Job{Account: "acme", Pool: "main"}, ""},
		"no epoch":  {parts.Job{Upload: id, Account: "acme", Pool: "main", Run: parts.Run{First: 1, Count: 1}}, ""},
		"part 0":    {parts.Job{Upload: id, Account: "acme", Pool: "main", Epoch: 1, Run: parts.Run{Count: 1}}, ""},
		"long run":  {parts.Job{Upload: id, Account: "acme", Pool: "main", Epoch: 1, Run: parts.Run{First: 1, Count: parts.MaxRunParts + 1}}, ""},
		"dot":       {parts.Job{Upload: id, Account: "ac.me", Pool: "main"}, ""},
		"wildcard":  {parts.Job{Upload: id, Account: "acme", Pool: "*"}, ""},
		"rest":      {parts.Job{Upload: id, Account: ">", Pool: "main"}, ""},
		"space":     {parts.Job{Upload: id, Account: "acme", Pool: "main pool"}, ""},
		"empty":     {parts.Job{Upload: id, Account: "acme"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := jobSubject(test.job)
			if (err == nil) != (test.want != "") {
				t.Fatalf("error %v, want subject %q", err, test.want)
			}
			if err == nil && got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestParseJob(t *testing.T) {
	t.Parallel()
	got, err := parseJob("mf.job.main.part.acme." + anID + ".2.513")
	if err != nil {
		t.Fatal(err)
	}
	want := jobName{Pool: "main", Upload: uuid.MustParse(anID), Account: "acme", Epoch: 2, First: 513}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("part job (-want +got):\n%s", diff)
	}
	for _, subject := range []string{
		"", "mf.job", "mf.job.main", "mf.job.main.part", "mf.ack.acme." + anID, "mf.job.main.digest." + anID + ".1",
		"mf.job.main.part.acme." + anID + ".02.1", "mf.job.main.part.acme." + anID + ".+2.1", "mf.job.main.part.acme." + anID + ".1.0",
		"mf.job.main.part.*." + anID + ".1.1", "mf.job.main.digest.{" + anID + "}", "mf.job.main.digest.00000000-0000-0000-0000-000000000000",
	} {
		if got, err := parseJob(subject); err == nil {
			t.Errorf("%q was read as %+v", subject, got)
		}
	}
}

// What parseJob takes, jobSubject makes: no two subjects are one job.
func FuzzParseJob(f *testing.F) {
	f.Add("mf.job.main.part.acme." + anID + ".2.513")
	f.Add("mf.job.main.digest." + anID)
	f.Add("mf.job.main.part.acme." + anID + ".-1.9999999999999999999")
	f.Add("mf.job..part...1.1")
	f.Fuzz(func(t *testing.T, subject string) {
		name, err := parseJob(subject)
		if err != nil {
			return
		}
		job := parts.Job{Upload: name.Upload, Pool: name.Pool, Account: name.Account, Epoch: name.Epoch}
		if name.Digest {
			job.Account = "any"
		} else {
			job.Run = parts.Run{First: name.First, Count: 1}
		}
		again, err := jobSubject(job)
		if err != nil || again != subject {
			t.Errorf("%q was read as %+v, of which %q is made (%v)", subject, name, again, err)
		}
	})
}
