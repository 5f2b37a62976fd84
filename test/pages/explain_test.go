package pages_test

import (
	"testing"

	"mediaferry/client"
)

// The page of an upload that is under way says what it waits for; of one that has
// ended there is nothing to explain.
func TestUploadSaysWhyItIsHere(t *testing.T) {
	t.Parallel()
	w := start(t, true)
	b := open(t, w.base)
	b.visit(w.page("feature-4k.mov"))
	b.until(`document.querySelector("#explain h2").textContent === "Why it is here"`)
	b.says("Bytes move: ")
	b.says("MiB/s over the last 60 seconds") // a rate as people read it
	b.says("at this pace: in ")
	if _, err := w.client.Pause(t.Context(), w.ids["news-2100.mp4"].String(), client.Note{Reason: "later"}); err != nil {
		t.Fatal(err)
	}
	b.visit(w.page("news-2100.mp4"))
	b.says("Waits for: a person")
	b.visit(w.page("trailer-7.mp4"))
	b.until(`document.getElementById("map") !== null || document.querySelector(".problem") !== null`)
	if get[bool](b, `document.getElementById("explain") !== null`) {
		t.Error("an upload that failed is explained as one that waits")
	}
}
