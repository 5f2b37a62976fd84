package cdnetworks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/settings"
	"mediaferry/internal/providers/webapi"
)

// The control API's names of the calls, and where they are.
const (
	callToken   = "getUploadToken"
	callList    = "getVideoList"
	controlPath = "/vod/videoManage/"
)

// maxList bounds what is read of an answer, in bytes: a page of the list is the
// longest.
const maxList = 1 << 20

// Codes of the control API's answers.
const (
	codeOK           = 200
	codeNoPermission = 1301
	codeNoVideo      = 1502
)

// envelope is what every answer of the control API comes in.
type envelope struct {
	Code    number          `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data"`
}

// parseEnvelope reads one. It is an error if it has no code.
func parseEnvelope(body []byte) (envelope, error) {
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return envelope{}, fmt.Errorf("answer of %d bytes: %w", len(body), err)
	}
	if e.Code == "" {
		return envelope{}, fmt.Errorf("answer of %d bytes has no code", len(body))
	}
	return e, nil
}

// grant is the answer of getUploadToken.
type grant struct {
	UploadURL   webapi.Text `json:"uploadUrl"`
	UploadToken webapi.Text `json:"uploadToken"`
	FileKey     webapi.Text `json:"fileKey"`
	VideoID     webapi.Text `json:"videoId"`
	BucketName  webapi.Text `json:"bucketName"` // in the documents' example alone
}

// check says which field of the grant cannot be used, without quoting the token.
func (g grant) check() error {
	switch {
	case !settings.IsOrigin(string(g.UploadURL)):
		return fmt.Errorf("uploadUrl is %q", g.UploadURL)
	case g.UploadToken == "" || strings.ContainsFunc(string(g.UploadToken), func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("uploadToken is none")
	case g.FileKey == "" || g.VideoID == "":
		return errors.New("fileKey or videoId is missing")
	}
	return nil
}

// uploadToken calls getUploadToken.
func (c *Client) uploadToken(ctx context.Context, t target, form url.Values) (grant, error) {
	data, err := c.control(ctx, t, callToken, form)
	if err != nil {
		return grant{}, err
	}
	var g grant
	if json.Unmarshal(data, &g) != nil { // its words could quote the token
		err = errors.New("data is no grant")
	} else {
		g.UploadURL = webapi.Text(strings.TrimSuffix(string(g.UploadURL), "/"))
		err = g.check()
	}
	if err != nil {
		return grant{}, &providers.Error{Kind: providers.Transient, Call: callToken, Code: "200", Message: "the answer cannot be used", Err: err}
	}
	return g, nil
}

// listedVideo is an entry of the answer of getVideoList.
type listedVideo struct {
	ID        webapi.Text     `json:"videoId"`
	Size      number          `json:"videoSize"`  // bytes
	State     json.RawMessage `json:"videoState"` // as it came, for a person
	Transcode json.RawMessage `json:"transcodeState"`
}

// video calls getVideoList for one video.
func (c *Client) video(ctx context.Context, t target, id string) (v listedVideo, listed bool, err error) {
	data, err := c.control(ctx, t, callList, url.Values{"videoId": {id}})
	if e, ok := errors.AsType[*providers.Error](err); ok && e.Code == strconv.Itoa(codeNoVideo) {
		return listedVideo{}, false, nil
	}
	if err != nil {
		return listedVideo{}, false, err
	}
	return findVideo(data, id)
}

func findVideo(data []byte, id string) (v listedVideo, listed bool, err error) {
	var list *struct {
		Videos []listedVideo `json:"videoListInfo"`
	}
	if err := json.Unmarshal(data, &list); err != nil || list == nil {
		// No list is not an empty one: "not there" must be said, not guessed.
		return listedVideo{}, false, &providers.Error{Kind: providers.Transient, Call: callList, Code: "200", Message: "the answer has no list", Err: err}
	}
	for _, v := range list.Videos {
		if string(v.ID) == id {
			return v, true, nil
		}
	}
	return listedVideo{}, false, nil
}

// control makes one signed call and returns the data of its answer. All calls
// of the control API may be repeated.
func (c *Client) control(ctx context.Context, t target, call string, form url.Values) (json.RawMessage, error) {
	payload := form.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.endpoint+controlPath+call, strings.NewReader(payload))
	if err != nil {
		return nil, &providers.Error{Kind: providers.Rejected, Call: call, Err: err}
	}
	t.sign(req, []byte(payload), c.now())
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, providers.TransportError(call, providers.Transient, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := webapi.ReadAnswer(resp.Body, maxList)
	if err != nil {
		return nil, providers.TransportError(call, providers.Transient, err)
	}
	got, err := parseEnvelope(body)
	status := resp.StatusCode
	ok := status >= 200 && status < 300
	switch {
	case ok && err != nil:
		return nil, &providers.Error{Kind: providers.Transient, Call: call, Code: strconv.Itoa(status), Message: "the answer cannot be read", Err: err}
	case ok && got.Code.value() == codeOK:
		return got.Data, nil
	}
	e := &providers.Error{
		Kind: controlKind(status, got.Code.value()), Call: call, Code: string(got.Code),
		Message: webapi.Words(got.Message, req.Header.Get("Authorization"), t.secretKey.Reveal(), t.accessKey), RetryAfter: webapi.RetryAfter(resp.Header),
	}
	if e.Code == "" {
		e.Code = strconv.Itoa(status)
	}
	return nil, e
}

// controlKind classifies a failure of the control API, which states most of
// them under status 200. A code that is not known is final.
func controlKind(status int, code int64) providers.Kind {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, code == http.StatusTooManyRequests:
		return providers.Throttled
	case status >= 500, status == http.StatusRequestTimeout, status >= 300 && status < 400: // a redirect is not the platform's
		return providers.Transient
	case status == http.StatusUnauthorized, status == http.StatusForbidden,
		code == http.StatusUnauthorized, code == http.StatusForbidden, code == codeNoPermission:
		return providers.Unauthorized
	default:
		return providers.Rejected
	}
}
