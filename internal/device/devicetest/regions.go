package devicetest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Network pixels of the images whose features are pooled here.
const imageWidth, imageHeight = 250, 180

// oddRegions lists regions of a batch of two images: ordinary ones, and those
// that an untrained or a padded network produces.
func oddRegions() *nd.Tensor[float32] {
	const w, h = imageWidth, imageHeight
	rows := [][5]float32{
		{0, 0, 0, w, h},                 // the whole image
		{1, 30.2, 41.7, 95.1, 120.4},    // ordinary
		{0, 10, 10, 20, 16},             // a bin is less than a pixel
		{1, 200.3, 150.2, w, h},         // at the far corner
		{0, 57.3, 61.9, 57.3, 61.9},     // no area
		{1, 57.3, 61.9, 57.3, 120},      // no width
		{0, 57.3, 61.9, 120, 61.9},      // no height
		{1, 3.1, 3.3, 3.2, 3.4},         // next to no area
		{0, -40.3, -33.1, 60.2, 70.7},   // over the near corner
		{1, 190.4, 140.9, 333.3, 301.1}, // over the far corner
		{0, -900.1, -800.2, -700.3, -600.4},
		{1, 2000.3, 1500.6, 2200.9, 1800.2}, // wholly outside
		{0, -3000.7, -2000.3, 4000.1, 3500.9},
		{1, 12.9, -70.3, 222.2, 290.1},
		{0, 16, 32, 80, 96}, // whole pixels of every level
	}
	rois := nd.New[float32](len(rows)+20, 5)
	for i, row := range rows {
		copy(rois.Data[5*i:], row[:])
	}
	r := random("regions")
	for i := len(rows); i < len(rows)+20; i++ {
		x, y := r.Float32()*w, r.Float32()*h
		// Sizes from 4 to 400 pixels, every octave alike.
		dx, dy := 4*float32(math.Exp2(float64(r.Float32()*6.6))), 4*float32(math.Exp2(float64(r.Float32()*6.6)))
		copy(rois.Data[5*i:], []float32{float32(i % 2), x - dx/2, y - dy/2, x + dx/2, y + dy/2})
	}
	return rois
}

// pyramid declares features of two images with strides 4, 8, 16 …
func pyramid(b *nn.Builder, channels, levels int) (p nn.Pyramid, features []nn.Value) {
	p = nn.Pyramid{CanonicalLevel: 4, CanonicalSize: 224}
	for i := range levels {
		stride := 4 << i
		p.Scales = append(p.Scales, 1/float64(stride))
		features = append(features, b.Input(fmt.Sprint("p", i+2), 2, channels, (imageHeight+stride-1)/stride, (imageWidth+stride-1)/stride))
	}
	return p, features
}

