package cpu_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"resdet/backbone"
	"resdet/internal/device"
	"resdet/internal/formula"
	"resdet/internal/nn"
	"resdet/roihead"
	"resdet/rpn"
)

// network is a detector's two graphs at the size that the peers are measured
// at, with their anchors per cell and classes.
type network struct {
	name          string
	backbone      backbone.Config
	height, width int // padded to 32
	anchors       int // per cell
	regions       int
	classes       int
	head          func(c *roihead.Config)
}

var networks = []network{
	{"vgg16", backbone.VGG16(), 608, 1024, 9, 300, 20, func(c *roihead.Config) { c.Hidden = 4096 }},
	{"resnet101-c4", backbone.ResNet(101), 608, 1024, 12, 300, 80, func(c *roihead.Config) { c.Kind, c.Hidden, c.Pool.Size = "res5", 0, 14 }},
	{"resnet101-fpn", backbone.ResNetFPN(101), 800, 1344, 3, 1000, 90, func(c *roihead.Config) {}},
	{"voc", vocBackbone(), 320, 480, 6, 300, 20, func(c *roihead.Config) {}},
}

// vocBackbone is that of the shipped model.
func vocBackbone() backbone.Config {
	c := backbone.ResNetFPN(50)
	c.FPN.Stages, c.StrideIn1x1 = []int{2, 3, 4}, true
	return c
}

// compiled is a network on a device, its inputs filled.
type compiled struct {
	programs [2]device.Program
	kept     map[string]device.Buffer // features
}

func (n network) compile(t testing.TB, d device.Device, params device.Params) *compiled {
	t.Helper()
	one, two := n.graphs(t)
	c := &compiled{}
	c.programs[0], c.kept = n.compileFirst(t, d, one, params)
	var err error
	if c.programs[1], err = d.Compile(two, params, c.kept); err != nil {
		t.Fatal(err)
	}
	pixels := c.programs[0].Input(0).Data()
	for i := range pixels {
		pixels[i] = float32(formula.Unit(7, i))
	}
	fillRegions(c.programs[1].Input(len(c.kept)).Data(), float32(n.width), float32(n.height))
	return c
}

// compileFirst compiles the first stage and returns its features by the names
// of the second's inputs.
func (n network) compileFirst(t testing.TB, d device.Device, one *nn.Graph, params device.Params) (device.Program, map[string]device.Buffer) {
	t.Helper()
	p, err := d.Compile(one, params, nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]device.Buffer{}
	for i, o := range one.Outputs {
		if o.Kept {
			kept[o.Name] = p.Output(i)
		}
	}
	return p, kept
}

// run runs both stages and returns their times.
func (c *compiled) run(t testing.TB, ctx context.Context) (stages [2]time.Duration) {
	t.Helper()
	for i, bound := range []map[string]device.Buffer{nil, c.kept} {
		start := time.Now()
		if err := c.programs[i].Run(ctx, bound); err != nil {
			t.Fatal(err)
		}
		stages[i] = time.Since(start)
	}
	return stages
}

func (n network) graphs(t testing.TB) (one, two *nn.Graph) {
	t.Helper()
	a := rpn.Anchors{Ratios: make([]float32, n.anchors)}
	for range n.backbone.Strides() {
		a.Sizes = append(a.Sizes, []float32{32})
	}
	head := roihead.DefaultConfig()
	n.head(&head)
	one, err := nn.Build(func(b *nn.Builder) {
		levels := n.backbone.Build(b, b.Input("pixels", 1, 3, n.height, n.width))
		logits, deltas := rpn.DefaultConfig(a).Head(b, levels)
		for i := range levels {
			b.Output(fmt.Sprint("logits", i), logits[i])
			b.Output(fmt.Sprint("deltas", i), deltas[i])
		}
		for i, v := range levels[:n.backbone.Levels()] {
			b.Keep(fmt.Sprint("feat", i), v)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	two, err = nn.Build(func(b *nn.Builder) {
		var levels []nn.Value
		for _, o := range one.Outputs {
			if o.Kept {
				levels = append(levels, b.Input(o.Name, one.Nodes[o.Value].Shape...))
			}
		}
		logits, deltas := head.Head(b, n.backbone, levels, b.Input("rois", n.regions, 5), n.classes)
		b.Output("class_logits", logits)
		b.Output("box_regression", deltas)
	})
	if err != nil {
		t.Fatal(err)
	}
	return one, two
}

// fillRegions writes regions of 20 to 300 pixels, all over the image.
func fillRegions(rois []float32, width, height float32) {
	unit := func(i int) float32 { return float32(formula.Unit(11, i)+1) / 2 }
	for i := 0; i < len(rois)/5; i++ {
		x, y := unit(4*i)*width, unit(4*i+1)*height
		w, h := 20+280*unit(4*i+2), 20+280*unit(4*i+3)
		copy(rois[5*i:], []float32{0, max(0, x-w/2), max(0, y-h/2), min(width, x+w/2), min(height, y+h/2)})
	}
}
