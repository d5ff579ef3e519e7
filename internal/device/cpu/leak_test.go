//go:build cgo && linux && amd64 && !noonednn && leakcheck

package cpu_test

import (
	"bytes"
	"strings"
	"testing"

	"resdet/internal/onednn"
)

// The profile names who opened what is open.
func TestProfileNamesTheOpener(t *testing.T) {
	before := onednn.Profile.Count()
	d := open(t)
	var text bytes.Buffer
	if err := onednn.Profile.WriteTo(&text, 1); err != nil {
		t.Fatal(err)
	}
	if onednn.Profile.Count() <= before || !strings.Contains(text.String(), "onednn.NewEngine") {
		t.Errorf("%d objects before, %d after opening a device:\n%s", before, onednn.Profile.Count(), &text)
	}
	d.Close()
	if n := onednn.Profile.Count(); n != before {
		t.Errorf("%d objects before, %d after closing the device", before, n)
	}
}
