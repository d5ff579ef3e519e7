package weights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// arrays are parameters in memory.
type arrays map[string][]float32

func (a arrays) Param(key string, _ nd.Shape) ([]float32, error) {
	v, ok := a[key]
	if !ok {
		return nil, errors.New("not there")
	}
	return v, nil
}

// sample has vectors and matrices, of odd lengths, and the values that
// conversions get wrong.
func sample() ([]nn.ParamSpec, arrays) {
	specs := []nn.ParamSpec{
		{Key: "a.weight", Shape: nd.Shape{3, 5}}, {Key: "a.bias", Shape: nd.Shape{3}}, {Key: "b.running_var", Shape: nd.Shape{1}},
		{Key: "b.weight", Shape: nd.Shape{2, 3, 3, 1}}, {Key: "empty", Shape: nd.Shape{0, 4}}, {Key: "scalar", Shape: nd.Shape{}},
	}
	values := arrays{}
	for _, s := range specs {
		values[s.Key], _ = normal{}.Param(s.Key, s.Shape)
	}
	inf := float32(math.Inf(1))
	copy(values["a.weight"], []float32{0, float32(math.Copysign(0, -1)), inf, -inf, 65504, 0x1p-24, 1e-6, 1. / 3})
	values["b.running_var"][0] = 1e7 // beyond float16
	return specs, values
}

const sampleConfig = `{"arch": "x", "note": "\"quoted\" <ü> \\ "}`

func TestRoundTrip(t *testing.T) {
	specs, values := sample()
	for _, dtype := range []DType{F32, F16} {
		path := filepath.Join(t.TempDir(), "model.safetensors")
		if err := Save(path, []byte(sampleConfig), specs, values, dtype); err != nil {
			t.Fatal(err)
		}
		c, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Fit(specs); err != nil {
			t.Error(err)
		}
		config, err := c.Config()
		if err != nil || string(config) != `{"arch":"x","note":"\"quoted\" <ü> \\ "}` {
			t.Errorf("configuration %s, %v", config, err)
		}
		if c.Metadata["format"] != "pt" {
			t.Errorf("metadata %q", c.Metadata)
		}
		for _, s := range specs {
			got, err := c.Param(s.Key, s.Shape)
			if err != nil {
				t.Fatal(err)
			}
			want := values[s.Key]
			if len(got) != len(want) {
				t.Fatalf("%s has %d values, want %d", s.Key, len(got), len(want))
			}
			for i := range want {
				w := want[i]
				if dtype == F16 && len(s.Shape) > 1 {
					h, _ := floatToHalf(w)
					w = halfToFloat(uint32(h))
				}
				if math.Float32bits(got[i]) != math.Float32bits(w) {
					t.Errorf("%v: %s[%d] is %v, want %v", dtype, s.Key, i, got[i], w)
				}
			}
		}
	}
}

// The file is what the format's description says, read with the standard
// library alone; arrays are aligned, and the same input gives the same bytes.
func TestFileFormat(t *testing.T) {
	specs, values := sample()
	dir := t.TempDir()
	var files [2][]byte
	for i := range files {
		path := filepath.Join(dir, "model.safetensors") // the second replaces the first
		if err := Save(path, []byte(sampleConfig), specs, values, F16); err != nil {
			t.Fatal(err)
		}
		files[i], _ = os.ReadFile(path)
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two files of the same input differ")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	b := files[0]
	n := int(binary.LittleEndian.Uint64(b))
	var header map[string]struct {
		DType   string
		Shape   []int
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(b[8:8+n], &header); err != nil || n%8 != 0 {
		t.Fatalf("header of %d bytes: %v", n, err)
	}
	data := b[8+n:]
	if len(header) != len(specs)+1 {
		t.Errorf("%d members", len(header))
	}
	for _, s := range specs {
		h := header[s.Key]
		size, want := 2, "F16"
		if len(s.Shape) < 2 {
			size, want = 4, "F32"
		}
		if h.DType != want || !s.Shape.Equal(h.Shape) || h.Offsets[1]-h.Offsets[0] != size*s.Shape.Len() || h.Offsets[0]%size != 0 {
			t.Errorf("%s is %+v", s.Key, h)
		}
		if want == "F32" {
			for i, v := range values[s.Key] {
				if got := binary.LittleEndian.Uint32(data[h.Offsets[0]+4*i:]); got != math.Float32bits(v) {
					t.Errorf("%s[%d] is %#x", s.Key, i, got)
				}
			}
		}
	}
}

// A file that cannot be written whole leaves what was there, and nothing else.
func TestSaveFails(t *testing.T) {
	for name, tt := range map[string]struct {
		change func([]nn.ParamSpec, arrays) (config string, dtype DType)
		want   string
	}{
		"too large":  {func(_ []nn.ParamSpec, a arrays) (string, DType) { a["a.weight"][14] = 65520; return "{}", F16 }, "a.weight: 65520 is too large for float16"},
		"not there":  {func(_ []nn.ParamSpec, a arrays) (string, DType) { delete(a, "b.weight"); return "{}", F32 }, "b.weight: not there"},
		"too few":    {func(_ []nn.ParamSpec, a arrays) (string, DType) { a["a.bias"] = a["a.bias"][1:]; return "{}", F32 }, "2 values for shape [3]"},
		"no JSON":    {func([]nn.ParamSpec, arrays) (string, DType) { return "arch: x", F32 }, "no JSON"},
		"same names": {func(s []nn.ParamSpec, _ arrays) (string, DType) { s[1].Key = s[0].Key; return "{}", F32 }, `"a.weight" is empty or taken`},
		"int8":       {func([]nn.ParamSpec, arrays) (string, DType) { return "{}", I8 }, "int8"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "model.safetensors")
			if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
				t.Fatal(err)
			}
			specs, values := sample()
			config, dtype := tt.change(specs, values)
			err := Save(path, []byte(config), specs, values, dtype)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want %q and the path", err, tt.want)
			}
			if b, _ := os.ReadFile(path); string(b) != "before" {
				t.Errorf("the file before was touched: %q", b)
			}
			if left, _ := os.ReadDir(dir); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestNotAModel(t *testing.T) {
	c := memory(t, map[string]nd.Shape{"a": {1}})
	_, err := c.Config()
	var not *NotModelError
	if !errors.As(err, &not) || !errors.Is(err, ErrFormat) || !strings.Contains(not.Hint(), "weights import test.safetensors") {
		t.Errorf("error %v", err)
	}
}
