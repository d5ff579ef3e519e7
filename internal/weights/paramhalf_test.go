package weights

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"resdet/internal/fixture"
)

// What ParamHalf shows of an array is what Read converts, in every container,
// from a file and in memory; arrays that are not plain halves are left to Read.
func TestParamHalf(t *testing.T) {
	dir := fixture.Dir(t, "checkpoints")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		file, err := Open(path)
		if err != nil {
			continue // damaged on purpose, or no checkpoint
		}
		defer file.Close()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		memory, err := OpenString(path, string(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*Checkpoint{file, memory} {
			for _, a := range c.Tensors {
				want, readErr := c.Read(a.Key)
				half, err := c.ParamHalf(a.Key, a.Shape, func(n int) ([]byte, error) { return make([]byte, n), nil })
				if half == nil {
					if a.DType == F16 && readErr == nil && err != nil {
						t.Errorf("%s: %s: %v", e.Name(), a.Key, err)
					}
					continue
				}
				if a.DType != F16 || readErr != nil {
					t.Errorf("%s: %s of %v was shown as halves (%v)", e.Name(), a.Key, a.DType, readErr)
					continue
				}
				shown++
				got := make([]float32, len(want))
				decodeHalf(got, half)
				for i := range want {
					if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
						t.Errorf("%s: %s: element %d is %g, Read gives %g", e.Name(), a.Key, i, got[i], want[i])
						break
					}
				}
			}
		}
	}
	if shown == 0 {
		t.Error("no array of halves was among the fixtures")
	}
}
