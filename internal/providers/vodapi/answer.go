package vodapi

import (
	"crypto/sha1" //nolint:gosec // the platform's proofs are HMAC-SHA1
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/webapi"
	"mediaferry/internal/uploads"
)

// Codes of the first call that mean success. For the other calls only 0 does.
const (
	codeNew    = 0 // start fresh
	codeResume = 1 // parts are stored
	codeStored = 2 // the media is stored
)

// maxList bounds what is read of an answer that may list parts, in bytes: 100,000
// of them take about 10 MiB.
const maxList = 32 << 20

// answer is the JSON that every call brings.
type answer struct {
	Code          *webapi.Int  `json:"code"` // nil where the body was some other JSON
	Message       string       `json:"message"`
	CanRetry      *webapi.Int  `json:"canRetry"` // nil where the answer has none
	ListParts     []listedPart `json:"listParts"`
	DataSize      webapi.Int   `json:"dataSize"` // bytes
	FileID        webapi.Text  `json:"fileId"`   // beyond the range of int64
	URL           webapi.Text  `json:"url"`
	VerifyContent webapi.Text  `json:"verify_content"` // of FinishUploadEx
}

type listedPart struct {
	Offset   *webapi.Int `json:"offset"`
	DataSize webapi.Int  `json:"dataSize"`
	DataMD5  webapi.Text `json:"dataMd5"`
	DataSHA  webapi.Text `json:"dataSha"` // an MD5 under another name, in the documents' example
}

// readAnswer reads a response of at most so many bytes. lost is the kind of error
// for an answer that does not tell what became of the call.
func readAnswer(action string, lost providers.Kind, resp *http.Response, most int64) (answer, error) {
	if resp.StatusCode != http.StatusOK {
		return answer{}, &providers.Error{
			Kind: webapi.StatusKind(resp.StatusCode, lost), Call: action, Code: strconv.Itoa(resp.StatusCode),
			RetryAfter: webapi.RetryAfter(resp.Header),
		}
	}
	body, err := webapi.ReadAnswer(resp.Body, most)
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

// Codes of failures that the part uploads document.
const (
	codeSignature  = -10002
	codeParameters = -10003
	CodeCacheWrite = -10004 // the platform could not keep what it knows of the upload
	CodeCacheRead  = -10005 // the platform cannot find what it knew of the upload
	CodePacket     = -10006 // the part's bytes are not what was announced
)

// Codes of version 2 of the platform's API, which the part uploads refer to.
const (
	codeAPISignature = 4100
	codeAPISecretID  = 4104
	codeAPIForbidden = 4110
	codeAPIExpired   = 4200
	codeAPIBlocked   = 4300
	codeAPIQuota     = 4400
	codeAPIReplay    = 4500 // the nonce was used before, or the clock is off by two hours

	CodeLater    = 5100
	CodeInternal = 6000
	CodeRepairs  = 6200
)

// APIKind classifies the codes of version 2 of the platform's API that mean the
// same for every call: they are about who calls, when and how often. It returns ""
// for any other.
func APIKind(code int) providers.Kind {
	switch {
	case code >= codeAPISignature && code <= codeAPISecretID, code == codeAPIForbidden, code == codeAPIBlocked:
		return providers.Unauthorized
	case code == codeAPIQuota:
		return providers.Throttled
	case code == codeAPIExpired, code == codeAPIReplay:
		return providers.Transient // the next try has another time and nonce
	default:
		return ""
	}
}

// outdated reports whether a failure says that a signature's time is over.
func outdated(e *providers.Error) bool {
	return e.Code == strconv.Itoa(codeAPIExpired) || e.Code == strconv.Itoa(codeAPIReplay)
}

// refusal classifies a failure that the platform stated. It is a definite answer:
// the call did not take effect. If the platform echoes the secrets, they are
// struck from its message.
func (a answer) refusal(d Dialect, action string, secrets ...string) *providers.Error {
	e := &providers.Error{Kind: providers.Rejected, Call: action, Code: strconv.Itoa(int(*a.Code)), Message: webapi.Words(a.Message, secrets...)}
	switch code := int(*a.Code); {
	case APIKind(code) != "":
		e.Kind = APIKind(code)
	case code == codeSignature:
		e.Kind = providers.Unauthorized
	case code == CodeCacheRead && action != d.Init:
		e.Kind = providers.SessionLost
	case code == codeParameters && action == d.Finish:
		// The only parameter is the SHA-1 that the first call took, so what the
		// platform holds is not what has it: a part is missing or wrong.
		e.Kind = providers.Mismatch
	case code == CodePacket && action == d.Part:
		e.Kind = providers.Mismatch
	case d.Retryable(code, (*int)(a.CanRetry)):
		e.Kind = providers.Transient
	}
	return e
}

func (a answer) asset() uploads.Asset {
	asset := uploads.Asset{ID: string(a.FileID), URL: string(a.URL)}
	if a.VerifyContent != "" {
		asset.Detail = map[string]string{"verify_content": string(a.VerifyContent)}
	}
	return asset
}

// provenID returns the fileId that verify_content is a proof of, "" where there is
// none to be read. The proof itself takes a key that is the application's.
func (a answer) provenID() string {
	raw, err := base64.StdEncoding.DecodeString(string(a.VerifyContent))
	if err != nil {
		return ""
	}
	for _, mac := range []int{sha1.Size, hex.EncodedLen(sha1.Size)} { // as described, and as shown
		if len(raw) > mac && strings.HasPrefix(string(raw[mac:]), "ExpTime=") {
			fields, err := url.ParseQuery(string(raw[mac:]))
			if err == nil {
				return fields.Get("FileId")
			}
		}
	}
	return ""
}

// partSize returns the part size that the platform fixed for the upload or, if it
// names none, as in the documents' example, the one that was asked for.
func (a answer) partSize(asked int64) int64 {
	if a.DataSize == 0 {
		return asked
	}
	return int64(a.DataSize)
}

// found returns the listed parts that are parts of the plan, by number. A part
// that is not aligned or has another length is left out, and so sent again.
func (a answer) found(plan parts.Plan) []parts.Stored {
	var found []parts.Stored
	var seen parts.Set
	for _, l := range a.ListParts {
		if l.Offset == nil {
			continue
		}
		offset := int64(*l.Offset)
		if offset < 0 || offset >= plan.Size || offset%plan.PartSize != 0 {
			continue
		}
		part := plan.Part(int(offset/plan.PartSize) + 1)
		if part.Length != int64(l.DataSize) || seen.Has(part.Number) {
			continue
		}
		seen.Add(part.Number)
		sum := string(l.DataMD5)
		if sum == "" {
			sum = string(l.DataSHA)
		}
		found = append(found, parts.Stored{Part: part, Receipt: parts.Receipt{Tag: strings.ToLower(sum)}})
	}
	slices.SortFunc(found, func(x, y parts.Stored) int { return x.Number - y.Number })
	return found
}