// regions tests the pooling of regions, from one level and from several.
func regions(t *testing.T, open Opener) {
	d := opened(t, open)
	rois := oddRegions()
	given := arrays{"rois": rois}
	one := nn.Pyramid{Scales: []float64{1. / 16}}
	feature := func(b *nn.Builder, channels int) []nn.Value { return []nn.Value{b.Input("x", 2, channels, 12, 16)} }

	for _, aligned := range []bool{false, true} {
		for _, sampling := range []int{-1, 0, 1, 2, 3} {
			for _, bins := range [][2]int{{7, 7}, {14, 14}, {3, 5}, {1, 1}} {
				t.Run(fmt.Sprintf("roialign/aligned_%v_sampling_%d_%dx%d", aligned, sampling, bins[0], bins[1]), func(t *testing.T) {
					check(t, d, sampled, given, func(b *nn.Builder) {
						op := nn.RoIAlign{Pyramid: one, H: bins[0], W: bins[1], Sampling: sampling, Aligned: aligned}
						b.Output("y", b.RoIAlign(op, feature(b, 19), b.Input("rois", rois.Shape...)))
					})
				})
			}
		}
	}
	for _, bins := range [][2]int{{7, 7}, {3, 5}, {1, 1}, {14, 14}} {
		t.Run(fmt.Sprintf("roipool/%dx%d", bins[0], bins[1]), func(t *testing.T) {
			check(t, d, exact, given, func(b *nn.Builder) {
				op := nn.RoIPool{Pyramid: one, H: bins[0], W: bins[1]}
				b.Output("y", b.RoIPool(op, feature(b, 19), b.Input("rois", rois.Shape...)))
			})
		})
	}

	for _, channels := range []int{1, 16, 37, 256} {
		t.Run(fmt.Sprintf("channels/%d", channels), func(t *testing.T) {
			check(t, d, sampled, given, func(b *nn.Builder) {
				in := b.Input("rois", rois.Shape...)
				b.Output("align", b.RoIAlign(nn.RoIAlign{Pyramid: one, H: 7, W: 7, Sampling: 2}, feature(b, channels), in))
			})
		})
	}
	for levels := 2; levels <= 4; levels++ {
		t.Run(fmt.Sprintf("levels/%d", levels), func(t *testing.T) {
			check(t, d, sampled, given, func(b *nn.Builder) {
				p, features := pyramid(b, 20, levels)
				in := b.Input("rois", rois.Shape...)
				b.Output("align", b.RoIAlign(nn.RoIAlign{Pyramid: p, H: 7, W: 7, Sampling: 2}, features, in))
				b.Output("adaptive", b.RoIAlign(nn.RoIAlign{Pyramid: p, H: 7, W: 7, Aligned: true}, features, in))
				b.Output("pool", b.RoIPool(nn.RoIPool{Pyramid: p, H: 7, W: 7}, features, in))
			})
		})
	}
	t.Run("levels/edges", func(t *testing.T) { // sizes on and beside the boundaries between levels
		var rows []float32
		for _, size := range []float32{1, 55.9, 56, 56.1, 111.9, 112, 112.1, 223.9, 224, 224.1, 447.9, 448, 448.1, 900} {
			rows = append(rows, 0, 5, 7, 5+size, 7+size)
		}
		edges := nd.Of(rows, len(rows)/5, 5)
		check(t, d, sampled, arrays{"rois": edges}, func(b *nn.Builder) {
			p, features := pyramid(b, 8, 4)
			b.Output("align", b.RoIAlign(nn.RoIAlign{Pyramid: p, H: 2, W: 2, Sampling: 2}, features, b.Input("rois", edges.Shape...)))
		})
	})
	t.Run("levels/corners belong to the region", func(t *testing.T) { // 111 + 1 is the boundary
		edges := nd.Of([]float32{0, 5, 7, 116, 118, 0, 5, 7, 115.9, 117.9, 0, 5, 7, 228, 230}, 3, 5)
		p := nn.Pyramid{Scales: []float64{1. / 4, 1. / 8, 1. / 16}, CanonicalLevel: 4, CanonicalSize: 224, Extra: 1}
		g := func(p nn.Pyramid) func(b *nn.Builder) {
			return func(b *nn.Builder) {
				_, features := pyramid(b, 8, 3)
				in := b.Input("rois", edges.Shape...)
				b.Output("align", b.RoIAlign(nn.RoIAlign{Pyramid: p, H: 2, W: 2, Sampling: 2}, features, in))
				b.Output("pool", b.RoIPool(nn.RoIPool{Pyramid: p, H: 2, W: 2}, features, in))
			}
		}
		check(t, d, sampled, arrays{"rois": edges}, g(p))
		usual := p
		usual.Extra = 0
		given := randomInputs(build(t, g(p)), arrays{"rois": edges})
		with, without := expected(t, build(t, g(p)), arrays{}, given), expected(t, build(t, g(usual)), arrays{}, given)
		if slices.Equal(with["align"].Data, without["align"].Data) {
			t.Error("the extra pixel moves no region to another level")
		}
	})
	t.Run("single", func(t *testing.T) {
		row := nd.Of([]float32{1, 30.2, 41.7, 95.1, 120.4}, 1, 5)
		check(t, d, sampled, arrays{"rois": row}, func(b *nn.Builder) {
			in := b.Input("rois", 1, 5)
			b.Output("align", b.RoIAlign(nn.RoIAlign{Pyramid: one, H: 14, W: 14, Sampling: 2}, feature(b, 300), in))
			b.Output("pool", b.RoIPool(nn.RoIPool{Pyramid: one, H: 7, W: 7}, feature(b, 300), in))
		})
	})
	t.Run("one pixel", func(t *testing.T) {
		check(t, d, sampled, given, func(b *nn.Builder) {
			in := b.Input("rois", rois.Shape...)
			x := []nn.Value{b.Input("x", 2, 8, 1, 1)}
			b.Output("align", b.RoIAlign(nn.RoIAlign{Pyramid: one, H: 7, W: 7, Sampling: 2}, x, in))
			b.Output("pool", b.RoIPool(nn.RoIPool{Pyramid: one, H: 7, W: 7}, x, in))
		})
	})
	t.Run("not finite", func(t *testing.T) { notFinite(t, open) })
}

// notFinite gives regions that no pixel can be computed for. What they pool
// to is the device's choice; that it does not crash, and pools the others
// right, is not.
func notFinite(t *testing.T, open Opener) {
	d := opened(t, open)
	rois := nd.New[float32](8, 5)
	bad := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 3e38}
	for i := range 4 {
		copy(rois.Data[10*i:], []float32{1, 30.2, 41.7, 95.1, 120.4})
		copy(rois.Data[10*i+5:], []float32{0, 30.2, bad[i], 95.1, 120.4})
		rois.Data[10*i+5+1+i] = bad[i]
	}
	p := nn.Pyramid{Scales: []float64{1. / 8, 1. / 16}, CanonicalLevel: 4, CanonicalSize: 224}
	g := build(t, func(b *nn.Builder) {
		features := []nn.Value{b.Input("p3", 2, 20, 24, 32), b.Input("p4", 2, 20, 12, 16)}
		in := b.Input("rois", rois.Shape...)
		b.Output("fixed", b.RoIAlign(nn.RoIAlign{Pyramid: p, H: 3, W: 3, Sampling: 2}, features, in))
		b.Output("adaptive", b.RoIAlign(nn.RoIAlign{Pyramid: p, H: 3, W: 3, Aligned: true}, features, in))
		b.Output("pool", b.RoIPool(nn.RoIPool{Pyramid: p, H: 3, W: 3}, features, in))
	})
	inputs := randomInputs(g, arrays{"rois": rois})
	program := compile(t, d, g, arrays{}, nil)
	run(t, program, g, inputs, nil)
	want := expected(t, g, arrays{}, inputs)
	for i, o := range g.Outputs {
		const row = 20 * 3 * 3
		for r := 0; r < 8; r += 2 {
			got := program.Output(i).Data()[r*row : (r+1)*row]
			compare(t, fmt.Sprintf("%s: region %d", o.Name, r), got, nd.Of(want[o.Name].Data[r*row:(r+1)*row], 20, 3, 3), sampled)
		}
	}
}
