package tencentcos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/vodapi"
	"mediaferry/internal/providers/webapi"
	"mediaferry/internal/uploads"
)

// The platform's names of the calls.
const (
	actionApply  = "ApplyUpload"
	actionCommit = "CommitUpload"
)

const (
	v2Path    = "/v2/index.php"
	v3Version = "2018-07-17"

	// maxList bounds what is read of a list of the storage's, in bytes: a page of a
	// thousand parts takes about 200 KiB.
	maxList = 8 << 20
)

// place is what ApplyUpload hands out.
type place struct {
	bucket     string // with the APPID
	region     string // of the storage
	mediaKey   string // without the slash that the platform writes before it
	coverKey   string // "" if none was asked for
	sessionKey string
	grant      *grant // nil where requests to the storage are signed with the account's own key
}

// grant is temporary credentials for the place.
type grant struct {
	secretID, secretKey, token string
	expires                    time.Time
}

// application is what ApplyUpload is asked for.
type application struct {
	options

	name       string // without the extension
	size       int64  // bytes
	cover      bool
	coverSize  int64  // bytes
	path       string // that the media shall have; "" leaves it to the platform
	sessionKey string // of a session to be renewed; "" for a new one
}

// apply opens a session with the platform. Every call opens another one.
func (c *Client) apply(ctx context.Context, t target, a application) (place, error) {
	if t.API == apiV2 {
		return c.applyV2(ctx, t, a)
	}
	return c.applyV3(ctx, t, a)
}

func (c *Client) applyV2(ctx context.Context, t target, a application) (place, error) {
	if a.sessionContext != "" || a.expireTime != "" {
		return place{}, &providers.Error{
			Kind: providers.Rejected, Call: actionApply,
			Message: "options session_context and expire_time need API 3.0; leave them out or set the account's api to 3.0",
		}
	}
	params := map[string]string{
		"videoType":        a.fileType,
		"videoName":        a.name,
		"videoSize":        strconv.FormatInt(a.size, 10),
		"procedure":        a.procedure,
		"classId":          a.classID,
		"sourceContext":    a.sourceContext,
		"videoStoragePath": a.path,
		"vodSessionKey":    a.sessionKey,
	}
	if a.cover {
		params["coverType"] = a.coverType
		params["coverSize"] = strconv.FormatInt(a.coverSize, 10)
	}
	got, err := c.callV2(ctx, t.service, actionApply, params)
	if err != nil {
		return place{}, err
	}
	p := place{region: string(got.StorageRegionV5), sessionKey: string(got.SessionKey)}
	if p.region == "" {
		p.region = t.cosRegion
	}
	appID := string(got.StorageAppID)
	if appID == "" {
		appID = t.appID
	}
	if p.sessionKey != "" && (p.region == "" || appID == "") {
		return place{}, &providers.Error{
			Kind: providers.Rejected, Call: actionApply,
			Message: "the answer names no storageAppId or storageRegionV5; set cos_app_id and cos_region for the account",
		}
	}
	if got.StorageBucket != "" {
		p.bucket = string(got.StorageBucket) + "-" + appID
	}
	if got.Video != nil {
		p.mediaKey = keyOf(string(got.Video.StoragePath))
	}
	if got.Cover != nil {
		p.coverKey = keyOf(string(got.Cover.StoragePath))
	}
	return p.checked(a)
}

