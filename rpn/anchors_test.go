package rpn_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"resdet/internal/box"
	"resdet/internal/fixture"
	"resdet/rpn"
)

// The cells of torchvision's default generator, as it prints them: rounded
// half to even, ratio-major.
func TestCell(t *testing.T) {
	a := rpn.Anchors{Sizes: [][]float32{{128, 256, 512}}, Ratios: []float32{0.5, 1, 2}, Round: true}
	want := []box.Box{
		{X0: -91, Y0: -45, X1: 91, Y1: 45}, {X0: -181, Y0: -91, X1: 181, Y1: 91}, {X0: -362, Y0: -181, X1: 362, Y1: 181},
		{X0: -64, Y0: -64, X1: 64, Y1: 64}, {X0: -128, Y0: -128, X1: 128, Y1: 128}, {X0: -256, Y0: -256, X1: 256, Y1: 256},
		{X0: -45, Y0: -91, X1: 45, Y1: 91}, {X0: -91, Y0: -181, X1: 91, Y1: 181}, {X0: -181, Y0: -362, X1: 181, Y1: 362},
	}
	got := a.Cell(0)
	if len(got) != a.PerCell(0) || len(got) != len(want) {
		t.Fatalf("%d anchors, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("anchor %d is %v, want %v", i, got[i], want[i])
		}
	}
	a.Round = false
	if b := a.Cell(0)[0]; b == want[0] || b.Width()*b.Height() < 128*128-1 || b.Width()*b.Height() > 128*128+1 {
		t.Errorf("unrounded anchor %v does not have area 128²", b)
	}
}

// The nine anchors of py-faster-rcnn's generate_anchors, bit for bit. (The
// table in that file's comment is MATLAB's, which counts pixels from 1.)
func TestLegacyAnchors(t *testing.T) {
	a := rpn.Anchors{Sizes: [][]float32{{128, 256, 512}}, Ratios: []float32{0.5, 1, 2}, Bases: []float32{16}}
	if err := a.Validate(1); err != nil {
		t.Fatal(err)
	}
	want := []box.Box{
		{X0: -84, Y0: -40, X1: 99, Y1: 55}, {X0: -176, Y0: -88, X1: 191, Y1: 103}, {X0: -360, Y0: -184, X1: 375, Y1: 199},
		{X0: -56, Y0: -56, X1: 71, Y1: 71}, {X0: -120, Y0: -120, X1: 135, Y1: 135}, {X0: -248, Y0: -248, X1: 263, Y1: 263},
		{X0: -36, Y0: -80, X1: 51, Y1: 95}, {X0: -80, Y0: -168, X1: 95, Y1: 183}, {X0: -168, Y0: -344, X1: 183, Y1: 359},
	}
	if got := a.Cell(0); !slices.Equal(got, want) {
		t.Errorf("anchors\n%v, want\n%v", got, want)
	}
	// Detectron's pyramid: one size a level, multiples of the level's stride.
	p := rpn.Anchors{Sizes: [][]float32{{32}, {64}}, Ratios: []float32{0.5, 1, 2}, Bases: []float32{4, 8}}
	if got, want := p.Cell(0), []box.Box{{X0: -22, Y0: -10, X1: 25, Y1: 13}, {X0: -14, Y0: -14, X1: 17, Y1: 17}, {X0: -10, Y0: -22, X1: 13, Y1: 25}}; !slices.Equal(got, want) {
		t.Errorf("anchors of stride 4 %v, want %v", got, want)
	}
	for _, bases := range [][]float32{{16, 32}, {0}, {float32(math.NaN())}} {
		a.Bases = bases
		if a.Validate(1) == nil {
			t.Errorf("bases %v are valid", bases)
		}
	}
}

// Every anchor of every case equals torchvision's.
func TestAnchorsTorchvision(t *testing.T) {
	dir := fixture.Shared(t, "fixtures", "torchvision")
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Cases []struct {
			Dir  string          `json:"dir"`
			Meta json.RawMessage `json:"meta"` // differs from operation to operation
		} `json:"cases"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, c := range index.Cases {
		if filepath.Dir(c.Dir) != "anchors" {
			continue
		}
		ran++
		var m struct {
			Sizes  [][]float32 `json:"sizes"`
			Ratios [][]float32 `json:"ratios"`
			Feat   [][2]int    `json:"feat"`
			Image  [2]int      `json:"image"`
		}
		if err := json.Unmarshal(c.Meta, &m); err != nil {
			t.Fatal(err)
		}
		a := rpn.Anchors{Sizes: m.Sizes, Ratios: m.Ratios[0], Round: true, GridStride: true}
		if err := a.Validate(len(m.Feat)); err != nil {
			t.Fatal(err)
		}
		want := fixture.Floats(t, filepath.Join(dir, c.Dir, "out.npy"))
		row := 0
		for level, f := range m.Feat {
			g := a.Grid(level, f[0], f[1], m.Image[0], m.Image[1], 0)
			for i := range g.Len() {
				w := want.Data[4*row:][:4]
				if got := g.At(i); got != (box.Box{X0: w[0], Y0: w[1], X1: w[2], Y1: w[3]}) {
					t.Fatalf("%s: anchor %d of level %d is %v, want %v", c.Dir, i, level, got, w)
				}
				row++
			}
		}
		if row != want.Shape[0] {
			t.Errorf("%s: %d anchors, want %d", c.Dir, row, want.Shape[0])
		}
	}
	if ran == 0 {
		t.Fatal("no cases were found")
	}
}
