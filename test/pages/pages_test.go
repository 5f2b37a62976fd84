package pages_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"mediaferry/client"
	"mediaferry/internal/uploads"
)

// pagesByName are all pages, by the name of their picture.
func (w *world) pages() map[string]string {
	return map[string]string{
		"overview": "/ui/", "uploads": "/ui/uploads", "upload": w.page("feature-4k.mov"), "failed": w.page("trailer-7.mp4"), "unbroken": w.page(unbroken),
		"accounts": "/ui/accounts", "workers": "/ui/workers", "failures": "/ui/failures", "sign-in": "/ui/sign-in", "docs": "/docs",
	}
}

const maxWeight = 100 << 10 // bytes, of a page and all that it loads but data

// Each page, in light and dark, wide and as on a phone: nothing is complained
// of, nothing is wider than the window, and nothing is heavy.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	w := start(t, true)
	b := open(t, w.base)
	heaviest := 0
	for name, path := range w.pages() {
		for _, dark := range []bool{false, true} {
			for _, width := range []int64{1280, 390} {
				b.look(width, dark)
				b.visit(path)
				what := fmt.Sprintf("%s %d", name, width)
				if dark {
					what += " dark"
				}
				if name == "upload" {
					b.until(`document.querySelector("canvas").height > 100`)
				}
				b.quiet(what)
				if over := get[int](b, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
					widest := get[string](b, `[...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > innerWidth).at(-1)?.outerHTML.slice(0, 200) || ""`)
					t.Errorf("%s: %d pixels wider than the window: %s", what, over, widest)
				}
				if hidden := get[int](b, `(() => { const nav = document.querySelector(".top nav"); return nav ? nav.scrollWidth - nav.clientWidth : 0; })()`); hidden > 0 {
					t.Errorf("%s: %d pixels of the menu are out of sight", what, hidden)
				}
				if faint := get[string](b, faintText); faint != "" {
					t.Errorf("%s: hard to read: %s", what, faint)
				}
				b.shoot(strings.ReplaceAll(strings.Replace(what, "390", "phone", 1), " ", "-"))
			}
		}
		loaded := get[[]string](b, `[location.href, ...performance.getEntriesByType("resource").map((e) => e.name).filter((name) => !name.includes("/v1/") && !name.endsWith("/openapi.json"))]`)
		heaviest = max(heaviest, weight(t, loaded))
	}
	if heaviest == 0 || heaviest > maxWeight {
		t.Errorf("the heaviest page has %d bytes, want at most %d", heaviest, maxWeight)
	}
	figure("figure page_weight_kb %.1f kB", float64(heaviest)/1000)
	figure("figure pages_tested %d count", len(w.pages()))
}

// weight is how many bytes the addresses have, each counted once.
func weight(t *testing.T, addresses []string) (sum int) {
	t.Helper()
	slices.Sort(addresses)
	for _, address := range slices.Compact(addresses) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", address, res.StatusCode, err)
		}
		sum += int(n)
	}
	return sum
}

// faintText returns texts whose contrast with what is behind them is below 4.5:1.
const faintText = `(() => {
	const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
	const light = ([r, g, b]) => { const f = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
	const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
	const bad = new Set();
	for (const e of document.querySelectorAll("body *")) {
		if (!e.checkVisibility() || e.disabled || e.closest("svg, noscript, .skip") || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
		if (parseFloat(getComputedStyle(e).fontSize) === 0) continue;
		const a = light(parse(getComputedStyle(e).color)), b = light(behind(e));
		const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (contrast < 4.5) bad.add(e.textContent.trim().slice(0, 30) + " " + contrast.toFixed(1));
	}
	return [...bad].slice(0, 5).join("; ");
})()`