func (c *Client) applyV3(ctx context.Context, t target, a application) (place, error) {
	params := map[string]any{"MediaType": a.fileType, "MediaName": a.name}
	for name, value := range map[string]string{
		"Procedure":        a.procedure,
		"ExpireTime":       a.expireTime,
		"SourceContext":    a.sourceContext,
		"SessionContext":   a.sessionContext,
		"MediaStoragePath": a.path,
		"VodSessionKey":    a.sessionKey,
	} {
		if value != "" {
			params[name] = value
		}
	}
	if a.classID != "" {
		params["ClassId"] = json.Number(a.classID)
	}
	if a.cover {
		params["CoverType"] = a.coverType
	}
	got, err := c.callV3(ctx, t.service, actionApply, params)
	if err != nil {
		return place{}, err
	}
	p := place{
		bucket: string(got.StorageBucket), region: string(got.StorageRegion), sessionKey: string(got.SessionKey),
		mediaKey: keyOf(string(got.MediaStoragePath)), coverKey: keyOf(string(got.CoverStoragePath)),
	}
	if temporary := got.TempCertificate; temporary != nil {
		p.grant = &grant{
			secretID: string(temporary.SecretID), secretKey: string(temporary.SecretKey), token: string(temporary.Token),
			expires: time.Unix(int64(temporary.ExpiredTime), 0),
		}
	}
	return p.checked(a)
}

// keyOf returns the object's key of a storage path.
func keyOf(storagePath string) string { return strings.TrimPrefix(storagePath, "/") }

// checked returns the place if it has all that the application asked for.
func (p place) checked(a application) (place, error) {
	if p.bucket == "" || p.region == "" || p.mediaKey == "" || p.sessionKey == "" || (a.cover && p.coverKey == "") {
		return place{}, &providers.Error{
			Kind: providers.Transient, Call: actionApply,
			Message: "the answer lacks a bucket, a region, a path or a session key",
		}
	}
	return p, nil
}

// commit makes media of what is stored. The session key names the media, so a
// repeated commit is one of the same media.
func (c *Client) commit(ctx context.Context, s service, sessionKey string) (uploads.Asset, error) {
	var asset uploads.Asset
	detail := make(map[string]webapi.Text)
	if s.API == apiV2 {
		got, err := c.callV2(ctx, s, actionCommit, map[string]string{"vodSessionKey": sessionKey})
		if err != nil {
			return uploads.Asset{}, err
		}
		asset.ID = string(got.FileID)
		if got.Video != nil {
			asset.URL, detail["verify_content"] = string(got.Video.URL), got.Video.VerifyContent
		}
		if got.Cover != nil {
			detail["cover_url"] = got.Cover.URL
		}
	} else {
		got, err := c.callV3(ctx, s, actionCommit, map[string]any{"VodSessionKey": sessionKey})
		if err != nil {
			return uploads.Asset{}, err
		}
		asset.ID, asset.URL, detail["cover_url"] = string(got.FileID), string(got.MediaURL), got.CoverURL
	}
	if asset.ID == "" {
		return uploads.Asset{}, &providers.Error{Kind: providers.UnknownOutcome, Call: actionCommit, Message: "the answer names no file id"}
	}
	for name, value := range detail {
		if value != "" {
			if asset.Detail == nil {
				asset.Detail = make(map[string]string)
			}
			asset.Detail[name] = string(value)
		}
	}
	return asset, nil
}

// lost is the kind of a call's failure that does not say what became of it.
func lost(call string) providers.Kind {
	if call == actionCommit || call == callComplete {
		return providers.UnknownOutcome
	}
	return providers.Transient
}

// v2Answer is the JSON of API v2.
type v2Answer struct {
	Code            *webapi.Int `json:"code"` // nil where the body was some other JSON
	Message         string      `json:"message"`
	StorageAppID    webapi.Text `json:"storageAppId"`
	StorageBucket   webapi.Text `json:"storageBucket"`
	StorageRegionV5 webapi.Text `json:"storageRegionV5"`
	SessionKey      webapi.Text `json:"vodSessionKey"`
	FileID          webapi.Text `json:"fileId"` // beyond the range of int64
	Video           *v2File     `json:"video"`
	Cover           *v2File     `json:"cover"`
}

type v2File struct {
	StoragePath   webapi.Text `json:"storagePath"`
	URL           webapi.Text `json:"url"`
	VerifyContent webapi.Text `json:"verify_content"`
}

