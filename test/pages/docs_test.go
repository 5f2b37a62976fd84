package pages_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"mediaferry/internal/api"
)

// The description of the API is found through, opened and closed by the keyboard
// alone, has every call, and an address of its own for each.
func TestDocs(t *testing.T) {
	t.Parallel()
	w := start(t, true)
	b := open(t, w.base)
	b.visit("/ui/")
	b.do(chromedp.Click(chromedp.CSS(`nav a[href="/docs"]`)))
	b.says("HTTP API")
	b.until(`document.querySelectorAll("details.call").length > 40`)
	text, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var described struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal(text, &described); err != nil {
		t.Fatal(err)
	}
	for path, calls := range described.Paths {
		for method, call := range calls {
			if !get[bool](b, fmt.Sprintf(`document.getElementById(%q) !== null`, call.OperationID)) {
				t.Errorf("%s %s is not shown", method, path)
			}
		}
	}
	shown := `[...document.querySelectorAll("details.call")].filter((d) => !d.hidden).map((d) => d.id).join(" ")`
	b.do(chromedp.KeyEvent("/"), chromedp.KeyEvent("presign sha256"))
	b.until(shown + ` === "presign"`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.until(`document.getElementById("presign").open`)
	b.says("Authorization: Bearer TOKEN")
	b.says("expires_seconds")
	b.says("It takes a token with the scope submit.")
	b.quiet("docs")
	b.shoot("docs-presign-1280")
	b.do(chromedp.KeyEvent(kb.ArrowUp), chromedp.KeyEvent(kb.Escape))
	b.until(`[...document.querySelectorAll("details.call")].every((d) => !d.hidden)`)
	b.visit("/docs#submit-batch")
	b.until(`document.getElementById("submit-batch").open`)
	b.says("account_options")
	// Each call can be shown, and none of what it says is lost on the way.
	if !get[bool](b, `[...document.querySelectorAll("details.call")].every((d) => d.open = true)`) {
		t.Error("not all can be opened")
	}
	b.until(`[...document.querySelectorAll("details.call")].every((d) => d.childElementCount === 2)`)
	if bad := get[string](b, `[...document.querySelectorAll("details.call")].filter((d) => /undefined|\[object|NaN/.test(d.textContent)).map((d) => d.id).join(" ")`); bad != "" {
		t.Errorf("shown wrongly: %s", bad)
	}
	b.quiet("docs, all open")
}
