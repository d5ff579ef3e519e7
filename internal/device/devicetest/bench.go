package devicetest

import (
	"fmt"
	"testing"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Bench measures a device on the layers of real networks: ResNet-101 C4 and
// VGG-16 at 600×1000 with 300 regions, an FPN at 800×1333 with 1000.
func Bench(b *testing.B, open func(t testing.TB) device.Device) {
	conv := func(c, h, w, out, kernel, stride int) func(b *nn.Builder) {
		return func(b *nn.Builder) {
			x := b.Conv("conv", b.Input("x", 1, c, h, w), out, kernel, stride, kernel/2)
			b.Output("y", b.ReLU(b.Norm("bn", x, 1e-5)))
		}
	}
	for _, c := range []struct {
		name  string
		model func(b *nn.Builder)
	}{
		{"stem 7x7s2 3-64 600x1000", conv(3, 600, 1000, 64, 7, 2)},
		{"res2 1x1 64-256 150x250", conv(64, 150, 250, 256, 1, 1)},
		{"res2 3x3 64-64 150x250", conv(64, 150, 250, 64, 3, 1)},
		{"res3 3x3s2 128-128 150x250", conv(128, 150, 250, 128, 3, 2)},
		{"res4 1x1 1024-256 38x63", conv(1024, 38, 63, 256, 1, 1)},
		{"res4 3x3 256-256 38x63", conv(256, 38, 63, 256, 3, 1)},
		{"res4 1x1 256-1024 38x63", conv(256, 38, 63, 1024, 1, 1)},
		{"vgg conv4 3x3 512-512 75x125", conv(512, 75, 125, 512, 3, 1)},
		{"rpn 3x3 1024-1024 38x63", conv(1024, 38, 63, 1024, 3, 1)},
		{"res5 3x3 512-512 7x7 of 64 regions", func(b *nn.Builder) {
			x := b.Conv("conv", b.Input("x", 64, 512, 7, 7), 512, 3, 1, 1)
			b.Output("y", b.ReLU(b.Norm("bn", x, 1e-5)))
		}},
		{"fc6 12544-1024 of 300 regions", func(b *nn.Builder) {
			b.Output("y", b.ReLU(b.Linear("fc6", b.Input("x", 300, 12544), 1024)))
		}},
		{"maxpool 3x3s2 64 300x500", func(b *nn.Builder) {
			b.Output("y", b.MaxPool("pool", b.Input("x", 1, 64, 300, 500), nn.MaxPool{Kernel: 3, Stride: 2, Pad: 1}))
		}},
		{"roialign 14x14 1024 of 300 regions", func(b *nn.Builder) {
			op := nn.RoIAlign{Pyramid: nn.Pyramid{Scales: []float64{1. / 16}}, H: 14, W: 14, Sampling: 2}
			b.Output("y", b.RoIAlign(op, []nn.Value{b.Input("x", 1, 1024, 38, 63)}, b.Input("rois", 300, 5)))
		}},
		{"roialign 7x7 256 of 1000 regions, 4 levels", func(b *nn.Builder) {
			op := nn.RoIAlign{Pyramid: nn.Pyramid{CanonicalLevel: 4, CanonicalSize: 224}, H: 7, W: 7, Sampling: 2}
			var features []nn.Value
			for i := range 4 {
				op.Scales = append(op.Scales, 1/float64(int(4)<<i))
				features = append(features, b.Input(fmt.Sprint("p", i+2), 1, 256, 200>>i, 336>>i))
			}
			b.Output("y", b.RoIAlign(op, features, b.Input("rois", 1000, 5)))
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := opened(b, open)
			g := build(b, c.model)
			p := compile(b, d, g, randomParams(g), nil)
			fill(p, g, randomInputs(g, arrays{"rois": scattered(1000, 600)}), nil)
			var flops int64
			for v := range g.Nodes {
				flops += g.FLOPs(nn.Value(v))
			}
			ctx := b.Context()
			if err := p.Run(ctx, nil); err != nil { // touches all memory
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Run(ctx, nil); err != nil {
					b.Fatal(err)
				}
			}
			if flops > 0 {
				b.ReportMetric(float64(flops)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			}
		})
	}
}

// scattered returns 1000 regions of one image, of 20 to 300 pixels.
func scattered(width, height float32) *nd.Tensor[float32] {
	rois := nd.New[float32](1000, 5)
	r := random("scattered")
	for i := range 1000 {
		x, y := r.Float32()*width, r.Float32()*height
		w, h := 20+280*r.Float32(), 20+280*r.Float32()
		copy(rois.Data[5*i:], []float32{0, max(0, x-w/2), max(0, y-h/2), min(width, x+w/2), min(height, y+h/2)})
	}
	return rois
}
