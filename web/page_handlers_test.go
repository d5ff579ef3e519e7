package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"testing"

	"resdet/web/page"
)

// TestPageFiles: every file of the page comes as it is embedded, by gzip to
// those who take it and plain to the others, and the whole page is small.
func TestPageFiles(t *testing.T) {
	_, h, _ := newTestServer(t, testConfig())
	total := 0
	err := fs.WalkDir(page.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		want, err := fs.ReadFile(page.FS, name)
		if err != nil {
			return err
		}
		at := h.URL + "/" + name
		if name == "index.html" {
			at = h.URL + "/"
		}
		for _, accepted := range []string{"identity", "gzip"} {
			r, err := http.NewRequestWithContext(t.Context(), "GET", at, nil)
			if err != nil {
				return err
			}
			r.Header.Set("Accept-Encoding", accepted) // so that the client leaves the body as it is
			status, header, body := do(t, r)
			sent := len(body)
			if header.Get("Content-Encoding") == "gzip" {
				if accepted != "gzip" || header.Get("Vary") != "Accept-Encoding" {
					t.Errorf("%s: gzip although %s was asked for, or without Vary", name, accepted)
				}
				z, err := gzip.NewReader(bytes.NewReader(body))
				if err != nil {
					return err
				}
				if body, err = io.ReadAll(z); err != nil {
					return err
				}
			}
			if status != 200 || !bytes.Equal(body, want) {
				t.Errorf("%s by %s: status %d, %d bytes of %d", name, accepted, status, len(body), len(want))
			}
			if accepted == "gzip" {
				total += sent
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if most := 70 << 10; total > most { // the sample picture is 13 kB of it
		t.Errorf("the page is %d bytes on the wire, of at most %d", total, most)
	}
	t.Logf("%d bytes", total)
}
