// Package backbone builds the convolutional networks that turn pixels into
// features: ResNet (He et al. 2015), VGG-16 (Simonyan & Zisserman 2014) and
// the feature pyramid on top (Lin et al. 2017). It only builds graphs.
//
//	pixels [N 3 H W] ─▶ C2 ─▶ C3 ─▶ C4 ─▶ C5        one level: C4 (stride 16)
//	                     │     │     │     │
//	                    P2 ◀─ P3 ◀─ P4 ◀─ P5 ─▶ top   FPN: several levels
//
// Parameters have torchvision's names: backbone.layer1.0.conv1.weight without
// a pyramid, backbone.body.layer1.0.conv1.weight and backbone.fpn.* with one.
package backbone

import (
	"fmt"
	"slices"

	"resdet/internal/nn"
)

// Value is a value of the graph being built; Builder builds it. Both are
// named here so that code outside the module can call [Config.Build].
type (
	Value   = nn.Value
	Builder = nn.Builder
)

// Config describes a backbone. The zero value is not valid; see [ResNet] and
// [VGG16].
type Config struct {
	// Family is "resnet" or "vgg".
	Family string `json:"family"`
	// Depth is 18, 34, 50, 101 or 152 for resnet, 16 for vgg.
	Depth int `json:"depth"`
	// StrideIn1x1 puts a bottleneck's stride on its first 1×1 convolution
	// (He et al.'s own weights, MSRA's and detectron2's) instead of the 3×3
	// (torchvision).
	StrideIn1x1 bool `json:"stride_in_1x1,omitempty"`
	// NormEps is added to the variances of batch normalisation: 1e-5, but 0 in
	// torchvision's published COCO detectors.
	NormEps float64 `json:"norm_eps,omitempty"`
	// CeilPool rounds the sizes of pooled maps up, as Caffe does.
	CeilPool bool `json:"ceil_pool,omitempty"`
	// FPN is the pyramid on top; nil for the single level C4 of a ResNet or
	// conv5_3 of a VGG.
	FPN *FPN `json:"fpn,omitempty"`
}

// FPN describes a feature pyramid.
type FPN struct {
	// Stages feed the pyramid: 2…5 for C2…C5, ascending without holes. The
	// backbone ends with the last of them.
	Stages []int `json:"stages"`
	// Channels of every level; 256 in the paper.
	Channels int `json:"channels"`
	// Top is what stands above the last stage: "pool" (every other pixel of
	// the last level, as Faster R-CNN), "p6p7" (two strided convolutions, as
	// RetinaNet) or "" for nothing.
	Top string `json:"top,omitempty"`
}

// ResNet returns the paper's single-level backbone (conv1–conv4, stride 16)
// in torchvision's convention.
func ResNet(depth int) Config { return Config{Family: "resnet", Depth: depth, NormEps: 1e-5} }

// ResNetFPN returns a ResNet with a pyramid over C2–C5 and a pooled top.
func ResNetFPN(depth int) Config {
	c := ResNet(depth)
	c.FPN = &FPN{Stages: []int{2, 3, 4, 5}, Channels: 256, Top: "pool"}
	return c
}

// VGG16 returns the thirteen convolutions of VGG-16 up to conv5_3 (stride 16).
func VGG16() Config { return Config{Family: "vgg", Depth: 16} }

// Validate reports what is wrong with the configuration.
func (c Config) Validate() error {
	switch c.Family {
	case "resnet":
		if _, ok := resnets[c.Depth]; !ok {
			return fmt.Errorf("backbone: depth %d: a resnet has 18, 34, 50, 101 or 152 layers", c.Depth)
		}
		if c.NormEps < 0 || c.NormEps > 1 {
			return fmt.Errorf("backbone: norm_eps %g is not in [0, 1]", c.NormEps)
		}
	case "vgg":
		if c.Depth != 16 {
			return fmt.Errorf("backbone: depth %d: only vgg 16 is known", c.Depth)
		}
		if c.FPN != nil {
			return fmt.Errorf("backbone: a feature pyramid needs a resnet")
		}
	default:
		return fmt.Errorf("backbone: family %q is neither resnet nor vgg", c.Family)
	}
	if f := c.FPN; f != nil {
		if len(f.Stages) == 0 || f.Stages[0] < 2 || f.Stages[len(f.Stages)-1] > 5 {
			return fmt.Errorf("backbone: fpn stages %v are not of 2…5", f.Stages)
		}
		for i, s := range f.Stages {
			if s != f.Stages[0]+i {
				return fmt.Errorf("backbone: fpn stages %v are not ascending without holes", f.Stages)
			}
		}
		if f.Channels < 1 || f.Channels > 4096 {
			return fmt.Errorf("backbone: fpn channels %d are not in 1…4096", f.Channels)
		}
		if !slices.Contains([]string{"", "pool", "p6p7"}, f.Top) {
			return fmt.Errorf("backbone: fpn top %q is none of \"pool\", \"p6p7\", \"\"", f.Top)
		}
	}
	return nil
}

// Strides returns the input pixels per feature pixel of every level that
// [Config.Build] returns, finest first.
func (c Config) Strides() []int {
	if c.FPN == nil {
		return []int{16}
	}
	var strides []int
	for _, s := range c.FPN.Stages {
		strides = append(strides, 1<<s)
	}
	last := strides[len(strides)-1]
	switch c.FPN.Top {
	case "pool":
		strides = append(strides, 2*last)
	case "p6p7":
		strides = append(strides, 2*last, 4*last)
	}
	return strides
}

// Levels returns the number of levels that a region head pools from: all but
// those of the pyramid's top.
func (c Config) Levels() int {
	if c.FPN == nil {
		return 1
	}
	return len(c.FPN.Stages)
}

// Build adds the backbone to b and returns its levels, finest first:
// [N C H/stride W/stride] each. c must be valid.
func (c Config) Build(b *Builder, pixels Value) []Value {
	var levels []Value
	b.Scope("backbone", func() {
		switch {
		case c.Family == "vgg":
			levels = []Value{c.vgg16(b, pixels)}
		case c.FPN == nil:
			stages := c.resnet(b, pixels, 4)
			levels = stages[len(stages)-1:]
		default:
			levels = c.pyramid(b, pixels)
		}
	})
	return levels
}
