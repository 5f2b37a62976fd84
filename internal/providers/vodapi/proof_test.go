package vodapi

import "testing"

// The vectors of the documents, in the form that they show and in the one that
// they describe.
func TestProvenID(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"MzMyOTY0NGIwNTk4YTc2YzZjNDljNTk3YTJhNzNkOGE1ZjA3YWJlOUV4cFRpbWU9MTQ4ODE2MDI2NCZGaWxlSWQ9NzAzMTg2ODIyMjgwODUwNTkxMw==": "7031868222808505913",
		"MylkSwWYp2xsScWXoqc9il8Hq+lFeHBUaW1lPTE0ODgxNjAyNjQmRmlsZUlkPTcwMzE4NjgyMjI4MDg1MDU5MTM=":                             "7031868222808505913",
		"":             "",
		"MylkSwWYp2w=": "",
		"no Base64":    "",
	} {
		a, err := parseAnswer([]byte(`{"code":0,"fileId":"1","verify_content":"` + content + `"}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := a.provenID(); got != want {
			t.Errorf("%.20q is a proof of %q, want %q", content, got, want)
		}
	}
}
