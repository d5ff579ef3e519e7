package weights_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/weights"
)

// watched measures what is alive in memory whenever a parameter is given.
type watched struct {
	from weights.Params
	peak uint64
}

func (w *watched) Param(key string, shape nd.Shape) ([]float32, error) {
	v, err := w.from.Param(key, shape)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w.peak = max(w.peak, m.HeapAlloc)
	runtime.KeepAlive(v)
	return v, err
}

// TestMemory makes a model of a file of 12 arrays in each container: what is
// alive at a time is one array, not the file.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("collects garbage hundreds of times")
	}
	const arrays, side = 12, 512 // 1 MiB each
	list := make([]published, arrays)
	wanted := make([]nn.ParamSpec, arrays)
	for i := range list {
		key := fmt.Sprintf("backbone.layer%d.weight", i)
		list[i] = array(key, []int{side, side}, "")
		wanted[i] = nn.ParamSpec{Key: key, Shape: nd.Shape{side, side}}
	}
	blobs := make([]published, arrays)
	for i, a := range list {
		blobs[i] = a
		blobs[i].key = fmt.Sprintf("conv%d.0", i)
	}
	for name, with := range map[string]writer{
		"pth": torchZip(false, "model", nil), "legacy": torchLegacy(false, "", nil), "safetensors": safetensors,
		"pkl": numpyPickle(3, "model", "cfg"), "pkl of Python 2": numpyPickle(2, "model", "cfg"), "pkl in Latin-1": latin1Pickle,
		"caffemodel": caffemodel(false), "caffemodel V1": caffemodel(true),
	} {
		t.Run(name, func(t *testing.T) {
			named, specs := list, wanted
			if name == "caffemodel" || name == "caffemodel V1" {
				named, specs = blobs, make([]nn.ParamSpec, arrays)
				for i, b := range blobs {
					specs[i] = nn.ParamSpec{Key: b.key, Shape: wanted[i].Shape}
				}
			}
			path := write(t, "file", with, named)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			runtime.GC()
			var before runtime.MemStats
			runtime.ReadMemStats(&before)
			c, err := weights.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			w := watched{from: weights.Match(c, nil, weights.Network{Params: specs})}
			if err := weights.Save(filepath.Join(t.TempDir(), "model"), []byte("{}"), specs, &w, weights.F32); err != nil {
				t.Fatal(err)
			}
			const array = side * side * 4
			spent := int64(w.peak) - int64(before.HeapAlloc)
			t.Logf("%d bytes alive for a file of %d in arrays of %d", spent, info.Size(), array)
			if spent > 3*array+2<<20 {
				t.Errorf("%d bytes are alive at a time, for a file of %d in arrays of %d", spent, info.Size(), array)
			}
		})
	}
}

// A file of a gigabyte costs what its largest array does, and what the
// collector leaves lying about meanwhile: never the file.
func TestGigabyte(t *testing.T) {
	if testing.Short() {
		t.Skip("reads a gigabyte")
	}
	const arrays, side = 16, 4096 // 64 MiB each
	list, specs := make([]published, arrays), make([]nn.ParamSpec, arrays)
	for i := range list {
		specs[i] = nn.ParamSpec{Key: fmt.Sprintf("layer%d.weight", i), Shape: nd.Shape{side * side}}
		list[i] = array(specs[i].Key, specs[i].Shape, "bias")
	}
	head, data, err := safetensorsHead(list, nil)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	size := int64(len(head) + data)
	c, err := weights.OpenReader("gigabyte", hollow(head, size), size)
	if err != nil {
		t.Fatal(err)
	}
	report := weights.Match(c, nil, weights.Network{Params: specs})
	if err := report.Err(); err != nil {
		t.Fatal(err)
	}
	peak := int64(0)
	for _, s := range specs {
		v, err := report.Param(s.Key, s.Shape)
		if err != nil || len(v) != side*side {
			t.Fatalf("%d elements, %v", len(v), err)
		}
		runtime.ReadMemStats(&now)
		peak = max(peak, int64(now.HeapAlloc)-int64(before.HeapAlloc))
	}
	t.Logf("at most %d MiB of a file of %d", peak>>20, size>>20)
	const bytes = side * side * 4
	if size < 1<<30 || peak > 4*bytes { // the collector lets two or three go at a time
		t.Errorf("%d bytes are in use for a file of %d in arrays of %d", peak, size, bytes)
	}
}
