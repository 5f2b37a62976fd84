package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"mediaferry/client"
	"mediaferry/internal/api/apitest"
	"mediaferry/internal/uploads"
)

// dispatcher stands for a real one: it has the account main, two objects in
// staging, and completes what it accepts.
func dispatcher() (api *client.Client, stop func()) {
	server := httptest.NewServer(apitest.Handler(&apitest.UseCases{
		Names:   []string{"main"},
		Objects: []uploads.Object{{Bucket: "staging", Key: "films/one.mp4", Size: 10}, {Bucket: "staging", Key: "films/two.mp4", Size: 20}},
		Accepted: func(u *uploads.Upload) {
			u.State, u.Asset = uploads.Completed, &uploads.Asset{ID: "asset-1"}
		},
	}))
	api, err := client.New(server.URL, "")
	if err != nil {
		log.Fatal(err)
	}
	return api, func() { api.Close(); server.Close() }
}

func Example() {
	api, stop := dispatcher() // client.New("https://mediaferry.example.com", "", client.WithToken(token))
	defer stop()
	ctx := context.Background()
	u, _, err := api.Submit(ctx, client.Submission{
		Account: "main", Source: client.Source{Bucket: "staging", Key: "films/one.mp4"}, IdempotencyKey: "film-1",
	})
	if err != nil {
		log.Fatal(err) // the fields that are wrong, if client.IsInvalid
	}
	if u, err = api.Wait(ctx, u.ID, nil); err != nil {
		log.Fatal(err)
	}
	fmt.Println(u.State, u.Asset.ID)
	// Output: completed asset-1
}

func ExampleClient_SubmitBulk() {
	api, stop := dispatcher()
	defer stop()
	line := func(key string) client.BulkLine {
		return client.BulkLine{Submission: client.Submission{Account: "main", Source: client.Source{Bucket: "staging", Key: key}, IdempotencyKey: key}}
	}
	res, err := api.SubmitBulk(context.Background(), []client.BulkLine{line("films/one.mp4"), line("films/none.mp4"), line("films/two.mp4")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Submitted, "submitted")
	for _, r := range res.Rejected {
		fmt.Println("line", r.Line, "is wrong in", r.Field)
	}
	// Output:
	// 2 submitted
	// line 2 is wrong in source.key
}

func ExampleClient_List() {
	api, stop := dispatcher()
	defer stop()
	ctx := context.Background()
	if _, err := api.SubmitPrefix(ctx, client.PrefixSubmission{Account: "main", Bucket: "staging", Prefix: "films/"}); err != nil {
		log.Fatal(err)
	}
	for f := (client.Filter{States: []string{"completed"}, Limit: 1}); ; {
		page, err := api.List(ctx, f)
		if err != nil {
			log.Fatal(err)
		}
		for _, u := range page.Uploads {
			fmt.Println(u.Name)
		}
		if f.After = page.Next; f.After == "" {
			break
		}
	}
	// Unordered output:
	// one.mp4
	// two.mp4
}