func TestFindAnUpload(t *testing.T) {
	t.Parallel()
	w := start(t, true)
	b := open(t, w.base)
	b.visit("/ui/")
	b.do(chromedp.Click(chromedp.CSS(`nav a[href="/ui/uploads"]`)))
	b.says("50 uploads, newest first")
	b.press("Older →")
	b.says("episode-01.mxf")
	b.press("← Newer")
	b.says("feature-4k.mov")

	b.do(chromedp.SendKeys(chromedp.CSS("input[name=search]"), "FEATURE"))
	b.until(`location.search === "?search=FEATURE"`) // else it would not lead back here; keys may come slowly
	b.says("1 upload, newest first")
	b.do(chromedp.Click(chromedp.CSS("td.name a")))
	b.says("Failed tries")
	if title := get[string](b, "document.title"); !strings.HasPrefix(title, "feature-4k.mov") {
		t.Errorf("the title is %q", title)
	}

	b.visit("/ui/uploads?state=failed&cause=needs_human")
	b.says("2 uploads, newest first")
	b.press("show all")
	b.says("7 uploads, newest first")
	b.visit("/ui/uploads?search=nothing-like-it")
	b.says("No upload is like that")

	// By a label, from an upload that has it; and those that are paused themselves.
	b.visit(w.page("feature-4k.mov"))
	b.do(chromedp.Click(chromedp.CSS(`a[href="/ui/uploads?label=show%3D7"]`)))
	b.says("1 upload, newest first")
	b.press("show all")
	b.says("50 uploads, newest first")
	if _, err := w.client.Pause(t.Context(), w.ids["news-2100.mp4"].String(), client.Note{Reason: "later"}); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.SetValue(chromedp.CSS("select[name=state]"), "paused"), chromedp.Evaluate[chromedp.Void](`document.querySelector("select[name=state]").onchange()`))
	b.says("1 upload, newest first")
	b.says("news-2100.mp4")

	// A name is a name, whatever is in it.
	b.visit(w.page(hostile))
	b.says("onerror=")
	b.visit("/ui/uploads?search=onerror")
	b.says("1 upload, newest first")
	if n := get[int](b, `document.querySelectorAll("main img").length`); n != 0 || get[string](b, "document.title") == "taken over" {
		t.Error("a name was taken for markup")
	}
	// An id leads to the upload itself.
	b.do(chromedp.Clear(chromedp.CSS("input[name=search]")), chromedp.SendKeys(chromedp.CSS("input[name=search]"), w.ids["feature-4k.mov"].String()))
	b.says("Digest chain")
	b.quiet("the search")
}

// Whoever goes through the list by the keyboard keeps the place while uploads come.
func TestTheFocusStaysWhenUploadsCome(t *testing.T) {
	t.Parallel()
	w := start(t, true)
	b := open(t, w.base)
	b.visit("/ui/uploads")
	b.do(chromedp.Focus(chromedp.CSS(fmt.Sprintf(`a[href="%s"]`, w.page("feature-4k.mov")))))
	w.add(t, "films", "episode-03.mxf", gib, nil)
	w.add(t, "films", "episode-04.mxf", gib, nil)
	b.says("episode-04.mxf")
	if at := get[string](b, `document.activeElement.textContent`); at != "feature-4k.mov" {
		t.Errorf("the focus went to %q", at)
	}
	rows := get[[]string](b, `[...document.querySelectorAll("td.name a")].slice(0, 4).map((a) => a.textContent)`)
	if want := []string{"episode-04.mxf", "episode-03.mxf", "episode-02.mxf", "feature-4k.mov"}; !slices.Equal(rows, want) {
		t.Errorf("the list begins with %q, want %q", rows, want)
	}
	b.quiet("the list")
}

