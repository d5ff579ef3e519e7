package backbone

import (
	"fmt"

	"resdet/internal/nn"
)

// resnets lists the blocks of conv2_x…conv5_x (He et al. 2015, table 1).
var resnets = map[int]struct {
	blocks     [4]int
	bottleneck bool
}{
	18:  {[4]int{2, 2, 2, 2}, false},
	34:  {[4]int{3, 4, 6, 3}, false},
	50:  {[4]int{3, 4, 6, 3}, true},
	101: {[4]int{3, 4, 23, 3}, true},
	152: {[4]int{3, 8, 36, 3}, true},
}

// resnet adds conv1 and the stages up to last (2…5) and returns C2…Clast.
func (c Config) resnet(b *Builder, x Value, last int) []Value {
	x = b.ReLU(b.Norm("bn1", b.Conv("conv1", x, 64, 7, 2, 3), c.NormEps))
	pool := nn.MaxPool{Kernel: 3, Stride: 2, Pad: 1}
	if c.CeilPool { // Caffe's pool1: no padding on the left, a window over the edge on the right
		pool = nn.MaxPool{Kernel: 3, Stride: 2, Ceil: true}
	}
	x = b.MaxPool("maxpool", x, pool)
	var stages []Value
	for stage := 2; stage <= last; stage++ {
		x = c.Stage(b, x, stage)
		stages = append(stages, x)
	}
	return stages
}

// Stage adds convN_x of a ResNet (stage 2…5) under torchvision's name,
// layer1…layer4: [N C H W] → [N C' H/2 W/2], except that stage 2 keeps the
// size. The region head of a C4 detector is stage 5 (He et al. 2015, appendix A).
func (c Config) Stage(b *Builder, x Value, stage int) Value {
	net := resnets[c.Depth]
	width := 64 << (stage - 2)
	b.Scope(fmt.Sprintf("layer%d", stage-1), func() {
		for i := range net.blocks[stage-2] {
			stride := 1
			if i == 0 && stage > 2 {
				stride = 2
			}
			b.Scope(fmt.Sprint(i), func() {
				if net.bottleneck {
					x = c.bottleneck(b, x, width, stride)
				} else {
					x = c.basic(b, x, width, stride)
				}
			})
		}
	})
	return x
}

// bottleneck is the 1×1, 3×3, 1×1 block with expansion 4.
func (c Config) bottleneck(b *Builder, x Value, width, stride int) Value {
	first, second := 1, stride
	if c.StrideIn1x1 {
		first, second = stride, 1
	}
	y := b.ReLU(b.Norm("bn1", b.Conv("conv1", x, width, 1, first, 0), c.NormEps))
	y = b.ReLU(b.Norm("bn2", b.Conv("conv2", y, width, 3, second, 1), c.NormEps))
	y = b.Norm("bn3", b.Conv("conv3", y, 4*width, 1, 1, 0), c.NormEps)
	return b.ReLU(b.Add(y, c.shortcut(b, x, 4*width, stride)))
}

// basic is the block of two 3×3 convolutions.
func (c Config) basic(b *Builder, x Value, width, stride int) Value {
	y := b.ReLU(b.Norm("bn1", b.Conv("conv1", x, width, 3, stride, 1), c.NormEps))
	y = b.Norm("bn2", b.Conv("conv2", y, width, 3, 1, 1), c.NormEps)
	return b.ReLU(b.Add(y, c.shortcut(b, x, width, stride)))
}

// shortcut is the identity, or a projection where the shape changes.
func (c Config) shortcut(b *Builder, x Value, out, stride int) Value {
	if stride == 1 && b.Shape(x)[1] == out {
		return x
	}
	return b.Norm("downsample.1", b.Conv("downsample.0", x, out, 1, stride, 0), c.NormEps)
}
