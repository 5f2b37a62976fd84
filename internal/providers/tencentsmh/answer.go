package tencentsmh

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/webapi"
)

// maxList bounds what is read of a task's status, in bytes: 10,000 listed parts take
// about 2 MiB.
const maxList = 16 << 20

// text is what the platform writes in one of several ways.
type text = webapi.Text

// names are a path's, of which some may be all digits.
type names []string

// UnmarshalJSON reads a list of scalars; null leaves no list.
func (n *names) UnmarshalJSON(raw []byte) error {
	var list []text
	if err := json.Unmarshal(raw, &list); err != nil {
		return err //nolint:wrapcheck // of whoever reads the answer
	}
	*n = nil
	for _, name := range list {
		*n = append(*n, string(name))
	}
	return nil
}

// tokenAnswer is the answer to CreateToken.
type tokenAnswer struct {
	AccessToken text `json:"accessToken"`
	ExpiresIn   text `json:"expiresIn"` // seconds
}

func parseToken(body []byte) (token string, life time.Duration, err error) {
	var a tokenAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return "", 0, fmt.Errorf("token: %w", err)
	}
	seconds, err := strconv.ParseInt(string(a.ExpiresIn), 10, 32)
	if a.AccessToken == "" || err != nil || seconds <= 0 {
		return "", 0, fmt.Errorf("token of %d characters, expiresIn %q", len(a.AccessToken), a.ExpiresIn)
	}
	return string(a.AccessToken), time.Duration(seconds) * time.Second, nil
}

// uploadInfo is where and how parts are put: the answer to StartUpload and
// RenewUpload, and a member of the answer to UploadStatus.
type uploadInfo struct {
	Domain     text            `json:"domain"`
	Path       text            `json:"path"`
	UploadID   text            `json:"uploadId"`
	Headers    map[string]text `json:"headers"`
	ConfirmKey text            `json:"confirmKey"`
	Expiration string          `json:"expiration"`
}

// parseInfo reads upload info. What parts are put by must be there, since the
// platform's own checks would only show later and elsewhere; a renewal may
// leave out the ids, which it does not change.
func parseInfo(body []byte) (uploadInfo, error) {
	var u uploadInfo
	if err := json.Unmarshal(body, &u); err != nil {
		return uploadInfo{}, fmt.Errorf("upload info: %w", err)
	}
	if !strings.HasPrefix(string(u.Path), "/") {
		u.Path = "/" + u.Path
	}
	if _, err := u.object("https"); err != nil {
		return uploadInfo{}, err
	}
	if len(u.Headers) == 0 {
		return uploadInfo{}, errors.New("upload info has no headers")
	}
	return u, nil
}

// object returns the address that parts are put to.
func (u uploadInfo) object(scheme string) (*url.URL, error) {
	address, err := url.Parse(scheme + "://" + string(u.Domain+u.Path))
	if err != nil {
		return nil, fmt.Errorf("upload info: %w", err)
	}
	if u.Domain == "" || address.Host != string(u.Domain) || address.RawQuery != "" || address.Fragment != "" || len(u.Path) < 2 {
		return nil, fmt.Errorf("upload info has domain %q and path %q", u.Domain, u.Path)
	}
	return address, nil
}

// expires returns when the headers lapse, zero if the platform does not say.
func (u uploadInfo) expires() time.Time {
	at, err := time.Parse(time.RFC3339, u.Expiration)
	if err != nil {
		return time.Time{}
	}
	return at
}

// fileInfo is a finished file: the answer to ConfirmUpload, FileInfo, and to a
// StartUpload whose bytes are there.
type fileInfo struct {
	Path     names           `json:"path"` // nil if a directory above was deleted
	Size     text            `json:"size"`
	ETag     text            `json:"eTag"`
	CRC64    text            `json:"crc64"`
	MetaData map[string]text `json:"metaData"`
}

// parseFile reads a finished file. One without a checksum is no file: nothing
// else in it is always there.
func parseFile(body []byte) (fileInfo, error) {
	var f fileInfo
	if err := json.Unmarshal(body, &f); err != nil {
		return fileInfo{}, fmt.Errorf("file info: %w", err)
	}
	if f.CRC64 == "" {
		return fileInfo{}, fmt.Errorf("file info of %d bytes has no crc64", len(body))
	}
	return f, nil
}

// taskStatus is the answer to UploadStatus.
type taskStatus struct {
	Confirmed *bool        `json:"confirmed"`
	Path      names        `json:"path"`
	Parts     []listedPart `json:"parts"`
}

type listedPart struct {
	PartNumber text `json:"PartNumber"`
	ETag       text `json:"ETag"`
	Size       text `json:"Size"`
}

// parseStatus reads the answer. It is an error if it does not say whether the
// task is confirmed: a missing answer must not become a no.
func parseStatus(body []byte) (taskStatus, error) {
	var s taskStatus
	if err := json.Unmarshal(body, &s); err != nil {
		return taskStatus{}, fmt.Errorf("task status: %w", err)
	}
	if s.Confirmed == nil {
		return taskStatus{}, fmt.Errorf("task status of %d bytes has no confirmed", len(body))
	}
	return s, nil
}

