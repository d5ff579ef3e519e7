package resdet

import (
	"resdet/internal/weights"
	"resdet/internal/zoo"
)

// OpenDefault opens the model that is built into the program: a Faster R-CNN
// on ResNet-50 with a feature pyramid for VOC's twenty classes; its
// configuration's Provenance says where it comes from and what it scores.
// Programs that do not call it do not carry its 50 MB.
func OpenDefault(opt Options) (*Detector, error) {
	c, err := weights.OpenString("the default model", zoo.Default)
	if err != nil {
		return nil, err
	}
	return open(c, opt)
}

// DefaultFile returns the file of the built-in model, a safetensors file like
// those that [Open] reads: to start training from it, or to store it.
func DefaultFile() string { return zoo.Default }
