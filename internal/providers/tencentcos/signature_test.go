package tencentcos

import (
	"crypto/sha1"
	"encoding/hex"
	"maps"
	"strings"
	"testing"
	"time"

	"mediaferry/internal/providers/vodapi"
)

func TestSignV2Vectors(t *testing.T) {
	t.Parallel()
	common := map[string]string{"Nonce": "11886", "Region": "gz", "SecretId": dummyID, "Timestamp": "1465185768"}
	for want, params := range map[string]vodapi.Params{
		"5eqsVrUITkFLxPX86nd70NF07hQ=": {
			"Action": "ApplyUpload", "coverType": "jpg", "procedure": "QCVB_SimpleProcessFile(1,1)",
			"videoName": "my video", "videoSize": "3", "videoType": "mp4",
		},
		"u8HDx2cq5qELWGGFGVW0e8gL4UQ=": {"Action": "CommitUpload", "vodSessionKey": "3KEGq9DW/rTrx56+Uo="},
	} {
		maps.Copy(params, common)
		if got := params.Signature("GET", "vod.api.qcloud.com", v2Path, vodapi.HmacSHA1, dummyKey); got != want {
			t.Errorf("%s: got %s, want %s", params["Action"], got, want)
		}
	}
}

func TestSignTC3Vectors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		id, key, body string
		at            int64
		want          string
	}{
		"T1": {dummyID, dummyKey, `{"MediaType":"mp4"}`, 1551113065, "64080113d7c736915b6cc2079a087520ee59cb79950ab45bee57dbbe1b8aa1f6"},
		"T2": {dummyID, dummyKey, `{"VodSessionKey":"3KEGq9DW/rTrx56+Uo="}`, 1551113065, "e3b7b037d7559a1f95ed2f492f9c261c6d8bb0856e928f014bf5b3692da07e26"},
		"T3": {"AKIDtest", "EHLKtestkey", `{"VodSessionKey":"sess+/=1"}`, 1795210725, "b86badecabf0a86281bcbd53ff162f9c4b2185e3c5388f824084a7fc26fc9f9d"},
	} {
		got := signTC3(tt.id, tt.key, "vod.tencentcloudapi.com", "application/json", []byte(tt.body), time.Unix(tt.at, 0))
		want := "TC3-HMAC-SHA256 Credential=" + tt.id + "/" + time.Unix(tt.at, 0).UTC().Format("2006-01-02") +
			"/vod/tc3_request, SignedHeaders=content-type;host, Signature=" + tt.want
		if got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestSignStorageVectors(t *testing.T) {
	t.Parallel()
	const (
		id   = "AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q"
		key  = "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz"
		host = "examplebucket-1250000000.cos.ap-beijing.myqcloud.com"
	)
	headers := func(pairs ...string) map[string]string {
		all := map[string]string{"Host": host}
		for i := 0; i < len(pairs); i += 2 {
			all[pairs[i]] = pairs[i+1]
		}
		return all
	}
	for name, tt := range map[string]struct {
		request storageRequest
		want    string
	}{
		"C0": {storageRequest{method: "PUT", path: "/exampleobject(腾讯云)", headers: headers(
			"Content-Length", "13", "Content-MD5", "mQ/fVh815F3k6TAUm8m0eg==", "Content-Type", "text/plain",
			"Date", "Thu, 16 May 2019 06:45:51 GMT", "x-cos-acl", "private", "x-cos-grant-read", `uin="100000000011"`,
		)}, "3b8851a11a569213c17ba8fa7dcf2abec6935172"},
		"C1": {storageRequest{method: "PUT", path: "/dir/name.mp4", headers: headers("content-length", "13")}, "5f02b5a418364c1a517bb6ba52d414c6a34729bd"},
		"C2": {storageRequest{method: "PUT", path: "/dir/name.mp4", headers: headers("content-length", "13", headerToken, "tok123")}, "52d2ec1ad7d9fd1b454acb4a3e35cbf35a538bea"},
		"C3": {storageRequest{
			method: "POST", path: "/dir/name.mp4", query: map[string]string{"uploads": ""},
			headers: headers("content-length", "0", headerToken, "tok123"),
		}, "2734c70e2c070a18f161044adc5da6528e0afb86"},
		"C4": {storageRequest{
			method: "PUT", path: "/dir/name.mp4", query: map[string]string{"partNumber": "1", "uploadId": "uid/1="},
			headers: headers("content-length", "1048576", "content-md5", "OScKloo1fSQgfpkRFiUH6w==", headerToken, "tok123"),
		}, "050b3849f6d973ca91acfd0b29f24d5d0cec6bba"},
		"C5": {storageRequest{
			method: "POST", path: "/dir/name.mp4", query: map[string]string{"uploadId": "uid1"},
			headers: headers("content-length", "119", "content-type", "application/xml", headerToken, "tok123"),
		}, "aff6c9c52219cdb1a705cc759ab3506f0f8ff021"},
	} {
		got := tt.request.sign(id, key, time.Unix(1557989151, 0), time.Unix(1557996351, 0))
		if !strings.HasSuffix(got, "&q-signature="+tt.want) {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
		if name == "C4" && got != "q-sign-algorithm=sha1&q-ak="+id+"&q-sign-time=1557989151;1557996351&q-key-time=1557989151;1557996351"+
			"&q-header-list=content-length;content-md5;host;x-cos-security-token&q-url-param-list=partnumber;uploadid&q-signature="+tt.want {
			t.Errorf("C4 in full: %s", got)
		}
	}
	if got := hex.EncodeToString(mac(sha1.New, []byte(key), "1557989151;1557996351")); got != "eb2519b498b02ac213cb1f3d1a3d27a3b3c9bc5f" {
		t.Errorf("SignKey is %s", got)
	}
}