// parseV2 reads an answer of API v2. It is an error if it has no code: zero
// means success, so a missing one must not become it.
func parseV2(body []byte) (v2Answer, error) {
	var a v2Answer
	if err := json.Unmarshal(body, &a); err != nil {
		return v2Answer{}, fmt.Errorf("answer of %d bytes: %w", len(body), err)
	}
	if a.Code == nil {
		return v2Answer{}, fmt.Errorf("answer of %d bytes has no code", len(body))
	}
	return a, nil
}

// callV2 makes one call of API v2, with its parameters in the body, where no
// log of a proxy shows them. Empty parameters are left out.
func (c *Client) callV2(ctx context.Context, s service, action string, params map[string]string) (v2Answer, error) {
	params["Action"] = action
	params["SecretId"] = s.SecretID
	params["Timestamp"] = strconv.FormatInt(c.now().Unix(), 10)
	params["Nonce"] = strconv.FormatUint(uint64(vodapi.Nonce()), 10)
	params["Region"] = s.Region
	params["SubAppId"] = s.SubAppID
	form := make(url.Values, len(params)+1)
	for name, value := range params {
		if value == "" {
			delete(params, name)
			continue
		}
		form.Set(name, value)
	}
	signature := vodapi.Params(params).Signature(http.MethodPost, s.host(), v2Path, vodapi.HmacSHA1, s.SecretKey)
	form.Set("Signature", signature)
	body, err := c.post(ctx, action, s.Endpoint+v2Path, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(form.Encode()))
	if err != nil {
		return v2Answer{}, err
	}
	a, err := parseV2(body)
	if err != nil {
		return v2Answer{}, &providers.Error{Kind: lost(action), Call: action, Code: "200", Message: "the answer cannot be read", Err: err}
	}
	if *a.Code != 0 {
		return v2Answer{}, &providers.Error{
			Kind: v2Kind(action, int(*a.Code)), Call: action, Code: strconv.Itoa(int(*a.Code)),
			Message: webapi.Words(a.Message, s.SecretID, signature, params["vodSessionKey"]),
		}
	}
	return a, nil
}

// host returns the endpoint without its scheme.
func (s service) host() string {
	_, host, _ := strings.Cut(s.Endpoint, "://")
	return host
}

// v2Kind classifies a failure that the platform stated in API v2. It is a
// definite answer, but for an error of the platform's own making.
func v2Kind(action string, code int) providers.Kind {
	switch kind := vodapi.APIKind(code); {
	case kind != "":
		return kind
	case code == vodapi.CodeRepairs:
		return providers.Transient
	case code == vodapi.CodeLater, code == vodapi.CodeInternal, code == 32001:
		return lost(action)
	case code == 31001:
		return providers.SessionLost
	default:
		return providers.Rejected
	}
}

// v3Answer is the JSON of API 3.0.
type v3Answer struct {
	RequestID        webapi.Text `json:"RequestId"`
	Error            *v3Error    `json:"Error"`
	StorageBucket    webapi.Text `json:"StorageBucket"` // with the APPID
	StorageRegion    webapi.Text `json:"StorageRegion"`
	SessionKey       webapi.Text `json:"VodSessionKey"`
	MediaStoragePath webapi.Text `json:"MediaStoragePath"`
	CoverStoragePath webapi.Text `json:"CoverStoragePath"`
	TempCertificate  *struct {
		SecretID    webapi.Text `json:"SecretId"`
		SecretKey   webapi.Text `json:"SecretKey"`
		Token       webapi.Text `json:"Token"`
		ExpiredTime webapi.Int  `json:"ExpiredTime"` // Unix seconds
	} `json:"TempCertificate"`
	FileID   webapi.Text `json:"FileId"`
	MediaURL webapi.Text `json:"MediaUrl"`
	CoverURL webapi.Text `json:"CoverUrl"`
}

type v3Error struct {
	Code    string `json:"Code"`
	Message string `json:"Message"`
}

