package tencentugc

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// Codes of InitUploadEx that are no failure.
const (
	initNew    = 0 // start fresh
	initResume = 1 // parts are stored
	initStored = 2 // the media is stored
)

// maxAnswer bounds what is read of an answer: 10,000 parts take about 1 MiB.
const maxAnswer = 64 << 20

// maxMessage bounds what is kept of the platform's words, in bytes.
const maxMessage = 300

// answer is the JSON that every call brings.
type answer struct {
	Code          *int         `json:"code"` // nil where the body was some other JSON
	Message       string       `json:"message"`
	CanRetry      int          `json:"canRetry"` // missing counts as 0
	ListParts     []listedPart `json:"listParts"`
	DataSize      int64        `json:"dataSize"` // bytes
	FileID        string       `json:"fileId"`   // beyond the range of int64
	URL           string       `json:"url"`
	VerifyContent string       `json:"verify_content"`
}

type listedPart struct {
	Offset   *int64 `json:"offset"`
	DataSize int64  `json:"dataSize"`
	DataMD5  string `json:"dataMd5"`
	DataSHA  string `json:"dataSha"` // an MD5 under another name, in the documents' example
}

// readAnswer reads a response. lost is the kind of an answer that does not
// tell what became of the call.
func readAnswer(action string, lost providers.Kind, resp *http.Response) (answer, error) {
	if resp.StatusCode != http.StatusOK {
		return answer{}, statusError(action, lost, resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, providers.TransportError(action, lost, err)
	}
	a, err := parseAnswer(body)
	if err != nil {
		return answer{}, &providers.Error{Kind: lost, Call: action, Code: "200", Message: "the answer cannot be read", Err: err}
	}
	return a, nil
}

// parseAnswer reads the JSON of an answer. It is an error if it has no code:
// zero means success, so a missing one must not become it.
func parseAnswer(body []byte) (answer, error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return answer{}, fmt.Errorf("answer of %d bytes: %w", len(body), err)
	}
	if a.Code == nil {
		return answer{}, fmt.Errorf("answer of %d bytes has no code", len(body))
	}
	return a, nil
}

// statusError classifies an answer by its HTTP status.
func statusError(action string, lost providers.Kind, resp *http.Response) error {
	e := &providers.Error{Kind: providers.Rejected, Call: action, Code: strconv.Itoa(resp.StatusCode), RetryAfter: retryAfter(resp.Header)}
	switch s := resp.StatusCode; {
	case s == http.StatusTooManyRequests:
		e.Kind = providers.Throttled
	case s == http.StatusServiceUnavailable && lost == providers.Transient:
		e.Kind = providers.Throttled
	case s >= 500 || s == http.StatusRequestTimeout:
		// Of finish, a 503 too: a gateway may give up on a call that goes on.
		e.Kind = lost
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		e.Kind = providers.Unauthorized
	}
	return e
}

// retryAfter reads the header in either form, 0 if there is none to be read.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 20); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// Codes of failures; the others are judged by canRetry.
const (
	codeSignature  = -10002
	codeParameters = -10003
	codeCacheRead  = -10005 // the platform cannot find what it knew of the upload
	codePacket     = -10006 // the part's bytes are not what was announced
	codeSignature2 = 4100
	codeSecretID   = 4104
	codeForbidden  = 4110
	codeExpired    = 4200
	codeBlocked    = 4300
	codeQuota      = 4400
	codeReplay     = 4500
	codeInternal   = 6000
	codeMaintained = 6200
)

// refusal classifies a failure that the platform stated. It is a definite
// answer: the call did not take effect. The secrets are struck from the
// platform's words, should it echo them.
func (a answer) refusal(action string, secrets ...string) *providers.Error {
	message := a.Message
	for _, secret := range secrets {
		if secret != "" {
			message = strings.ReplaceAll(message, secret, "[redacted]")
		}
	}
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "")
	}
	e := &providers.Error{Kind: providers.Rejected, Call: action, Code: strconv.Itoa(*a.Code), Message: message}
	switch code := *a.Code; {
	case code == codeSignature, code == codeSignature2, code == codeForbidden,
		code >= 4101 && code <= codeSecretID, code == codeBlocked:
		e.Kind = providers.Unauthorized
	case code == codeCacheRead && action != actionInit:
		e.Kind = providers.SessionLost
	case code == codeParameters && action == actionFinish:
		// The only parameter is the SHA-1 that InitUploadEx took, so what the
		// platform holds is not what has it: a part is missing or wrong.
		e.Kind = providers.Mismatch
	case code == codePacket && action == actionPart:
		e.Kind = providers.Mismatch
	case code == codeQuota:
		e.Kind = providers.Throttled
	case (code == codeExpired || code == codeReplay) && action != actionInit:
		e.Kind = providers.SessionLost // the signature's time is over; the next InitUploadEx has another
	case code == codeExpired, code == codeReplay:
		e.Kind = providers.Transient
	case a.CanRetry == 1, code == codeInternal, code == codeMaintained:
		e.Kind = providers.Transient
	}
	return e
}

func (a answer) asset() uploads.Asset {
	asset := uploads.Asset{ID: a.FileID, URL: a.URL}
	if a.VerifyContent != "" {
		asset.Detail = map[string]string{"verify_content": a.VerifyContent}
	}
	return asset
}

// partSize returns the part size that the platform fixed for the upload, or
// the one asked for where it names none, as in the documents' example.
func (a answer) partSize(asked int64) int64 {
	if a.DataSize == 0 {
		return asked
	}
	return a.DataSize
}

// found returns the listed parts that are parts of the plan, by number; what
// is not aligned or of another length is left out and so sent again.
func (a answer) found(plan parts.Plan) []parts.Stored {
	var found []parts.Stored
	var seen parts.Set
	for _, l := range a.ListParts {
		if l.Offset == nil || *l.Offset < 0 || *l.Offset >= plan.Size || *l.Offset%plan.PartSize != 0 {
			continue
		}
		part := plan.Part(int(*l.Offset/plan.PartSize) + 1)
		if part.Length != l.DataSize || seen.Has(part.Number) {
			continue
		}
		seen.Add(part.Number)
		sum := l.DataMD5
		if sum == "" {
			sum = l.DataSHA
		}
		found = append(found, parts.Stored{Part: part, Receipt: parts.Receipt{Tag: strings.ToLower(sum)}})
	}
	slices.SortFunc(found, func(x, y parts.Stored) int { return x.Number - y.Number })
	return found
}
