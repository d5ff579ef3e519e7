package page_test

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"testing"

	"github.com/google/go-cmp/cmp"

	"resdet/web/page"
)

// TestDist builds the page anew: what is committed and embedded is what the
// sources make.
func TestDist(t *testing.T) {
	if testing.Short() {
		t.Skip("runs Node")
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("Node is not installed; what is committed is taken as it is")
	}
	if _, err := os.Stat("node_modules/vite"); err != nil {
		t.Skip("vite is not installed: npm ci in web/page installs it")
	}
	fresh := t.TempDir()
	for _, args := range [][]string{{"node_modules/typescript/bin/tsc", "--noEmit"}, {"node_modules/vite/bin/vite.js", "build", "--outDir", fresh}} {
		if out, err := exec.Command("node", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	want, got := contents(t, os.DirFS(fresh)), contents(t, page.FS)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("dist is not what the sources make: npm run build in web/page, and commit (-fresh +committed):\n%s", d)
	}
}

// TestWeight: the page is small for those on slow lines.
func TestWeight(t *testing.T) {
	const most = 60 << 10
	var sent bytes.Buffer
	z := gzip.NewWriter(&sent)
	for name, body := range contents(t, page.FS) {
		if ext := path.Ext(name); ext == ".js" || ext == ".css" {
			if _, err := z.Write([]byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if n := sent.Len(); n < 1<<10 || n > most {
		t.Errorf("scripts and styles are %d bytes gzipped, of at most %d", n, most)
	}
}

func contents(t *testing.T, dir fs.FS) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(dir, name)
		files[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
