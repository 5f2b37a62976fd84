package jobs

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// Fixed subjects of core NATS.
const (
	sessionSubject = "mf.session"
	liveSubjects   = "mf.live.*.*"
	cancelSubjects = "mf.cancel.*"
	workerSubjects = "mf.worker.*"
)

// checkTokens checks that names can be tokens of a subject: neither empty nor
// with dots, spaces or wildcards in them.
func checkTokens(names ...string) error {
	for _, name := range names {
		if err := uploads.CheckIdent(name); err != nil {
			return fmt.Errorf("subject: %w", err)
		}
	}
	return nil
}

// jobSubject returns the subject of a job. It fails if the job is not one that
// a worker could take.
func jobSubject(j parts.Job) (string, error) {
	if err := checkTokens(j.Pool, j.Account); err != nil {
		return "", err
	}
	if j.Upload == uuid.Nil {
		return "", fmt.Errorf("job has no upload")
	}
	if j.IsDigest() {
		return "mf.job." + j.Pool + ".digest." + j.Upload.String(), nil
	}
	if j.Epoch < 1 || j.Run.First < 1 || j.Run.Count < 1 || j.Run.Count > parts.MaxRunParts {
		return "", fmt.Errorf("job of upload %s has epoch %d, first part %d, %d parts", j.Upload, j.Epoch, j.Run.First, j.Run.Count)
	}
	return strings.Join([]string{
		"mf.job", j.Pool, "part", j.Account, j.Upload.String(), strconv.Itoa(j.Epoch), strconv.Itoa(j.Run.First),
	}, "."), nil
}

// partJobs matches the part jobs of an upload in every pool: those of one
// epoch, or of all with epoch 0.
func partJobs(account string, upload uploads.ID, epoch int) string {
	if epoch == 0 {
		return fmt.Sprintf("mf.job.*.part.%s.%s.>", account, upload)
	}
	return fmt.Sprintf("mf.job.*.part.%s.%s.%d.*", account, upload, epoch)
}

// accountJobs matches the part jobs of an account in every pool.
func accountJobs(account string) string { return "mf.job.*.part." + account + ".>" }

func digestJobs(upload uploads.ID) string { return fmt.Sprintf("mf.job.*.digest.%s", upload) }

func poolJobs(pool string) string { return "mf.job." + pool + ".>" }

func ackSubject(account string, upload uploads.ID) string {
	return "mf.ack." + account + "." + upload.String()
}

func liveSubject(account string, upload uploads.ID) string {
	return "mf.live." + account + "." + upload.String()
}

func cancelSubject(upload uploads.ID) string { return "mf.cancel." + upload.String() }

func workerSubject(id string) string { return "mf.worker." + id }

func eventSubject(tenant, typ string) string { return "mf.event." + tenant + "." + typ }

// jobName is what the subject of a job tells of it.
type jobName struct {
	Pool    string
	Upload  uploads.ID
	Digest  bool
	Account string // of a part job
	Epoch   int    // of a part job, from 1
	First   int    // of a part job, from 1
}

// parseJob reads the subject of a job. It takes exactly what jobSubject makes.
func parseJob(subject string) (jobName, error) {
	bad := func() (jobName, error) { return jobName{}, fmt.Errorf("%q is not the subject of a job", subject) }
	rest, ok := strings.CutPrefix(subject, "mf.job.")
	if !ok {
		return bad()
	}
	tokens := strings.Split(rest, ".")
	switch {
	case len(tokens) == 3 && tokens[1] == "digest":
		upload, ok := parseUpload(tokens[2])
		if !ok || checkTokens(tokens[0]) != nil {
			return bad()
		}
		return jobName{Pool: tokens[0], Upload: upload, Digest: true}, nil
	case len(tokens) == 6 && tokens[1] == "part":
		upload, ok := parseUpload(tokens[3])
		epoch, okEpoch := parseCount(tokens[4])
		first, okFirst := parseCount(tokens[5])
		if !ok || !okEpoch || !okFirst || checkTokens(tokens[0], tokens[2]) != nil {
			return bad()
		}
		return jobName{Pool: tokens[0], Account: tokens[2], Upload: upload, Epoch: epoch, First: first}, nil
	default:
		return bad()
	}
}

// parseUpload takes an upload's id in the one form in which subjects have it.
func parseUpload(token string) (uploads.ID, bool) {
	id, err := uuid.Parse(token)
	return id, err == nil && id != uuid.Nil && id.String() == token
}

// parseCount takes a number from 1 without sign or leading zeros.
func parseCount(token string) (int, bool) {
	n, err := strconv.Atoi(token)
	return n, err == nil && n >= 1 && strconv.Itoa(n) == token
}

// lastToken returns what stands after the last dot.
func lastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }
