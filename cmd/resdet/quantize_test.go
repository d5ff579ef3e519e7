package main

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"resdet"
)

func TestFewest(t *testing.T) {
	for most := range 20 {
		for want := range most + 2 {
			var asked []int
			n, found, err := fewest(most, func(n int) (bool, error) {
				if slices.Contains(asked, n) || n > most {
					t.Errorf("of %d: asked for %d after %v", most, n, asked)
				}
				asked = append(asked, n)
				return n >= want, nil
			})
			if err != nil || found != (want <= most) || found && n != want {
				t.Errorf("of %d: %d, %v, %v; want %d", most, n, found, err, want)
			}
			if len(asked) > 10 {
				t.Errorf("of %d: %d questions", most, len(asked))
			}
		}
	}
	broken := errors.New("broken")
	if _, _, err := fewest(4, func(n int) (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// Of groups of layers those leave int8 first whose time undoes most loss, by way of
// bf16 where that is worth its time.
func TestMoves(t *testing.T) {
	cfg, err := resdet.NewConfig("resnet18-fpn", resdet.IndexedClasses("cat"))
	if err != nil {
		t.Fatal(err)
	}
	const early, late, regions = "backbone.body.layer1.0.conv1", "backbone.body.layer3.0.downsample.0", "roi_heads.box_head.fc6"
	layers := []quantizedLayer{
		{Layer: early, Precision: resdet.Int8, Loss: 0.04, LossBF16: 0.02},
		{Layer: late, Precision: resdet.Int8, Loss: 0.02, LossBF16: 0.001},
		{Layer: regions, Precision: resdet.Int8, Loss: 0.001},
		{Layer: "backbone.body.layer3.0.conv1", Precision: resdet.F32}, // read nothing but zeros
	}
	q := &quantizer{cfg: cfg, three: map[string]bool{early: true}, work: map[string]int64{early: 1e9, late: 1e9, regions: 1e9}}
	for _, c := range []struct {
		bf16 bool
		want []move
	}{
		{false, []move{{[]int{0}, resdet.F32, 0.1 / 0.0016}, {[]int{1}, resdet.F32, 0.75 / 0.0004}, {[]int{2}, resdet.F32, 0.75 / 1e-6}}},
		{true, []move{
			{[]int{0}, resdet.F32, 0.1 / 0.0016}, // no faster in bf16
			{[]int{1}, resdet.BF16, 0.25 / 0.000399}, {[]int{2}, resdet.BF16, 0.25 / 1e-6},
			{[]int{1}, resdet.F32, 0.5 / 1e-6}, {[]int{2}, resdet.F32, math.Inf(1)},
		}},
	} {
		q.bf16 = c.bf16
		got, err := q.moves(layers)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(move{}), cmpopts.EquateApprox(1e-9, 0)); diff != "" {
			t.Errorf("bf16 %v: %s", c.bf16, diff)
		}
	}
}

// bench takes those layers of a network without weights out of int8 that quantize
// takes out of the built-in model.
func TestLikeBuiltIn(t *testing.T) {
	cfg, err := resdet.NewConfig("resnet18-fpn", resdet.IndexedClasses("cat"))
	if err != nil {
		t.Fatal(err)
	}
	eight := resdet.Numbers{Precision: resdet.Int8, Scale: 1}
	got := &resdet.Quantization{Layers: map[string]resdet.Numbers{}}
	layers, err := cfg.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range layers {
		got.Layers[name] = eight
	}
	if err := likeBuiltIn(cfg, got); err != nil {
		t.Fatal(err)
	}
	half := resdet.Numbers{Precision: resdet.BF16}
	for name, want := range map[string]resdet.Numbers{
		"roi_heads.box_head.fc6": eight, "backbone.body.layer2.0.conv1": half, "backbone.fpn.layer_blocks.3.0": half,
		"backbone.body.layer1.0.conv1": {}, "rpn.head.conv.0.0": {},
	} {
		if got.Layers[name] != want {
			t.Errorf("%s: %v, want %v", name, got.Layers[name], want)
		}
	}
}

func TestSpread(t *testing.T) {
	all := []int{0, 1, 2, 3, 4, 5, 6}
	for n, want := range [][]int{all, {0}, {0, 3}, {0, 2, 4}, 7: all, 9: all} {
		if got := spread(all, n); want != nil && !slices.Equal(got, want) {
			t.Errorf("%d: %v, want %v", n, got, want)
		}
	}
}
