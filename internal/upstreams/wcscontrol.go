package upstreams

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Codes of the control API.
const (
	wcsOK          = 200
	wcsParameter   = 1000
	wcsNameTooLong = 1500
	wcsIDOdd       = 1504
	wcsMD5Empty    = 1604
	wcsMD5TooLong  = 1605
	wcsNameEmpty   = 1606
	wcsOverwrite   = 1608
)

// wcsEnvelope is the JSON of the control API's answers.
type wcsEnvelope struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

func controlRefusal(status, code int, format string, args ...any) wcsReply {
	return wcsReply{status, wcsEnvelope{Code: code, Message: fmt.Sprintf(format, args...)}}
}

// serveControl authenticates a call of the control API, lets a fault have its
// way and carries it out.
func (w *WCS) serveControl(rw http.ResponseWriter, r *http.Request) {
	c := &callInHand{
		Call: Call{At: w.now(), Action: strings.TrimPrefix(r.URL.Path, "/vod/videoManage/"), Method: r.Method},
		body: r.Body,
	}
	payload, err := io.ReadAll(io.LimitReader(c, 1<<20))
	if err != nil {
		return // the caller left
	}
	params, perr := controlParams(r, payload)
	account, err := verifyControl(r, payload, w.config.Keys, w.now(), !w.config.Strict)
	c.Account, c.File = account, params.Get("fileId")+params.Get("videoId")
	if !w.begin(c, r) {
		return
	}
	var reply wcsReply
	switch {
	case err != nil:
		reply = controlRefusal(http.StatusUnauthorized, http.StatusUnauthorized, "%v", err)
	case perr != nil:
		reply = controlRefusal(http.StatusOK, wcsParameter, "%v", perr)
	case !w.withinRate(account + " " + c.Action):
		reply = controlRefusal(http.StatusTooManyRequests, http.StatusTooManyRequests, "more than %d calls in %s", w.config.Rate, wcsRatePer)
	case !c.fault.carriesOut():
	case c.Action == ActionGetUploadToken:
		reply = w.getUploadToken(c, r.Host, params)
	case c.Action == ActionGetVideoList:
		reply = w.getVideoList(c, params)
	default:
		reply = controlRefusal(http.StatusNotFound, http.StatusNotFound, "no call %q", c.Action)
	}
	w.end(rw, c, nil, reply, controlRefusal(http.StatusOK, c.fault.Code, "%s", asked(r)))
}

