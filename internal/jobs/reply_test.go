package jobs

import "testing"

// The answer to a submitter goes out in the dispatcher's name, and so must not
// become a call of the server's, or a message of ours.
func TestWhereSubmittersAreAnswered(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]bool{
		"mf.submitted.films.7":             true,
		"_INBOX.abc":                       true,
		"films.answers":                    true,
		"mf.submitted.news.7":              false,
		"mf.submitted.filmsy.7":            false,
		"mf.job.default.digest.x":          false,
		"mf.ack.acc.x":                     false,
		"mf.submit.films":                  false,
		"mf.cancel.x":                      false,
		"mf.session":                       false,
		"$JS.API.STREAM.PURGE.JOBS":        false,
		"$JS.ACK.JOBS.default.1.1.1.1.0.x": false,
		"$SYS.REQ.SERVER.PING":             false,
		"films.*":                          false,
		"films.>":                          false,
		"films answers":                    false,
	} {
		if got := mayAnswer("films", subject); got != want {
			t.Errorf("answered on %s: %v", subject, got)
		}
	}
}
