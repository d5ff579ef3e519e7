package transform

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/nd"
)

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func TestPlanIsTorchvisions(t *testing.T) {
	var cases [][8]int
	readJSON(t, "testdata/sizes.json", &cases)
	inexact := 0
	for _, k := range cases {
		c := DefaultConfig()
		c.ShortSide, c.LongSide = k[0], k[1]
		view, shape := c.Plan(k[2], k[3])
		want := det.View{Width: k[2], Height: k[3], ScaledWidth: k[4], ScaledHeight: k[5]}
		if view != want || !shape.Equal(nd.Shape{1, 3, k[7], k[6]}) {
			t.Errorf("Plan(%d, %d) at %d/%d = %+v %v, want %+v and %dx%d", k[2], k[3], k[0], k[1], view, shape, want, k[7], k[6])
		}
		scale := min(float64(k[0])/float64(min(k[2], k[3])), float64(k[1])/float64(max(k[2], k[3])))
		if int(float64(k[2])*scale) != k[4] || int(float64(k[3])*scale) != k[5] {
			inexact++
		}
	}
	if inexact < 20 {
		t.Errorf("only %d sizes need torch's rounding; the table does not test it", inexact)
	}
}

// TestPlanRounds gives the sizes that cv2.resize with one factor for both
// sides gives (py-faster-rcnn's 600 and 1000), where torchvision rounds down.
func TestPlanRounds(t *testing.T) {
	c := DefaultConfig()
	c.ShortSide, c.LongSide, c.PadMultiple = 600, 1000, 1
	for _, tt := range []struct{ w, h, roundW, roundH, downW, downH int }{
		{500, 375, 800, 600, 800, 600},
		{353, 500, 600, 850, 599, 849}, // 849.86; torchvision's float32 scale loses a pixel of 600
		{500, 291, 1000, 582, 1000, 582},
		{640, 333, 1000, 520, 1000, 520}, // 520.3
		{500, 287, 1000, 574, 1000, 574},
		{334, 500, 600, 898, 600, 898}, // 898.2
		{335, 500, 600, 896, 600, 895}, // 895.5
	} {
		for _, round := range []bool{true, false} {
			c.RoundSize = round
			w, h := tt.downW, tt.downH
			if round {
				w, h = tt.roundW, tt.roundH
			}
			if v, _ := c.Plan(tt.w, tt.h); v.ScaledWidth != w || v.ScaledHeight != h {
				t.Errorf("%dx%d, round %v: %dx%d, want %dx%d", tt.w, tt.h, round, v.ScaledWidth, v.ScaledHeight, w, h)
			}
		}
	}
}

func TestPlanKeepsAPixel(t *testing.T) {
	c := DefaultConfig()
	for _, size := range [][2]int{{1, 100000}, {100000, 1}, {1, 1}} {
		view, shape := c.Plan(size[0], size[1])
		if view.ScaledWidth < 1 || view.ScaledHeight < 1 || shape[2]%32 != 0 || shape[3]%32 != 0 || shape.Len() == 0 {
			t.Errorf("%v: %+v %v", size, view, shape)
		}
	}
}

func TestBatchShape(t *testing.T) {
	c := DefaultConfig()
	a := det.View{ScaledWidth: 100, ScaledHeight: 65}
	b := det.View{ScaledWidth: 33, ScaledHeight: 96}
	if got := c.BatchShape(a, b); !got.Equal(nd.Shape{2, 3, 96, 128}) {
		t.Error(got)
	}
	c.PadMultiple = 1
	if got := c.BatchShape(a, b); !got.Equal(nd.Shape{2, 3, 96, 100}) {
		t.Error(got)
	}
}

func TestUndo(t *testing.T) {
	// torchvision's resize_boxes, (800, 1066) → (375, 500).
	view := det.View{Width: 500, Height: 375, ScaledWidth: 1066, ScaledHeight: 800}
	dets := []det.Detection{{Class: 3, Score: 0.5, Box: box.Box{X0: 10.5, Y0: 0, X1: 1066, Y1: 799.25}}}
	got := Config{}.Undo(view, dets)
	rx, ry := float32(500)/float32(1066), float32(375)/float32(800)
	want := []det.Detection{{Class: 3, Score: 0.5, Box: box.Box{X0: 10.5 * rx, Y0: 0, X1: 1066 * rx, Y1: 799.25 * ry}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if &got[0] != &dets[0] {
		t.Error("Undo copied")
	}
}

func TestConfigJSON(t *testing.T) {
	b, err := json.Marshal(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"channel_order":"RGB","scale":0.00392156862745098,"mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225],"min_size":800,"max_size":1333,"size_divisible":32}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back Config
	if err := json.Unmarshal(b, &back); err != nil || back != DefaultConfig() {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	nan := float32(math.NaN())
	for _, k := range []struct {
		name  string
		spoil func(*Config)
	}{
		{"channel_order", func(c *Config) { c.Order = "GBR" }},
		{"scale", func(c *Config) { c.Scale = 0 }},
		{"scale", func(c *Config) { c.Scale = math.NaN() }},
		{"scale", func(c *Config) { c.Scale = math.Inf(1) }},
		{"mean[1]", func(c *Config) { c.Mean[1] = nan }},
		{"std[2]", func(c *Config) { c.Std[2] = 0 }},
		{"std[0]", func(c *Config) { c.Std[0] = nan }},
		{"min_size", func(c *Config) { c.ShortSide = 0 }},
		{"max_size", func(c *Config) { c.LongSide = c.ShortSide - 1 }},
		{"max_size", func(c *Config) { c.LongSide = 1 << 40 }},
		{"size_divisible", func(c *Config) { c.PadMultiple = 0 }},
		{"size_divisible", func(c *Config) { c.PadMultiple = 1 << 40 }},
	} {
		c := DefaultConfig()
		k.spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), k.name) {
			t.Errorf("%s: error is %v", k.name, err)
		}
	}
}