// withinRate reports whether the rate allows one more call of the kind, and
// counts it if so.
func (w *WCS) withinRate(kind string) bool {
	if w.config.Rate == 0 {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	since := w.now().Add(-wcsRatePer)
	recent := slices.DeleteFunc(w.rates[kind], func(at time.Time) bool { return at.Before(since) })
	if len(recent) < w.config.Rate {
		w.rates[kind] = append(recent, w.now())
		return true
	}
	w.rates[kind] = recent
	return false
}

// controlParams reads the parameters from the query, a form, or a JSON object.
func controlParams(r *http.Request, payload []byte) (url.Values, error) {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	var params url.Values
	var err error
	switch {
	case r.Method == http.MethodGet:
		params, err = url.ParseQuery(r.URL.RawQuery)
	case r.Method != http.MethodPost:
		return nil, fmt.Errorf("method %s", r.Method)
	case strings.TrimSpace(kind) == "application/json":
		d := json.NewDecoder(bytes.NewReader(payload))
		d.UseNumber()
		var object map[string]any
		if err = d.Decode(&object); err == nil {
			params = make(url.Values, len(object))
			for name, value := range object {
				params.Set(name, fmt.Sprint(value))
			}
		}
	default:
		params, err = url.ParseQuery(string(payload))
	}
	if err != nil {
		return nil, fmt.Errorf("parameters: %w", err)
	}
	return params, nil
}

// getUploadToken names a video and grants its upload. With the breakpoint id of
// an unfinished video it grants that one again, under a fresh token.
func (w *WCS) getUploadToken(c *callInHand, host string, params url.Values) wcsReply {
	name, id, overwrite := params.Get("originFileName"), params.Get("fileId"), params.Get("overwrite")
	sum := params.Get("fileMd5")
	switch {
	case name == "":
		return controlRefusal(http.StatusOK, wcsNameEmpty, "The video name cannot be empty")
	case utf8.RuneCountInString(name) > 40:
		return controlRefusal(http.StatusOK, wcsNameTooLong, "The file name has exceeded 40 characters")
	case overwrite != "" && overwrite != "0" && overwrite != "1":
		return controlRefusal(http.StatusOK, wcsOverwrite, "Parameter overwrite is neither 0 nor 1")
	case params.Has("fileMd5") && sum == "":
		return controlRefusal(http.StatusOK, wcsMD5Empty, "The file MD5 value cannot be empty")
	case len(sum) > 32:
		return controlRefusal(http.StatusOK, wcsMD5TooLong, "The length of MD5 string is too long")
	case len(id) > 32:
		return controlRefusal(http.StatusOK, wcsParameter, "fileId has more than 32 characters")
	}
	v := w.openVideo(wcsFile{c.Account, id}, name)
	policy := map[string]any{
		"scope":    wcsBucket + ":" + v.key,
		"deadline": strconv.FormatInt(w.now().Add(w.config.TokenLife).UnixMilli(), 10),
	}
	if overwrite == "1" {
		policy["overwrite"] = 1
	}
	text, _ := json.Marshal(policy) // strings and a number always have a JSON form
	return wcsReply{http.StatusOK, wcsEnvelope{Code: wcsOK, Message: "Operation successfully", Data: map[string]string{
		"speedDomainlUrl": "",
		"bucketName":      wcsBucket,
		"uploadUrl":       "http://" + host,
		"uploadToken":     mintToken(w.accessKey, w.secretKey, text),
		"fileKey":         v.key,
		"httpDnsServer":   "",
		"videoId":         v.id,
	}}}
}

func (w *WCS) openVideo(file wcsFile, name string) *wcsVideo {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v := w.open[file]; v != nil && file.fileID != "" {
		return v
	}
	ext := path.Ext(name)
	v := &wcsVideo{
		wcsFile: file, id: randomHex(16), name: name,
		key: fmt.Sprintf("video/%s/%s/%s_%s%s", w.now().UTC().Format("20060102"), randomHex(16),
			strings.TrimSuffix(path.Base(name), ext), randomHex(16), ext),
	}
	if w.config.Dir != "" {
		v.path = path.Join(w.config.Dir, v.id)
	}
	w.videos[v.key] = v
	if file.fileID != "" {
		w.open[file] = v
	}
	return v
}

// getVideoList lists finished videos of the account, newest first. The filters
// are videoId and videoName.
func (w *WCS) getVideoList(c *callInHand, params url.Values) wcsReply {
	page, size := 1, 10
	for name, into := range map[string]*int{"pageIndex": &page, "pageSize": &size} {
		if !params.Has(name) {
			continue
		}
		n, err := strconv.Atoi(params.Get(name))
		if err != nil || n < 1 {
			return controlRefusal(http.StatusOK, wcsParameter, "%s %q is not a number from 1", name, params.Get(name))
		}
		*into = n
	}
	id := params.Get("videoId")
	switch {
	case size > 50 || page*size >= 100_000:
		return controlRefusal(http.StatusOK, wcsParameter, "pageSize %d or pageIndex %d is too large", size, page)
	case strings.ContainsFunc(id, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }):
		return controlRefusal(http.StatusOK, wcsIDOdd, "The videoId has special characters")
	}
	type entry struct {
		VideoID     string `json:"videoId"`
		VideoName   string `json:"videoName"`
		VideoSize   int64  `json:"videoSize"`
		UploadTime  string `json:"uploadTime"`
		VideoState  int    `json:"videoState"`
		Transcode   int    `json:"transcodeState"`
		VideoSource int    `json:"videoSourceCode"`
		finished    time.Time
	}
	found := []entry{}
	w.mu.Lock()
	all := slices.Collect(maps.Values(w.videos))
	w.mu.Unlock()
	for _, v := range all {
		if v.account != c.Account || (id != "" && v.id != id) || !strings.Contains(v.name, params.Get("videoName")) {
			continue
		}
		v.mu.Lock()
		if v.content != nil && !w.now().Before(v.finished.Add(w.config.ListDelay)) {
			found = append(found, entry{
				VideoID: v.id, VideoName: v.name, VideoSize: v.content.size(), UploadTime: v.finished.UTC().Format(time.DateTime),
				Transcode: 2, VideoSource: 1, finished: v.finished,
			})
		}
		v.mu.Unlock()
	}
	slices.SortFunc(found, func(a, b entry) int { return b.finished.Compare(a.finished) })
	total := len(found)
	found = found[min((page-1)*size, total):min(page*size, total)]
	return wcsReply{http.StatusOK, wcsEnvelope{Code: wcsOK, Message: "Operation successfully", Data: map[string]any{
		"videoTotal": total, "videoListInfo": found,
	}}}
}