// found returns the listed parts that are parts of the plan, by number; what is
// of another length is left out. Of their bytes the platform tells the MD5
// only, so they come without a digest.
func (s taskStatus) found(plan parts.Plan) []parts.Stored {
	var found []parts.Stored
	var seen parts.Set
	for _, l := range s.Parts {
		number, nerr := strconv.Atoi(string(l.PartNumber))
		size, serr := strconv.ParseInt(string(l.Size), 10, 64)
		if nerr != nil || serr != nil || number < 1 || number > plan.Count() || seen.Has(number) {
			continue
		}
		part := plan.Part(number)
		if part.Length != size {
			continue
		}
		seen.Add(number)
		found = append(found, parts.Stored{Part: part, Receipt: parts.Receipt{Tag: tag(string(l.ETag))}})
	}
	slices.SortFunc(found, func(x, y parts.Stored) int { return x.Number - y.Number })
	return found
}

// tag is an ETag without its quotes.
func tag(etag string) string { return strings.ToLower(webapi.Tag(etag)) }

// Codes of the platform that decide something beyond their kind.
const (
	codeNameTaken      = "SameNameDirectoryOrFileExists"
	codeNoDirectory    = "DirectoryNotFound"
	codeUploadComplete = "UploadComplete"
	codeKeyNotFound    = "ConfirmKeyNotFound"
	codeUploadNotFound = "UploadNotFound"
	codeFileNotFound   = "FileNotFound"
	codePathNotFound   = "PathNotFound"
)

// refusal reads and classifies an answer that is no success. lost is the kind
// of one that does not tell what became of the call. The secrets are struck
// from the platform's words, should it echo them.
func refusal(call string, lost providers.Kind, resp *http.Response, secrets []string) error {
	body, err := webapi.ReadAnswer(resp.Body, webapi.MaxAnswer)
	if err != nil {
		return providers.TransportError(call, lost, err)
	}
	var said struct {
		Code    string `json:"code"    xml:"Code"`
		Message string `json:"message" xml:"Message"`
	}
	kind := codeKind
	if call == callPart {
		err, kind = xml.Unmarshal(body, &said), objectKind
	} else {
		err = json.Unmarshal(body, &said)
	}
	said.Code = webapi.Code(said.Code)
	e := &providers.Error{Call: call, Code: said.Code, Message: webapi.Words(said.Message, secrets...), RetryAfter: webapi.RetryAfter(resp.Header)}
	if err != nil || said.Code == "" {
		e.Code, e.Message = strconv.Itoa(resp.StatusCode), ""
	}
	switch status := resp.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500, status < 400:
		e.Kind = webapi.StatusKind(status, lost)
	case status == 499: // a gateway gave up on the call, which may go on
		e.Kind = lost
	default:
		e.Kind = kind(status, said.Code)
	}
	if e.Code == codeNameTaken {
		e.Message += "; submit another name, or say in options.conflict what is to become of it"
	}
	if e.Code == codeNoDirectory {
		e.Message += "; create the directory first, it is not made by uploading"
	}
	return e
}

// codeKind classifies a definite refusal of the API: the call took no effect.
func codeKind(status int, code string) providers.Kind {
	switch code {
	case "InvalidAccessToken", "NoPermission", "AccessTokenNotMatchLibrary", "AccessTokenNotMatchSpace",
		"AccessTokenVersionNotMatch", "ReadForbidden", "WriteForbidden", "WrongLibraryIdOrSecret":
		return providers.Unauthorized
	case codeKeyNotFound, codeUploadNotFound:
		return providers.SessionLost
	case "MultipartUploadIncomplete", "UploadIncomplete":
		// Every part was acknowledged and yet one is not there: the platform's own
		// list is what counts, and a new session fills it.
		return providers.SessionLost
	case "BadCrc64":
		return providers.Mismatch
	case codeUploadComplete:
		// An earlier call took effect: the status names the file.
		return providers.UnknownOutcome
	case "IncompleteBody", "LibraryInitializing", "PathConflict":
		return providers.Transient
	case "":
		if status == http.StatusUnauthorized || status == http.StatusForbidden {
			return providers.Unauthorized
		}
	}
	return providers.Rejected
}

// objectKind classifies a refusal of the object storage behind the API. Every
// 403 there is about the headers, which RenewUpload hands out anew; the codes
// differ between versions of the storage.
func objectKind(status int, code string) providers.Kind {
	switch {
	case status == http.StatusForbidden:
		return providers.Unauthorized
	case code == "NoSuchUpload":
		return providers.SessionLost
	case code == "BadDigest" || code == "InvalidDigest":
		return providers.Mismatch
	case code == "IncompleteBody" || code == "RequestTimeout":
		return providers.Transient
	default:
		return providers.Rejected
	}
}

// hasCode reports whether err is the platform's refusal with one of the codes.
func hasCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*providers.Error](err)
	return ok && slices.Contains(codes, e.Code)
}