func TestOneUpload(t *testing.T) {
	t.Parallel()
	w := start(t, true)
	b := open(t, w.base)
	b.visit(w.page("feature-4k.mov"))
	for _, text := range []string{
		"4,913 in the ledger", "1,200 found upstream", "16 in hand", "48 queued", "24 on the way", "3,799 not fed", "30 with failed tries",
		"session lost", "RequestLimitExceeded", "platform down, not counted", "The last 3 of 34", "show=7",
	} {
		b.says(text)
	}
	label := get[string](b, `document.querySelector("canvas").getAttribute("aria-label")`)
	if !strings.HasPrefix(label, "10,000 parts: 1,200 found upstream, 4,913 in the ledger") {
		t.Errorf("for those who do not see it the map is %q", label)
	}
	// With the keyboard alone, and over several renewals of the page.
	b.do(chromedp.Focus(chromedp.CSS("canvas")), chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent(kb.ArrowRight))
	b.says("Part 2 of 10,000: found upstream.")
	before := get[string](b, `document.getElementById("live").textContent`)
	b.until(fmt.Sprintf(`document.getElementById("live").textContent !== %q`, before))
	b.do(chromedp.KeyEvent(kb.ArrowRight))
	b.says("Part 3 of 10,000: found upstream.")
	b.do(chromedp.KeyEvent(kb.End))
	b.says("Part 10,000 of 10,000: not fed.")
	b.do(chromedp.KeyEvent(kb.Home))
	b.says("Part 1 of 10,000: found upstream.")

	b.do(chromedp.Focus(chromedp.CSS("#digests summary")), chromedp.KeyEvent(kb.Enter))
	b.says("1 of 2 comparisons of parts agrees; 0 could not be made, 1 do not agree.")
	b.says("part 7: other bytes arrived")
	b.says("9a3f0c1d22e4b807")

	b.press("Pause")
	b.do(chromedp.SendKeys(chromedp.CSS("dialog input"), "the studio calls"))
	b.press("Pause")
	b.says("Paused: the studio calls")
	b.press("Resume")
	b.until(`!document.body.innerText.includes("the studio calls")`)

	b.press("Cancel")
	b.says("This is final")
	b.press("Back")
	b.until(`!document.querySelector("dialog[open]")`)
	if got := w.state(t, "feature-4k.mov"); got != uploads.Uploading {
		t.Fatalf("after going back it is %s", got)
	}
	b.press("Cancel")
	b.do(chromedp.KeyEvent(kb.Enter)) // in the field for the reason: that is no consent
	b.until(`!document.querySelector("dialog[open]")`)
	if got := w.state(t, "feature-4k.mov"); got != uploads.Uploading {
		t.Fatalf("after Enter it is %s", got)
	}
	b.press("Cancel")
	b.press("Cancel the upload")
	b.until(`[...document.querySelectorAll("main .badge")].some((x) => x.textContent === "cancelled")`)
	if got := w.state(t, "feature-4k.mov"); got != uploads.Cancelled {
		t.Errorf("it is %s", got)
	}
	b.visit("/ui/uploads/0190b7a0-0000-7000-8000-000000000000")
	b.says("There is no such upload here")
	if !get[bool](b, `document.getElementById("banner").hidden`) {
		t.Error("an upload that is not there is shown as if the dispatcher were away")
	}
	b.quiet("the upload")
}

func (w *world) state(t *testing.T, name string) uploads.State {
	t.Helper()
	u, err := w.client.Show(t.Context(), w.ids[name].String())
	if err != nil {
		t.Fatal(err)
	}
	return uploads.State(u.State)
}

func TestReplayOfFailures(t *testing.T) {
	t.Parallel()
	w := start(t, true)
	b := open(t, w.base)
	b.visit("/ui/failures")
	b.says("the platform takes no such container")
	b.says("the platform asks for a pause of 3 s")
	b.press("Replay") // of the largest group
	b.says("Replay 5 uploads?")
	b.press("Replay 5")
	b.says("5 uploads are queued again.")
	b.until(`!document.querySelector("main").innerText.includes("no such container")`)
	if w.state(t, "trailer-1.mp4") != uploads.Queued || w.state(t, "trailer-6.mp4") != uploads.Failed {
		t.Error("another group was replayed, or none")
	}
	b.press("Replay")
	b.says("may make second ones")
	b.press("Back")

	b.visit(w.page("trailer-7.mp4"))
	b.press("Retry")
	b.says("may make a second one")
	b.do(chromedp.Click(chromedp.CSS("dialog button.danger")))
	b.says("It is queued again.")
	b.quiet("the replay")
}

