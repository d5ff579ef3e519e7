package resdet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"resdet/backbone"
	"resdet/internal/nn"
	"resdet/internal/transform"
	"resdet/roihead"
	"resdet/rpn"
)

// Config is everything that inference needs beside the weights. It is stored
// as JSON in the model file, so that a model is one file.
type Config struct {
	// Arch is the architecture's name, one of [Archs]; it is for people: the
	// other fields say what is built.
	Arch string `json:"arch"`
	// Classes in the order of the head's rows, without the background.
	Classes   []Class         `json:"classes"`
	Transform Transform       `json:"transform"`
	Backbone  backbone.Config `json:"backbone"`
	RPN       rpn.Config      `json:"rpn"`
	ROI       roihead.Config  `json:"roi"`
	// Quantization says how the layers of a quantised model compute in int8; nil
	// for a model that is not.
	Quantization *Quantization `json:"quantization,omitempty"`
	// Provenance says where the weights come from and what they score.
	Provenance Provenance `json:"provenance,omitzero"`
}

// Transform describes how an image becomes a network's input.
type Transform = transform.Config

// Class is what a detector finds.
type Class struct {
	Name string `json:"name"`
	// ID is the class's number in the data that the model was trained on: COCO
	// 1…90 with holes, VOC 1…20, otherwise the index + 1.
	ID int `json:"id"`
}

// Provenance says where a model comes from.
type Provenance struct {
	Source  string `json:"source,omitempty"`  // file or address of the weights
	License string `json:"license,omitempty"` // and whom to credit
	Data    string `json:"data,omitempty"`    // what it was trained on
	// Scores are results as reported, by name: "voc07 mAP (minival)".
	Scores map[string]float64 `json:"scores,omitempty"`
	// Recipe is how it was trained, in the form that `resdet train --config`
	// reads; nil if it was not trained here.
	Recipe json.RawMessage `json:"recipe,omitempty"`
	// Notes are what else somebody should know: that a run changed machines.
	Notes []string `json:"notes,omitempty"`
}

// Archs lists the names that [NewConfig] knows.
func Archs() []string {
	var names []string
	for _, kind := range []string{"c4", "fpn"} {
		for _, depth := range []int{18, 34, 50, 101, 152} {
			names = append(names, fmt.Sprintf("resnet%d-%s", depth, kind))
		}
	}
	return append(names, "vgg16")
}

// NewConfig returns the published settings of an architecture for the given
// classes: "resnet101-c4" and "vgg16" are the pair of He et al. 2015, with
// torchvision's conventions for everything the paper leaves open.
func NewConfig(arch string, classes []Class) (Config, error) {
	c := Config{Arch: arch, Classes: classes, Transform: transform.DefaultConfig(), ROI: roihead.DefaultConfig()}
	ratios := []float32{0.5, 1, 2}
	single := func(sizes ...float32) rpn.Config {
		r := rpn.DefaultConfig(rpn.Anchors{Sizes: [][]float32{sizes}, Ratios: ratios, Round: true, GridStride: true})
		r.PreNMS, r.PostNMS = 6000, 300
		return r
	}
	var depth int
	var kind string
	switch _, err := fmt.Sscanf(strings.Replace(arch, "-", " ", 1), "resnet%d %s", &depth, &kind); {
	case !slices.Contains(Archs(), arch):
		return Config{}, fmt.Errorf("resdet: architecture %q is none of %s", arch, strings.Join(Archs(), ", "))
	case err != nil: // vgg16
		c.Backbone = backbone.VGG16()
		c.RPN = single(128, 256, 512)
		c.ROI.Hidden = 4096
	case kind == "c4":
		c.Backbone = backbone.ResNet(depth)
		c.RPN = single(32, 64, 128, 256, 512)
		c.ROI.Kind, c.ROI.Hidden, c.ROI.Pool.Size = "res5", 0, 14
	default:
		c.Backbone = backbone.ResNetFPN(depth)
		c.RPN = rpn.DefaultConfig(rpn.Anchors{Sizes: [][]float32{{32}, {64}, {128}, {256}, {512}}, Ratios: ratios, Round: true, GridStride: true})
	}
	return c, c.Validate()
}

