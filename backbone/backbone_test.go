package backbone_test

import (
	"testing"

	"resdet/backbone"
	"resdet/internal/nn"
)

// Layers with weights and multiply-adds, as the papers and torchvision's
// documentation count them.
func TestSizes(t *testing.T) {
	tests := []struct {
		name   string
		cfg    backbone.Config
		convs  int
		params int // elements of convolutions and norms' weight and bias
	}{
		// "totally 91 conv layers in ResNet-101" (He et al. 2015, appendix A) counts
		// conv1–conv4 without the three projections. torchvision: 44,549,160 in
		// all, of which layer4 has 14,964,736 and fc 2,049,000.
		{"resnet101 to conv4", backbone.ResNet(101), 91 + 3, 44_549_160 - 14_964_736 - 2_049_000},
		{"vgg16", backbone.VGG16(), 13, 14_714_688},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, err := nn.Build(func(b *nn.Builder) { tt.cfg.Build(b, b.Input("pixels", 1, 3, 64, 64)) })
			if err != nil {
				t.Fatal(err)
			}
			convs, params := 0, 0
			for _, n := range g.Nodes {
				if _, ok := n.Op.(nn.Conv); ok {
					convs++
				}
				if p, ok := n.Op.(nn.Param); ok && !isStatistic(p.Key) {
					params += n.Shape.Len()
				}
			}
			if convs != tt.convs || params != tt.params {
				t.Errorf("%d convolutions with %d parameters, want %d and %d", convs, params, tt.convs, tt.params)
			}
		})
	}
}

func isStatistic(key string) bool {
	n := len(key)
	return n > 12 && (key[n-12:] == "running_mean" || key[n-11:] == "running_var")
}

// Every level has the size that its stride says, whatever stands on top.
func TestLevels(t *testing.T) {
	pooled, p6p7, partial := backbone.ResNetFPN(50), backbone.ResNetFPN(50), backbone.ResNetFPN(50)
	p6p7.FPN.Top = "p6p7"
	partial.FPN.Stages = []int{2, 3, 4}
	for _, cfg := range []backbone.Config{backbone.ResNet(18), backbone.ResNet(152), backbone.ResNetFPN(34), pooled, p6p7, partial, backbone.VGG16()} {
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		const h, w = 256, 384
		_, err := nn.Build(func(b *nn.Builder) {
			levels := cfg.Build(b, b.Input("pixels", 2, 3, h, w))
			strides := cfg.Strides()
			if len(levels) != len(strides) {
				t.Fatalf("%+v: %d levels, %d strides", cfg, len(levels), len(strides))
			}
			for i, v := range levels {
				if s := b.Shape(v); s[2] != h/strides[i] || s[3] != w/strides[i] {
					t.Errorf("%+v: level %d is %v at stride %d", cfg, i, s, strides[i])
				}
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestValidate(t *testing.T) {
	bad := func(change func(*backbone.Config)) backbone.Config {
		c := backbone.ResNetFPN(50)
		change(&c)
		return c
	}
	for name, c := range map[string]backbone.Config{
		"zero":          {},
		"depth":         {Family: "resnet", Depth: 99},
		"vgg depth":     {Family: "vgg", Depth: 19},
		"vgg pyramid":   {Family: "vgg", Depth: 16, FPN: &backbone.FPN{Stages: []int{4}, Channels: 256}},
		"eps":           bad(func(c *backbone.Config) { c.NormEps = -1 }),
		"no stages":     bad(func(c *backbone.Config) { c.FPN.Stages = nil }),
		"hole":          bad(func(c *backbone.Config) { c.FPN.Stages = []int{2, 4} }),
		"stage 6":       bad(func(c *backbone.Config) { c.FPN.Stages = []int{5, 6} }),
		"channels":      bad(func(c *backbone.Config) { c.FPN.Channels = 0 }),
		"unknown crown": bad(func(c *backbone.Config) { c.FPN.Top = "p8" }),
	} {
		if c.Validate() == nil {
			t.Errorf("%s: %+v is valid", name, c)
		}
	}
}