// parseV3 reads an answer of API 3.0. It is an error if nothing in it says
// that it is one.
func parseV3(body []byte) (v3Answer, error) {
	var a struct {
		Response *v3Answer `json:"Response"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return v3Answer{}, fmt.Errorf("answer of %d bytes: %w", len(body), err)
	}
	if a.Response == nil || a.Response.RequestID == "" {
		return v3Answer{}, fmt.Errorf("answer of %d bytes has no Response with a RequestId", len(body))
	}
	return *a.Response, nil
}

// callV3 makes one call of API 3.0.
func (c *Client) callV3(ctx context.Context, s service, action string, params map[string]any) (v3Answer, error) {
	if s.SubAppID != "" {
		params["SubAppId"] = json.Number(s.SubAppID)
	}
	body, err := json.Marshal(params)
	if err != nil {
		return v3Answer{}, &providers.Error{Kind: providers.Rejected, Call: action, Err: err}
	}
	const contentType = "application/json"
	now := c.now()
	authorization := signTC3(s.SecretID, s.SecretKey, s.host(), contentType, body, now)
	header := make(http.Header)
	header.Set("Content-Type", contentType)
	header.Set("Authorization", authorization)
	header.Set("X-TC-Action", action)
	header.Set("X-TC-Version", v3Version)
	header.Set("X-TC-Timestamp", strconv.FormatInt(now.Unix(), 10))
	header.Set("X-TC-Region", s.Region)
	text, err := c.post(ctx, action, s.Endpoint+"/", header, body)
	if err != nil {
		return v3Answer{}, err
	}
	a, err := parseV3(text)
	if err != nil {
		return v3Answer{}, &providers.Error{Kind: lost(action), Call: action, Code: "200", Message: "the answer cannot be read", Err: err}
	}
	if a.Error != nil {
		sessionKey, _ := params["VodSessionKey"].(string)
		return v3Answer{}, &providers.Error{
			Kind: v3Kind(action, a.Error.Code), Call: action, Code: webapi.Code(a.Error.Code),
			Message: webapi.Words(a.Error.Message, s.SecretID, authorization, sessionKey),
		}
	}
	return a, nil
}

// Codes of API 3.0 that mean more than a refusal.
const (
	v3SessionKey = "InvalidParameterValue.VodSessionKey"
	v3NotFound   = "ResourceNotFound"
)

// v3Kind classifies a failure that the platform stated in API 3.0.
func v3Kind(action, code string) providers.Kind {
	family, _, _ := strings.Cut(code, ".")
	switch {
	case code == "AuthFailure.SignatureExpire":
		return providers.Transient // one of the clocks is off
	case family == "AuthFailure", family == "UnauthorizedOperation":
		return providers.Unauthorized
	case family == "RequestLimitExceeded":
		return providers.Throttled
	case family == "InternalError", family == "FailedOperation":
		return lost(action)
	case code == v3SessionKey, family == v3NotFound:
		return providers.SessionLost
	default:
		return providers.Rejected
	}
}

// post makes one request of the platform's API and returns the body of a 200.
// A transport repeats a POST by itself only if nothing of it was sent.
func (c *Client) post(ctx context.Context, action, address string, header http.Header, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(string(body)))
	if err != nil {
		return nil, &providers.Error{Kind: providers.Rejected, Call: action, Err: err}
	}
	req.Header = header
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, providers.TransportError(action, lost(action), err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := webapi.ReadAnswer(resp.Body, webapi.MaxAnswer)
	if err != nil {
		return nil, providers.TransportError(action, lost(action), err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &providers.Error{
			Kind: webapi.StatusKind(resp.StatusCode, lost(action)), Call: action, Code: strconv.Itoa(resp.StatusCode),
			RetryAfter: webapi.RetryAfter(resp.Header),
		}
	}
	return text, nil
}

// title returns the name that viewers see: that of the file, without an
// extension that is its type.
func title(name, fileType string) string {
	if extension(name) == fileType {
		return strings.TrimSuffix(name, path.Ext(name))
	}
	return name
}
