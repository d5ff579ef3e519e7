package coco

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// photoExt are the extensions by which photos are looked for, in this order.
var photoExt = []string{".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}

func isPhoto(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains(photoExt, strings.ToLower(path.Ext(name)))
}

// photoFinder finds photos below a folder by names as people write them: with
// backslashes, with folders of another machine, in the wrong case. It lists
// each folder once, and is safe for concurrent use.
type photoFinder struct {
	root string
	mu   sync.Mutex
	dirs map[string]*photoDir
}

type photoDir struct {
	names map[string]bool
	lower map[string]string // lower case → name
	stems map[string]string // stem → name of a photo, the first of photoExt
}

func newPhotoFinder(root string) *photoFinder {
	return &photoFinder{root: root, dirs: map[string]*photoDir{}}
}

func (f *photoFinder) list(dir string) *photoDir {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d, ok := f.dirs[dir]; ok {
		return d
	}
	d := &photoDir{names: map[string]bool{}, lower: map[string]string{}, stems: map[string]string{}}
	f.dirs[dir] = d
	entries, err := os.ReadDir(dir)
	if err != nil {
		return d // nothing is found in it, which is what callers report
	}
	for _, e := range entries {
		n := e.Name()
		d.names[n] = true
		if l := strings.ToLower(n); d.lower[l] == "" {
			d.lower[l] = n
		}
		if s := stem(n); isPhoto(n) && !e.IsDir() {
			if old, ok := d.stems[s]; !ok || rank(n) < rank(old) {
				d.stems[s] = n
			}
		}
	}
	return d
}

func rank(name string) int { return slices.Index(photoExt, strings.ToLower(path.Ext(name))) }

// named finds a photo by the name in an annotation. exact is false if it had
// to be put right: backslashes, a folder that is not there, upper and lower
// case. It returns "" if there is none.
func (f *photoFinder) named(name string) (p string, exact bool) {
	if name == "" || strings.ContainsRune(name, 0) {
		return "", false
	}
	clean := path.Clean("/" + slashed(name))[1:] // stays below the root
	if clean == "" {
		return "", false
	}
	for _, c := range []string{clean, path.Base(clean)} {
		dir := filepath.Join(f.root, filepath.FromSlash(path.Dir(c)))
		d := f.list(dir)
		base := path.Base(c)
		if d.names[base] {
			return filepath.Join(dir, base), c == name
		}
		if n := d.lower[strings.ToLower(base)]; n != "" {
			return filepath.Join(dir, n), false
		}
	}
	return "", false
}

// ofStem finds a photo by its name without extension.
func (f *photoFinder) ofStem(s string) string {
	if n := f.list(f.root).stems[s]; n != "" {
		return filepath.Join(f.root, n)
	}
	return ""
}
