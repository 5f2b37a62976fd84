package pages_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mediaferry/client"
	"mediaferry/internal/access"
	"mediaferry/internal/api/apitest"
	"mediaferry/internal/uploads"
)

// hostile is a name that would be an element if it were taken for markup.
const hostile = `<img src=x onerror="document.title='taken over'">.mp4`

// unbroken is a name that nowhere invites a line to end, written from right to left at first.
const unbroken = "تقرير_season_seven_directors_cut_season_seven_directors_cut_season_seven_directors_cut_season_seven_directors_cut.mp4"

// world is a day in the life of a dispatcher.
type world struct {
	*apitest.UseCases

	base   string
	ids    map[string]uploads.ID // by name
	token  string
	client *client.Client
}

const gib = int64(1) << 30

// start makes the world. Its API takes any token of it, or with open no token.
func start(t *testing.T, open bool) *world {
	t.Helper()
	now := time.Now()
	w := &world{UseCases: &apitest.UseCases{Names: []string{"films", "archive", "slow"}}, ids: map[string]uploads.ID{}}
	if !open {
		tokens := &apitest.Tokens{}
		_, w.token = tokens.Make(t, "default", access.Read, access.Submit, access.Operate)
		w.Tokens = tokens
	}
	w.Account = func(a *uploads.AccountStatus) {
		switch a.Name {
		case "films":
			a.InFlight, a.Active, a.Goodput, a.Window = 180<<20, 2, 231<<20, 192<<20
			a.CutAt, a.CutFor = now.Add(-4*time.Minute), "throttled"
		case "slow":
			a.Active = 3
		}
	}
	for i := range 366 { // some of them are yet to come
		at := now.Add(time.Duration(i-360) * 10 * time.Second).Truncate(10 * time.Second)
		wave := 1 + 0.5*math.Sin(float64(i)/23) + 0.2*math.Sin(float64(i)/3)
		if i > 200 && i < 230 {
			wave *= 0.15
		}
		w.Moved = append(w.Moved, uploads.Moved{At: at, Bytes: int64(wave * 4e9)})
	}
	for i := range 4 {
		w.Workers = append(w.Workers, uploads.WorkerStatus{ID: fmt.Sprintf("ferry-%d", i+1), Pool: "default", Slots: 4, Busy: 4 - i%3, BytesMoved: int64(i+3) * 40 * gib, SeenAt: now})
	}
	w.Tries = []uploads.TryGroup{
		{Account: "slow", Kind: "throttled", Code: "RequestLimitExceeded", Count: 41, Uploads: 6, Last: now.Add(-20 * time.Second), Message: "the platform asks for a pause of 3 s"},
		{Account: "films", Kind: "transient", Count: 3, Uploads: 2, Last: now.Add(-9 * time.Minute), Message: "put part: connection reset by peer"},
	}
	w.base = apitest.Start(t, w.UseCases)
	var options []client.Option
	if w.token != "" {
		options = append(options, client.WithToken(w.token))
	}
	var err error
	if w.client, err = client.New(w.base, "default", options...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)

	w.add(t, "films", "episode-01.mxf", 18*gib, func(u *uploads.Upload) {
		u.State = uploads.Completed
		u.Asset = &uploads.Asset{ID: "5285890784273533167", URL: "https://vod.example/5285890784273533167"}
	})
	for i := range 60 {
		w.add(t, "archive", fmt.Sprintf("reel-%03d.mov", i+1), int64(i+1)*gib/7, func(u *uploads.Upload) {
			u.State, u.Asset, u.FinishedAt = uploads.Completed, &uploads.Asset{ID: fmt.Sprint(i)}, now.Add(-time.Hour)
		})
	}
	for i := range 7 {
		w.add(t, "archive", fmt.Sprintf("trailer-%d.mp4", i+1), gib, func(u *uploads.Upload) {
			u.State, u.FinishedAt = uploads.Failed, now.Add(-time.Duration(i)*time.Minute)
			u.Failure = &uploads.Failure{Cause: uploads.CauseRejected, Code: "InvalidParameterValue", Message: "the platform takes no such container"}
			if i > 4 {
				u.Failure = &uploads.Failure{Cause: uploads.CauseNeedsHuman, Message: "the finishing call was not answered, and the platform cannot say what came of it"}
			}
		})
	}
	w.add(t, "slow", hostile, gib, nil)
	w.add(t, "slow", unbroken, gib, nil)
	w.add(t, "slow", "news-2100.mp4", 3*gib, nil)
	w.add(t, "films", "feature-4k.mov", 40*gib, func(u *uploads.Upload) {
		u.State, u.Epoch, u.PartSize, u.PartCount = uploads.Uploading, 2, 4<<20, 10_000
		u.AckedParts, u.AckedBytes, u.FoundBytes = 6_113, 6_113*4<<20, 1_200*4<<20
		u.BegunAt, u.FirstAckAt, u.LastAckAt = now.Add(-95*time.Second), now.Add(-94*time.Second), now
		u.Labels = map[string]string{"show": "7"}
	})
	w.add(t, "films", "episode-02.mxf", 12*gib, func(u *uploads.Upload) {
		u.State, u.Epoch, u.PartSize, u.PartCount, u.AckedParts, u.AckedBytes = uploads.Uploading, 1, 64<<20, 192, 130, 130*64<<20
	})
	big := w.ids["feature-4k.mov"]
	m := uploads.PartMap{Epoch: 2, PartSize: 4 << 20, PartCount: 10_000}
	put := func(n int, state uploads.PartState) {
		first := 1
		if k := len(m.Ranges); k > 0 {
			first = m.Ranges[k-1].First + m.Ranges[k-1].Count
		}
		m.Ranges = append(m.Ranges, uploads.PartRange{First: first, Count: n, State: state})
	}
	put(1200, uploads.PartFound)
	for range 24 {
		put(200, uploads.PartAcked)
		put(1, uploads.PartOnWay)
	}
	put(113, uploads.PartAcked)
	put(16, uploads.PartInHand)
	put(48, uploads.PartQueued)
	put(10_000-1200-24*201-113-64, uploads.PartNotFed)
	for i := range 4 {
		m.Hands = append(m.Hands, uploads.PartHand{First: 6138 + i*4, Count: 4, Worker: fmt.Sprintf("ferry-%d", i+1), Stage: "sending", Bytes: int64(i+1) * 3 << 20, Total: 16 << 20, At: now})
	}
	for i := range 30 {
		m.Failed = append(m.Failed, uploads.PartTries{Part: 1300 + i*i*5, Tries: 1 + i%3})
	}
	w.Maps = map[uploads.ID]uploads.PartMap{big: m}
	tries := []uploads.Try{
		{Epoch: 2, Part: 5505, Kind: "throttled", Code: "RequestLimitExceeded", Message: "put part 5505: the platform asks for a pause of 3 s", Worker: "ferry-2", Started: now.Add(-11 * time.Second), Failed: now.Add(-10 * time.Second)},
		{Epoch: 2, Part: 4420, Kind: "transient", Message: "put part 4420: read tcp 10.0.3.7:51324->203.0.113.9:443: connection reset by peer", Worker: "ferry-1", Started: now.Add(-41 * time.Second), Failed: now.Add(-38 * time.Second), Excused: true},
		{Epoch: 1, Kind: "session_lost", Code: "NoSuchUpload", Message: "begin: the upstream session is gone", Started: now.Add(-96 * time.Second), Failed: now.Add(-95 * time.Second)},
	}
	w.Histories = map[uploads.ID]uploads.History{big: {Tries: tries, Count: 34, Moves: []uploads.Move{
		{To: uploads.Queued, Reason: "submitted", At: now.Add(-5 * time.Minute)},
		{From: uploads.Queued, To: uploads.Digesting, At: now.Add(-290 * time.Second)},
		{From: uploads.Digesting, To: uploads.Beginning, At: now.Add(-250 * time.Second)},
		{From: uploads.Beginning, To: uploads.Uploading, At: now.Add(-249 * time.Second)},
		{From: uploads.Uploading, To: uploads.Beginning, Reason: "session lost", At: now.Add(-96 * time.Second)},
		{From: uploads.Beginning, To: uploads.Uploading, At: now.Add(-95 * time.Second)},
	}}}
	w.Links = []uploads.DigestLink{
		{Epoch: 1, Stage: uploads.StageStaging, Kind: "crc64nvme", Expected: "9a3f0c1d22e4b807", ExpectedFrom: "bucket", Got: "9a3f0c1d22e4b807", GotFrom: "worker", Compared: true, Matched: true, At: now},
		{Epoch: 1, Stage: uploads.StagePlatform, Note: "the platform names no digest of the asset", At: now},
		{Epoch: 1, Part: 7, Stage: uploads.StageTransit, Compared: true, Note: "part 7: other bytes arrived", At: now},
		{Epoch: 1, Part: 8, Stage: uploads.StageTransit, Kind: "md5", Expected: "0f", ExpectedFrom: "worker", Got: "0f", GotFrom: "platform", Compared: true, Matched: true, At: now},
	}
	return w
}

// add submits a file and leaves its upload as change makes it.
func (w *world) add(t *testing.T, account, name string, size int64, change func(*uploads.Upload)) {
	t.Helper()
	w.Put(uploads.Object{Bucket: "media", Key: "season-7/" + name, ETag: "e-" + name, Size: size})
	u, _, err := w.client.Submit(t.Context(), client.Submission{Account: account, Name: name, Source: client.Source{Bucket: "media", Key: "season-7/" + name}})
	if err != nil {
		t.Fatal(err)
	}
	w.ids[name] = uuid.MustParse(u.ID)
	if change != nil {
		w.Change(w.ids[name], change)
	}
}

func (w *world) page(name string) string {
	if id, ok := w.ids[name]; ok {
		return "/ui/uploads/" + id.String()
	}
	return "/ui/" + strings.TrimPrefix(name, "overview")
}
