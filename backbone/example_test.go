package backbone_test

import (
	"fmt"

	"resdet/backbone"
)

// The paper's two backbones have one stride, so that one flag swaps them.
func Example() {
	for _, c := range []backbone.Config{backbone.VGG16(), backbone.ResNet(101), backbone.ResNetFPN(101)} {
		fmt.Println(c.Family, c.Depth, c.Strides(), c.Validate())
	}
	// Output:
	// vgg 16 [16] <nil>
	// resnet 101 [16] <nil>
	// resnet 101 [4 8 16 32 64] <nil>
}
