package tencent

import (
	"bytes"
	"testing"

	"github.com/tencentyun/vod-go-sdk"

	"mediaferry/internal/upstreams"
)

// ApplyUpload of API 3.0, a cover in one call, a video in parts, CommitUpload:
// with temporary credentials, and with the caller's own keys where the
// platform hands out none.
func TestVODUpload(t *testing.T) {
	t.Parallel()
	for name, ownKeys := range map[string]bool{"temporary credentials": false, "own keys": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			platform := upstreams.NewVODApply(upstreams.VODApplyConfig{
				Keys: map[string]string{secretID: secretKey}, Dir: t.TempDir(), Strict: true, OwnKeys: ownKeys,
			})
			way := serve(t, platform)
			video, data := file(t, "my film.mp4", 6<<20+1)
			cover, image := file(t, "cover.jpg", 1000)
			request := vod.NewVodUploadRequest()
			request.MediaFilePath, request.CoverFilePath = new(video), new(cover)
			request.SourceContext = new("a&b=c")
			client := vod.VodUploadClient{SecretId: secretID, SecretKey: secretKey, Transport: way}
			answer, err := client.Upload("ap-guangzhou", request)
			if err != nil {
				t.Fatal(err)
			}
			if *answer.Response.FileId == "" {
				t.Error("there is no file id")
			}
			if !bytes.Equal(fetch(t, way, *answer.Response.MediaUrl), data) {
				t.Error("the media is not what was sent")
			}
			if !bytes.Equal(fetch(t, way, *answer.Response.CoverUrl), image) {
				t.Error("the cover is not what was sent")
			}
			calls := platform.Storage().Calls()
			for action, want := range map[string]int{
				upstreams.ActionApply: 1, upstreams.COSPutObject: 1, upstreams.COSInitiate: 1, upstreams.COSUploadPart: 7,
				upstreams.COSComplete: 1, upstreams.ActionCommit: 1,
			} {
				if got := count(calls, action); got != want {
					t.Errorf("%d calls of %s, want %d", got, action, want)
				}
			}
			for _, c := range calls {
				if c.Outcome != "ok" {
					t.Errorf("%s: %s", c.Action, c.Outcome)
				}
			}
		})
	}
}

// The client reads the platform's refusals.
func TestVODRefusal(t *testing.T) {
	t.Parallel()
	platform := upstreams.NewVODApply(upstreams.VODApplyConfig{Keys: map[string]string{secretID: secretKey}})
	video, _ := file(t, "my film.mp4", 10)
	request := vod.NewVodUploadRequest()
	request.MediaFilePath = new(video)
	client := vod.VodUploadClient{SecretId: secretID, SecretKey: "another", Transport: serve(t, platform)}
	if _, err := client.Upload("ap-guangzhou", request); err == nil {
		t.Error("a wrong key is taken")
	}
}
