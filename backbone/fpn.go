package backbone

import (
	"fmt"

	"resdet/internal/nn"
)

// pyramid adds the ResNet body, the lateral and output convolutions and the
// top (Lin et al. 2017, section 3).
func (c Config) pyramid(b *Builder, pixels Value) []Value {
	f := c.FPN
	first, last := f.Stages[0], f.Stages[len(f.Stages)-1]
	var stages []Value
	b.Scope("body", func() { stages = c.resnet(b, pixels, last)[first-2:] })

	levels := make([]Value, len(stages))
	b.Scope("fpn", func() {
		var above Value
		for i := len(stages) - 1; i >= 0; i-- {
			x := b.ConvBias(fmt.Sprintf("inner_blocks.%d.0", i), stages[i], f.Channels, 1, 1, 0)
			if i < len(stages)-1 {
				x = b.Add(x, b.Upsample(above, x))
			}
			above = x
			levels[i] = b.ConvBias(fmt.Sprintf("layer_blocks.%d.0", i), x, f.Channels, 3, 1, 1)
		}
		levels = append(levels, c.top(b, stages[len(stages)-1], levels[len(levels)-1])...)
	})
	return levels
}

// top returns the levels above the last stage.
func (c Config) top(b *Builder, stage, level Value) []Value {
	f := c.FPN
	switch f.Top {
	case "pool":
		return []Value{b.MaxPool("pool", level, nn.MaxPool{Kernel: 1, Stride: 2})}
	case "p6p7":
		// torchvision takes the pyramid's level if it has as many channels as the
		// stage, the stage otherwise.
		from := stage
		if b.Shape(stage)[1] == f.Channels {
			from = level
		}
		p6 := b.ConvBias("extra_blocks.p6", from, f.Channels, 3, 2, 1)
		p7 := b.ConvBias("extra_blocks.p7", b.ReLU(p6), f.Channels, 3, 2, 1)
		return []Value{p6, p7}
	}
	return nil
}
