package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"resdet/internal/fixture"
)

// bad says what kind of error each damaged or malicious fixture gives; a file
// that expected.json does not know must stand here.
var bad = map[string]error{
	"evil_zip.pth":            ErrRefused,
	"evil.pkl":                ErrRefused,
	"truncated_zip.pth":       ErrDamaged,
	"truncated_legacy.pth":    ErrDamaged,
	"truncated.safetensors":   ErrDamaged,
	"overlap.safetensors":     ErrDamaged,
	"huge_header.safetensors": ErrDamaged,
}

type expected struct {
	Shape  []int
	DType  string
	Values []float64
}

// TestFixtures holds every checkpoint of the fixtures against expected.json.
func TestFixtures(t *testing.T) {
	dir := fixture.Dir(t, "checkpoints")
	raw, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := f.Name()
		if name == "expected.json" {
			continue
		}
		path := filepath.Join(dir, name)
		t.Run(name, func(t *testing.T) {
			if want, ok := all[name]; ok {
				checkGood(t, path, want)
				return
			}
			checkBad(t, path, bad[name])
		})
	}
}

func checkGood(t *testing.T, path string, raw json.RawMessage) {
	want := map[string]expected{}
	if filepath.Ext(path) == ".caffemodel" { // lists of blobs by layer, all float32
		var layers map[string][]expected
		if err := json.Unmarshal(raw, &layers); err != nil {
			t.Fatal(err)
		}
		for name, blobs := range layers {
			for i, b := range blobs {
				b.DType = "float32"
				want[fmt.Sprintf("%s.%d", name, i)] = b
			}
		}
	} else if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := map[string]expected{}
	for _, x := range c.Tensors {
		v, err := c.Read(x.Key)
		if err != nil {
			t.Fatal(err)
		}
		e := expected{append([]int{}, x.Shape...), x.DType.String(), []float64{}}
		for _, f := range v {
			e.Values = append(e.Values, float64(f))
		}
		got[x.Key] = e
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tensors differ (- wanted, + got):\n%s", diff)
	}
}

// checkBad opens a file and reads all that it has. That must fail with the
// kind of error wanted (any of ours where none is named), say which file, and
// allocate little.
func checkBad(t *testing.T, path string, want error) {
	t.Helper()
	wd, _ := os.Getwd()
	before, _ := os.ReadDir(wd)
	size, spent, err := spend(t, path)
	t.Logf("%d bytes, %d allocated: %v", size, spent, err)
	switch {
	case err == nil:
		t.Fatal("no error")
	case want != nil && !errors.Is(err, want):
		t.Errorf("the error is not %q", want)
	case !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrFormat):
		t.Errorf("the error is of no kind of ours")
	}
	if !strings.Contains(err.Error(), path) {
		t.Errorf("the error does not name the file")
	}
	if most := size + 1<<20; spent > most {
		t.Errorf("%d bytes allocated for a file of %d; at most %d are allowed", spent, size, most)
	}
	if after, _ := os.ReadDir(wd); len(after) != len(before) {
		t.Errorf("something was written: %v", after)
	}
}

// spend returns the size of a file, what opening it and reading it up to the
// first error allocates, and that error.
func spend(t *testing.T, path string) (size, spent int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c, err := Open(path)
	if err == nil {
		for _, x := range c.Tensors {
			if _, err = c.Read(x.Key); err != nil {
				break
			}
		}
		c.Close()
	}
	runtime.ReadMemStats(&after)
	return info.Size(), int64(after.TotalAlloc - before.TotalAlloc), err
}

func TestTensorBytes(t *testing.T) {
	if n := unsafe.Sizeof(Tensor{}); n > tensorBytes {
		t.Errorf("a Tensor takes %d bytes, the budget counts %d", n, tensorBytes)
	}
	if n := unsafe.Sizeof(storage{}); n > 160 {
		t.Errorf("a storage takes %d bytes, the budget counts 160", n)
	}
}

// TestShared opens the checkpoints that lie beside the repository.
func TestShared(t *testing.T) {
	for _, f := range []struct {
		name    string
		format  string
		tensors int
	}{
		{"voc-resnet50-fpn.pth", "pytorch zip", 241},
		{"resnet50-imagenet-c4.pth", "pytorch zip", 215},
		{"resnet18-imagenet-partial.pth", "pytorch legacy", 80},
	} {
		t.Run(f.name, func(t *testing.T) {
			c, err := Open(fixture.Shared(t, "weights", f.name))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.Format != f.format || len(c.Tensors) != f.tensors {
				t.Errorf("%s with %d tensors, want %s with %d", c.Format, len(c.Tensors), f.format, f.tensors)
			}
			for i, x := range c.Tensors {
				if testing.Short() && i%8 != 0 {
					continue
				}
				v, err := c.Read(x.Key)
				if err != nil {
					t.Fatal(err)
				}
				// conv1 sees pixels of 0–255, so that one variance in float16 is infinite.
				limit := 1e6
				if strings.HasSuffix(x.Key, "running_var") {
					limit = math.Inf(1)
				}
				for _, f := range v {
					if math.IsNaN(float64(f)) || math.Abs(float64(f)) > limit {
						t.Fatalf("%s holds %v", x.Key, f)
					}
				}
			}
		})
	}
}
