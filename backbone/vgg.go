package backbone

import (
	"fmt"

	"resdet/internal/nn"
)

// vgg16Layers are the output channels of conv1_1…conv5_3 (Simonyan &
// Zisserman 2014, table 1, column D); 0 is a 2×2 max pooling. pool5 is left
// out: the region head pools instead.
var vgg16Layers = []int{64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512}

// vgg16 adds the convolutions under torchvision's names, which count every
// layer of its nn.Sequential: 0, 2, 5, 7, 10 … 28.
func (c Config) vgg16(b *Builder, x Value) Value {
	index := 0
	for _, channels := range vgg16Layers {
		name := fmt.Sprint(index)
		if channels == 0 {
			x = b.MaxPool(name, x, nn.MaxPool{Kernel: 2, Stride: 2, Ceil: c.CeilPool})
			index++
			continue
		}
		x = b.ReLU(b.ConvBias(name, x, channels, 3, 1, 1))
		index += 2 // the convolution and its ReLU
	}
	return x
}
