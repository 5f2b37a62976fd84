package pages_test

import "testing"

// The page of an upload that is under way says what it waits for; of one that has
// ended there is nothing to explain.
func TestUploadSaysWhyItIsHere(t *testing.T) {
	t.Parallel()
	w := start(t, true)
	b := open(t, w.base)
	b.visit(w.page("feature-4k.mov"))
	b.until(`document.querySelector("#explain h2").textContent === "Why it is here"`)
	b.says("Waits for:")
	b.visit(w.page("trailer-7.mp4"))
	b.until(`document.getElementById("map") !== null || document.querySelector(".problem") !== null`)
	if get[bool](b, `document.getElementById("explain") !== null`) {
		t.Error("an upload that failed is explained as one that waits")
	}
}