// IndexedClasses returns classes of the given names with ids 1, 2, 3 ….
func IndexedClasses(names ...string) []Class {
	classes := make([]Class, len(names))
	for i, n := range names {
		classes[i] = Class{n, i + 1}
	}
	return classes
}

// ParseConfig reads a configuration from JSON; unknown fields are errors.
func ParseConfig(data []byte) (Config, error) {
	var c Config
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("resdet: configuration: %w", err)
	}
	return c, c.Validate()
}

// Merge changes the members of the configuration that a JSON object names,
// down to the innermost; an unknown name is an error. The result is not
// validated.
func (c *Config) Merge(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return fmt.Errorf("resdet: configuration: %w", err)
	}
	return nil
}

// maxClasses bounds what a configuration can ask for; LVIS, the largest
// common data set, has 1,203.
const maxClasses = 20_000

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if len(c.Classes) == 0 || len(c.Classes) > maxClasses {
		errs = append(errs, fmt.Errorf("resdet: %d classes are not in 1…%d", len(c.Classes), maxClasses))
	}
	seen := map[string]bool{}
	for i, class := range c.Classes {
		if class.Name == "" || seen[class.Name] {
			errs = append(errs, fmt.Errorf("resdet: class %d: the name %q is empty or taken", i, class.Name))
		}
		seen[class.Name] = true
	}
	errs = append(errs, c.Transform.Validate(), c.Quantization.validate())
	if err := c.Backbone.Validate(); err != nil {
		return errors.Join(append(errs, err)...) // the rest depends on it
	}
	errs = append(errs, c.RPN.Validate(len(c.Backbone.Strides())), c.ROI.Validate(c.Backbone))
	return errors.Join(errs...)
}

// stage1 builds pixels [N 3 H W] → RPN outputs for the host and features that
// stay on the device.
func (c Config) stage1(images, height, width int) (*nn.Graph, error) {
	return nn.Build(func(b *nn.Builder) {
		levels := c.Backbone.Build(b, b.Input(pixelsName, images, 3, height, width))
		logits, deltas := c.RPN.Head(b, levels)
		for i := range levels {
			b.Output(fmt.Sprintf("rpn_logits_%d", i), logits[i])
			b.Output(fmt.Sprintf("rpn_deltas_%d", i), deltas[i])
		}
		for i, v := range levels[:c.Backbone.Levels()] {
			b.Keep(featureName(i), v)
		}
	})
}

// stage2 builds features and rois [R 5] → class logits and box deltas.
func (c Config) stage2(features [][]int, regions int) (*nn.Graph, error) {
	return nn.Build(func(b *nn.Builder) {
		levels := make([]nn.Value, len(features))
		for i, shape := range features {
			levels[i] = b.Input(featureName(i), shape...)
		}
		logits, deltas := c.ROI.Head(b, c.Backbone, levels, b.Input("rois", regions, 5), len(c.Classes))
		b.Output("class_logits", logits)
		b.Output("box_regression", deltas)
	})
}

const pixelsName = "pixels"

func featureName(level int) string { return fmt.Sprintf("feat_%d", level) }

// Params lists every parameter of the network, in order of first use:
// torchvision's detector names and shapes.
func (c Config) Params() ([]ParamSpec, error) {
	one, two, err := c.smallest()
	if err != nil {
		return nil, err
	}
	return append(one.Params(), two.Params()...), nil
}

// smallSide is that of the image of smallest.
const smallSide = 64

// smallest builds both stages for a small image: their layers and parameters do
// not depend on its size.
func (c Config) smallest() (one, two *nn.Graph, err error) {
	if one, err = c.stage1(1, smallSide, smallSide); err != nil {
		return nil, nil, err
	}
	two, err = c.stage2(featureShapes(one), 1)
	return one, two, err
}

// featureShapes returns those of the maps that stage 1 keeps for stage 2.
func featureShapes(one *nn.Graph) [][]int {
	var features [][]int
	for _, o := range one.Outputs {
		if o.Kept {
			features = append(features, one.Nodes[o.Value].Shape)
		}
	}
	return features
}

// ParamSpec is a parameter's key and shape.
type ParamSpec = nn.ParamSpec