func TestAccountsAndWorkers(t *testing.T) {
	t.Parallel()
	w := start(t, true)
	b := open(t, w.base)
	b.visit("/ui/accounts")
	b.until(`document.querySelector("#slow").innerText.includes("41 tries in the last hour")`)
	b.says("platform down")
	b.says("no answer since 12 min ago, asked 9 times")
	b.do(chromedp.Click(chromedp.CSS("#films button")))
	b.do(chromedp.SendKeys(chromedp.CSS("dialog input"), "quota"+kb.Enter))
	b.says("Paused: quota")
	b.do(chromedp.Click(chromedp.CSS("#films button")))
	b.until(`!document.querySelector("#films").innerText.includes("quota")`)

	b.visit("/ui/workers")
	b.says("ferry-1")
	b.says("4 of 4")
	b.says("default, 4 workers")
	b.quiet("the accounts")
}

func TestWhileItDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w := start(t, true)
	b := open(t, w.base)
	b.visit("/ui/uploads")
	b.says("feature-4k.mov")
	w.Fail(&uploads.UnavailableError{What: "postgres", Err: errors.New("connection refused, password=hunter2")})
	b.says("postgres is not reachable; try again later Shown is what was there at")
	b.says("feature-4k.mov")
	if strings.Contains(b.text(), "hunter2") {
		t.Error("the page tells what is only for the log")
	}
	w.Fail(nil)
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#banner button").click()`)) // at once, not when its turn comes
	b.until(`document.getElementById("banner").hidden`)

	// A page that nobody looks at asks for nothing.
	asked := `performance.getEntriesByType("resource").filter((e) => e.name.includes("/v1/uploads")).length`
	b.do(chromedp.Evaluate[chromedp.Void](`Object.defineProperty(document, "hidden", { value: true, configurable: true }); document.dispatchEvent(new Event("visibilitychange")); undefined`))
	before := get[int](b, asked)
	b.do(chromedp.Evaluate[chromedp.Void](`window.over = false; setTimeout(() => { window.over = true; }, 6000); undefined`))
	b.until("window.over")
	if after := get[int](b, asked); after > before {
		t.Errorf("a hidden page asked %d times", after-before)
	}
	b.do(chromedp.Evaluate[chromedp.Void](`delete document.hidden; document.dispatchEvent(new Event("visibilitychange")); undefined`))
	b.until(fmt.Sprintf("%s > %d", asked, before))
	b.quiet("the outage")
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	w := start(t, false)
	b := open(t, w.base)
	b.do(chromedp.Navigate(w.base + "/ui/failures"))
	b.until(`document.querySelector("input[name=token]")`) // sent there
	b.do(chromedp.SendKeys(chromedp.CSS("#token"), "mf_wrong"+kb.Enter))
	b.says("the token is not known here")
	b.do(chromedp.SendKeys(chromedp.CSS("#token"), w.token+kb.Enter))
	b.says("Failed uploads of the last seven days")
	if at := get[string](b, "location.pathname"); at != "/ui/failures" {
		t.Errorf("signed in at %s", at)
	}
	if get[string](b, "document.cookie") != "" {
		t.Error("scripts can read the session")
	}
	b.says("Replay")
	b.look(390, false)
	if over := get[int](b, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
		t.Errorf("signed in on a phone: %d pixels wider than the window", over)
	}
	b.shoot("signed-in-phone")
	b.press("Sign out")
	b.until(`document.querySelector("input[name=token]")`)
	b.do(chromedp.Navigate(w.base + "/ui/uploads"))
	b.until(`document.querySelector("input[name=token]")`)
	b.quiet("the sign-in")
}

// figure prints a line that is kept.
func figure(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) // nobody is left to tell
}
