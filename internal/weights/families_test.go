package weights_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"resdet"
	"resdet/internal/device/cpu"
	"resdet/internal/device/ref"
	"resdet/internal/fixture"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/transform"
	"resdet/internal/weights"
)

// published checkpoints at full architecture: a file is written under a
// family's names and in its container, imported, and the network that comes out
// compared with one that is given the same numbers the plain way: configured
// by hand, each parameter looked up under the name that the family has for it.
type familyCase struct {
	name, file string
	family     string // that must be guessed
	arch       string
	classes    int
	list       string
	letters    map[string]int
	write      writer
	nameOf     func(place) string
	quick      bool // also under -short
	// numbers: the file's numbers are held against what the network is to get,
	// the outputs are another case's of the same family.
	numbers bool
	// names: not even these, but the names and the settings.
	names bool
	// variance, if not 0, is what running variances are about, with scales to
	// match: trained networks have such small ones, and only there eps matters.
	variance float64
	// plain configures the network by hand, starting from the architecture's own
	// settings.
	plain func(c *resdet.Config)
	// notes are what the file says in words.
	notes map[string]string
	// backgroundLast and sizeMajor say how the file arranges its head.
	backgroundLast, sizeMajor, pairs, affine, sums bool
}

var (
	depth50  = map[string]int{"N3": 3, "N4": 5}
	depth101 = map[string]int{"N3": 3, "N4": 22}
	depth152 = map[string]int{"N3": 7, "N4": 35}
)

// head adds the rows of a head: scores K, deltas B.
func head(depth map[string]int, scores, deltas int) map[string]int {
	out := map[string]int{"K": scores, "B": deltas}
	for k, v := range depth {
		out[k] = v
	}
	return out
}

func lasts(depth map[string]int) map[int]int {
	return map[int]int{2: 2, 3: depth["N3"], 4: depth["N4"], 5: 2}
}

// What code bases do, written by hand from their sources and not from the
// importer's table.
func pyPixels(c *resdet.Config) { // py-faster-rcnn lib/fast_rcnn/config.py: PIXEL_MEANS, BGR
	c.Transform.Order, c.Transform.Scale, c.Transform.Std = transform.BGR, 1, [3]float32{1, 1, 1}
	c.Transform.Mean = [3]float32{102.9801, 115.9465, 122.7717}
}

func detectron2Pixels(c *resdet.Config) { // detectron2/config/defaults.py: PIXEL_MEAN, PIXEL_STD, FORMAT
	pyPixels(c)
	c.Transform.Mean = [3]float32{103.53, 116.28, 123.675}
}

func pySizes(c *resdet.Config) {
	c.Transform.ShortSide, c.Transform.LongSide, c.Transform.PadMultiple, c.Transform.RoundSize = 600, 1000, 1, true
}

func detectron2Plain(c *resdet.Config) {
	detectron2Pixels(c)
	c.Transform.RoundSize = true
	c.Backbone.StrideIn1x1 = true // defaults.py: STRIDE_IN_1X1
	c.RPN.Anchors.Round, c.RPN.Anchors.GridStride = false, false
	c.ROI.Pool.Sampling, c.ROI.Pool.Aligned = 0, true // ROIAlignV2
	c.RPN.PostNMS = 1000
	if c.Backbone.FPN == nil {
		c.Transform.PadMultiple, c.RPN.PreNMS = 1, 6000 // Base-RCNN-C4.yaml
	}
}

func detectronPlain(c *resdet.Config) {
	pyPixels(c)
	c.Transform.RoundSize = true
	c.Backbone.StrideIn1x1, c.Backbone.NormEps = true, 0
	c.RPN.Anchors.Round, c.RPN.Anchors.GridStride = false, false
	c.RPN.Boxes, c.ROI.Boxes = "detectron", "detectron" // detectron/utils/boxes.py: bbox_transform
	c.RPN.MinSize, c.ROI.MinSize, c.RPN.PostNMS = 0, 0, 1000
	if c.Backbone.FPN == nil {
		c.Transform.PadMultiple, c.RPN.PreNMS, c.ROI.Pool.Sampling = 1, 6000, 0
		c.RPN.Anchors.Bases = []float32{16}
	} else {
		c.RPN.Anchors.Bases = []float32{4, 8, 16, 32, 64}
	}
}

func jwyangPlain(c *resdet.Config) {
	pyPixels(c)
	pySizes(c)
	c.RPN.Anchors.Bases, c.RPN.Anchors.Round, c.RPN.Anchors.GridStride = []float32{16}, false, false
	c.RPN.PreNMS, c.RPN.PostNMS, c.RPN.MinSize, c.RPN.Boxes = 6000, 300, 0, "caffe"
	c.ROI.Pool.Size, c.ROI.Pool.Sampling, c.ROI.NMS, c.ROI.MinSize, c.ROI.Boxes = 7, 0, 0.3, 0, "caffe"
	if c.Backbone.Family == "resnet" {
		c.Backbone.StrideIn1x1, c.Backbone.CeilPool, c.RPN.Channels = true, true, 512
		c.RPN.Anchors.Sizes = [][]float32{{64, 128, 256, 512}}
	}
}

func mmdetectionPlain(c *resdet.Config) {
	c.Transform.RoundSize = true
	c.RPN.Anchors.Round, c.RPN.Anchors.GridStride = false, false
	c.ROI.Pool.Sampling, c.ROI.Pool.Aligned = 0, true
}

// What jwyang's files say beside the weights.
var (
	alignMode = map[string]string{"pooling_mode": "align"}
	poolMode  = map[string]string{"pooling_mode": "pool"}
)

var detectors = []familyCase{
	{
		name: "torchvision R50-FPN, new names", file: "fasterrcnn.pth", family: "torchvision-detector", arch: "resnet50-fpn", classes: 20,
		list: "torchvision-fpn.txt", letters: head(depth50, 21, 84), write: torchZip(true, "", nil), nameOf: torchvisionDetector(false),
		plain:   func(c *resdet.Config) {},
		numbers: true,
	},
	{
		name: "torchvision R50-FPN for COCO, old names", file: "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", family: "torchvision-coco", arch: "resnet50-fpn", classes: 80,
		list: "torchvision-fpn-old.txt", letters: head(depth50, 91, 364), write: torchLegacy(true, "", nil), nameOf: torchvisionDetector(true),
		plain: func(c *resdet.Config) { c.Backbone.NormEps = 0 }, variance: 0x1p-10,
	},
	{
		name: "detectron2 R50-C4", file: "model_final_721ade.pkl", family: "detectron2", arch: "resnet50-c4", classes: 80,
		list: "detectron2-c4.txt", letters: head(depth50, 81, 320), write: numpyPickle(3, "model", "__author__"), nameOf: detectron2Name(false),
		plain: detectron2Plain, backgroundLast: true, sizeMajor: true,
	},
	{
		name: "detectron2 R101-C4", file: "model_final_298dad.pkl", family: "detectron2", arch: "resnet101-c4", classes: 80,
		list: "detectron2-c4.txt", letters: head(depth101, 81, 320), write: numpyPickle(3, "model", "__author__"), nameOf: detectron2Name(false),
		plain: detectron2Plain, backgroundLast: true, sizeMajor: true,
		numbers: true,
	},
	{
		name: "detectron2 R50-FPN as safetensors", file: "model.safetensors", family: "detectron2", arch: "resnet50-fpn", classes: 80,
		list: "detectron2-fpn.txt", letters: head(depth50, 81, 320), write: safetensors, nameOf: detectron2Name(true),
		plain: detectron2Plain, backgroundLast: true, sizeMajor: true,
	},
	{
		name: "detectron2 R101-FPN", file: "model_final_f6e8b1.pkl", family: "detectron2", arch: "resnet101-fpn", classes: 80,
		list: "detectron2-fpn.txt", letters: head(depth101, 81, 320), write: numpyPickle(3, "model", "__author__"), nameOf: detectron2Name(true),
		plain: detectron2Plain, backgroundLast: true, sizeMajor: true,
		numbers: true,
	},
	{
		name: "Detectron R50-C4", file: "model_final.pkl", family: "detectron", arch: "resnet50-c4", classes: 80,
		list: "detectron-c4.txt", letters: head(depth50, 81, 324), write: numpyPickle(2, "blobs", "cfg"), nameOf: caffe2Name(false, false, lasts(depth50)),
		plain: detectronPlain, affine: true,
	},
	{
		name: "Detectron R50-FPN", file: "model_final.pkl", family: "detectron", arch: "resnet50-fpn", classes: 80,
		list: "detectron-fpn.txt", letters: head(depth50, 81, 324), write: numpyPickle(2, "blobs", "cfg"), nameOf: caffe2Name(true, false, lasts(depth50)),
		plain: detectronPlain, affine: true,
		numbers: true,
	},
	{
		name: "py-faster-rcnn VGG-16", file: "VGG16_faster_rcnn_final.caffemodel", family: "caffe-detector", arch: "vgg16", classes: 20,
		list: "caffe-detector.txt", letters: head(nil, 21, 84), write: caffemodel(false), nameOf: caffeVGGName, pairs: true,
		plain: func(c *resdet.Config) {
			jwyangPlain(c)
			c.Backbone.CeilPool = true
			c.RPN.MinSize = 16
			c.ROI.Pool.Kind, c.ROI.Pool.Sampling = "max", 2
			c.ROI.BoxWeights = [4]float32{1, 1, 1, 1} // SolverWrapper.snapshot multiplies the weights
		},
	},
	{
		name: "jwyang VGG-16", file: "faster_rcnn_1_6_10021.pth", family: "jwyang", arch: "vgg16", classes: 20,
		list: "jwyang-vgg16.txt", letters: head(nil, 21, 84), write: torchLegacy(true, "model", alignMode), notes: alignMode, nameOf: jwyangName(true), pairs: true,
		plain:   jwyangPlain,
		numbers: true,
	},
	{
		name: "jwyang R101 for COCO", file: "faster_rcnn_1_10_14657.pth", family: "jwyang", arch: "resnet101-c4", classes: 80,
		list: "jwyang-resnet.txt", letters: head(depth101, 81, 324), write: torchLegacy(true, "model", alignMode), notes: alignMode, nameOf: jwyangName(false), pairs: true,
		plain:   jwyangPlain,
		numbers: true,
	},
	{
		name: "jwyang R50, RoIPool", file: "faster_rcnn_1_7_625.pth", family: "jwyang", arch: "resnet50-c4", classes: 80,
		list: "jwyang-resnet.txt", letters: head(depth50, 81, 324), write: torchZip(true, "model", poolMode), notes: poolMode, nameOf: jwyangName(false), pairs: true,
		plain: func(c *resdet.Config) { jwyangPlain(c); c.ROI.Pool.Kind = "max" },
	},
	{
		name: "mmdetection 2.x R50-FPN", file: "faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth", family: "mmdetection", arch: "resnet50-fpn", classes: 80,
		list: "mmdetection-fpn.txt", letters: head(depth50, 81, 320), write: torchLegacy(true, "state_dict", nil), nameOf: mmdetectionName, backgroundLast: true,
		plain: mmdetectionPlain,
	},
	{
		name: "mmdetection 3.x caffe R50-FPN", file: "faster_rcnn_r50_caffe_fpn_1x_coco_bbox_mAP-0.378.pth", family: "mmdetection-caffe", arch: "resnet50-fpn", classes: 80,
		list: "mmdetection-fpn.txt", letters: head(depth50, 81, 320), write: torchZip(true, "state_dict", nil), nameOf: mmdetectionName, backgroundLast: true,
		plain: func(c *resdet.Config) {
			mmdetectionPlain(c)
			detectron2Pixels(c)
			c.Backbone.StrideIn1x1 = true
		},
		numbers: true,
	},
}

var backbones = []familyCase{
	{
		name: "torchvision ResNet-101", file: "resnet101-63fe2227.pth", family: "torchvision-classifier", arch: "resnet101-c4", list: "torchvision-classifier-resnet.txt", letters: depth101,
		write: torchZip(true, "", nil), nameOf: torchvisionName, plain: func(c *resdet.Config) {},
		numbers: true,
	},
	{
		name: "torchvision ResNet-18, legacy", file: "resnet18-f37072fd.pth", family: "torchvision-classifier", arch: "resnet18-fpn", list: "torchvision-classifier-basic.txt",
		write: torchLegacy(true, "", nil), nameOf: torchvisionName, plain: func(c *resdet.Config) {},
	},
	{
		name: "timm ResNet-50", file: "model.safetensors", family: "torchvision-classifier", arch: "resnet50-fpn", list: "torchvision-classifier-resnet.txt", letters: depth50,
		write: safetensors, nameOf: torchvisionName, plain: func(c *resdet.Config) {},
	},
	{
		name: "torchvision VGG-16", file: "vgg16-397923af.pth", family: "torchvision-classifier", arch: "vgg16", list: "torchvision-classifier-vgg16.txt",
		write: torchZip(true, "", nil), nameOf: torchvisionName, plain: func(c *resdet.Config) {},
	},
	{
		name: "vgg16_caffe.pth", file: "vgg16_caffe.pth", family: "caffe-pth", arch: "vgg16", list: "torchvision-classifier-vgg16.txt",
		write: torchLegacy(true, "", nil), nameOf: torchvisionName, plain: pyPixels,
		names: true, // the same as torchvision's
	},
	{
		name: "resnet101_caffe.pth", file: "resnet101_caffe.pth", family: "caffe-pth", arch: "resnet101-c4", list: "torchvision-classifier-resnet.txt", letters: depth101,
		write: torchLegacy(true, "", nil), nameOf: torchvisionName,
		plain: func(c *resdet.Config) { pyPixels(c); c.Backbone.StrideIn1x1, c.Backbone.CeilPool = true, true },
	},
	{
		name: "MSRA R-50.pkl", file: "R-50.pkl", family: "msra-pkl", arch: "resnet50-c4", list: "msra-pkl.txt", letters: depth50,
		write: numpyPickle(2, "", ""), nameOf: caffe2Name(false, true, nil),
		plain: func(c *resdet.Config) { detectron2Pixels(c); c.Backbone.StrideIn1x1 = true },
	},
	{
		name: "MSRA R-101.pkl", file: "R-101.pkl", family: "msra-pkl", arch: "resnet101-c4", list: "msra-pkl.txt", letters: depth101,
		write: numpyPickle(3, "", ""), nameOf: caffe2Name(false, true, nil),
		plain:   func(c *resdet.Config) { detectron2Pixels(c); c.Backbone.StrideIn1x1 = true },
		numbers: true,
	},
	{
		name: "MSRA ResNet-50-model", file: "ResNet-50-model.caffemodel", family: "caffe-resnet", arch: "resnet50-c4", list: "caffe-resnet50.txt", letters: depth50,
		write: caffemodel(false), nameOf: caffeResNetName(true), sums: true, quick: true,
		plain: func(c *resdet.Config) { pyPixels(c); c.Backbone.StrideIn1x1, c.Backbone.CeilPool = true, true },
	},
	{
		name: "MSRA ResNet-101-model", file: "ResNet-101-model.caffemodel", family: "caffe-resnet", arch: "resnet101-c4", list: "caffe-resnet101.txt", letters: depth101,
		write: caffemodel(false), nameOf: caffeResNetName(false), sums: true,
		plain:   func(c *resdet.Config) { pyPixels(c); c.Backbone.StrideIn1x1, c.Backbone.CeilPool = true, true },
		numbers: true,
	},
	{
		name: "MSRA ResNet-152-model", file: "ResNet-152-model.caffemodel", family: "caffe-resnet", arch: "resnet152-c4", list: "caffe-resnet101.txt", letters: depth152,
		write: caffemodel(false), nameOf: caffeResNetName(false), sums: true,
		plain:   func(c *resdet.Config) { pyPixels(c); c.Backbone.StrideIn1x1, c.Backbone.CeilPool = true, true },
		numbers: true,
	},
	{
		name: "VGG_ILSVRC_16_layers, V1", file: "VGG_ILSVRC_16_layers.caffemodel", family: "caffe-vgg16", arch: "vgg16", list: "caffe-vgg16.txt",
		write: caffemodel(true), nameOf: caffeVGGName,
		plain: func(c *resdet.Config) { pyPixels(c); c.Backbone.CeilPool = true },
	},
}

// small keeps the work of a test small, whatever a family's settings are; the
// image is odd, so that sizes and poolings round.
const (
	smallChanges = `{"rpn":{"pre_nms":120,"post_nms":30},"roi":{"score":0.015}}`
	imageWidth   = 97
	imageHeight  = 67
)

func photo() image.Image {
	img := image.NewRGBA(image.Rect(0, 0, imageWidth, imageHeight))
	for y := range imageHeight {
		for x := range imageWidth {
			v := math.Sin(float64(x)/5) + math.Cos(float64(y)/7)
			img.SetRGBA(x, y, color.RGBA{uint8(128 + 60*v), uint8(x * 2), uint8(255 - y*3), 255})
		}
	}
	return img
}

// importCase writes the case's file and imports it: the configuration, and what
// the file has for it.
func importCase(t *testing.T, tt familyCase) (resdet.Config, *weights.Report, map[string]published) {
	t.Helper()
	if tt.names || !tt.quick && testing.Short() {
		t.Skip("a file of full size")
	}
	arrays := tt.arrays(t)
	file := &rope{}
	if err := tt.write(file, arrays); err != nil {
		t.Fatal(err)
	}
	c, err := weights.OpenReader(tt.file, file, file.size)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Tensors) != len(arrays) {
		t.Errorf("%d tensors, want %d", len(c.Tensors), len(arrays))
	}
	cfg, report := imported(t, tt, c)
	byKey := map[string]published{}
	for _, a := range arrays {
		byKey[a.key] = a
	}
	return cfg, report, byKey
}

// arrays are what the case's file holds.
func (tt familyCase) arrays(t testing.TB) []published {
	t.Helper()
	arrays := keyList(t, tt.list, tt.letters)
	for i, a := range arrays {
		factor := float32(math.Sqrt(tt.variance)) // of the scales
		switch {
		case tt.variance == 0:
			continue
		case a.role == "var":
			factor = float32(tt.variance)
		case a.role != "gamma" && a.role != "gamma3":
			continue
		}
		arrays[i].pattern = func() []float32 {
			v := a.pattern()
			for i := range v {
				v[i] *= factor
			}
			return v
		}
	}
	return arrays
}

// imported is what import makes of a checkpoint. The configuration must be the
// one that was written by hand.
func imported(t *testing.T, tt familyCase, c *weights.Checkpoint) (resdet.Config, *weights.Report) {
	t.Helper()
	family, err := weights.FamilyOf(c, "")
	if err != nil || family == nil || family.Name != tt.family {
		t.Fatalf("family %+v, %v; want %s", family, err, tt.family)
	}
	cfg := base(t, tt)
	for _, s := range family.Settings(c, tt.arch) {
		if err := cfg.Merge([]byte(s)); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	plain := base(t, tt)
	tt.plain(&plain)
	if diff := cmp.Diff(leaves(t, plain), leaves(t, cfg)); diff != "" {
		t.Errorf("the family's settings are not those of its code (- wanted, + got):\n%s", diff)
	}
	wanted, err := cfg.Params()
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]int, len(cfg.Classes))
	for i, class := range cfg.Classes {
		ids[i] = class.ID
	}
	return cfg, weights.Match(c, family, weights.Network{Params: wanted, IDs: ids, Ratios: len(cfg.RPN.Anchors.Ratios)})
}

func base(t *testing.T, tt familyCase) resdet.Config {
	var classes []resdet.Class
	for i := range max(tt.classes, 20) {
		id := i + 1
		if tt.letters["K"] == 91 && i >= 70 { // ids with holes, as COCO's
			id = i + 11
		}
		classes = append(classes, resdet.Class{Name: fmt.Sprint("c", i), ID: id})
	}
	cfg, err := resdet.NewConfig(tt.arch, classes)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// plainParams gives a network the numbers of a file the plain way.
type plainParams struct {
	tt     familyCase
	arrays map[string]published
	cfg    resdet.Config
	first  bool // the network has the background first, where the file has it last
}

func (p *plainParams) Param(key string, shape nd.Shape) ([]float32, error) {
	at := placeOf(key)
	name := p.tt.nameOf(at)
	a, ok := p.arrays[name]
	if !ok {
		switch {
		case p.tt.affine && at.field == "running_mean":
			return make([]float32, shape.Len()), nil
		case p.tt.affine && at.field == "running_var":
			return slices.Repeat([]float32{1}, shape.Len()), nil
		case at.part == "rpn" || at.part == "logits" || at.part == "deltas" || at.part == "cls" || at.part == "box" || at.part == "inner" || at.part == "output" || at.part == "fc6" || at.part == "fc7":
			return weights.Initial(key, shape), nil // of a backbone
		}
		return nil, fmt.Errorf("%s: the file has no %q", key, name)
	}
	v := a.values()
	width := shape[1:].Len()
	switch {
	case at.part == "logits" && p.tt.pairs: // softmax(background, object) = sigmoid(object − background)
		anchors := shape[0]
		out := make([]float32, 0, anchors*width)
		for i := range anchors * width {
			out = append(out, v[anchors*width+i]-v[i])
		}
		return out, nil
	case p.tt.sizeMajor && (at.part == "logits" || at.part == "deltas"):
		per := shape[0] / p.cfg.RPN.Anchors.PerCell(0)
		ratios, sizes := len(p.cfg.RPN.Anchors.Ratios), len(p.cfg.RPN.Anchors.Sizes[0])
		var out []float32
		for ratio := range ratios { // ours: all sizes of the first ratio
			for size := range sizes { // the file's: all ratios of the first size
				anchor := size*ratios + ratio
				out = append(out, v[anchor*per*width:(anchor+1)*per*width]...)
			}
		}
		return out, nil
	case p.first && p.tt.backgroundLast && at.part == "box":
		return append(make([]float32, 4*width), v...), nil
	case p.first && p.tt.backgroundLast && at.part == "cls":
		return append(v[len(v)-width:], v[:len(v)-width]...), nil
	case p.tt.backgroundLast && at.part == "box": // the network's last four rows are the background's
		return append(v, make([]float32, 4*width)...), nil
	case p.tt.letters["K"] == 91 && (at.part == "cls" || at.part == "box"):
		per := shape[0] / (1 + len(p.cfg.Classes))
		out := v[: per*width : per*width]
		for _, c := range p.cfg.Classes {
			out = append(out, v[c.ID*per*width:(c.ID+1)*per*width]...)
		}
		return out, nil
	case p.tt.sums && strings.HasPrefix(at.field, "running"):
		bias := []float32(nil)
		if b, ok := p.arrays["conv1.1"]; ok && at.part == "stem" && at.field == "running_mean" {
			bias = b.values()
		}
		for i := range v {
			v[i] = float32(float64(v[i]) / factor)
			if bias != nil {
				v[i] -= bias[i]
			}
		}
	}
	return v, nil
}

// ParamInto spares the largest arrays, which are as they are in all families,
// memory of their own.
func (p *plainParams) ParamInto(dst []float32, key string, shape nd.Shape) error {
	if at := placeOf(key); at.part == "fc6" || at.part == "fc7" || at.part == "block" && !at.norm || at.part == "vgg" {
		if a, ok := p.arrays[p.tt.nameOf(at)]; ok {
			a.into(dst)
			return nil
		}
	}
	v, err := p.Param(key, shape)
	copy(dst, v)
	return err
}

// sameNumbers holds what the file gives a network, under names that begin with
// the prefix, against what it is to get.
// The sums of Caffe's statistics are divided in another order.
func sameNumbers(t *testing.T, report *weights.Report, plain *plainParams, prefix string) {
	t.Helper()
	var got, want []float32 // grown to the largest
	for _, row := range report.Rows {
		if row.Status != weights.Matched || !strings.HasPrefix(row.Key, prefix) {
			continue
		}
		n := row.Want.Len()
		got, want = slices.Grow(got[:0], n)[:n], slices.Grow(want[:0], n)[:n]
		if err := errors.Join(report.ParamInto(got, row.Key, row.Want), plain.ParamInto(want, row.Key, row.Want)); err != nil {
			t.Fatal(err)
		}
		if slices.Equal(got, want) {
			continue
		}
		if strings.Contains(row.Key, ".running_") && plain.tt.sums && apart(want, got) < 1e-5 {
			continue
		}
		t.Errorf("%s: other numbers than those of the file's %s", row.Key, row.From)
	}
}

// outcome is what a detector says of the photo.
func outcome(t *testing.T, cfg resdet.Config, params resdet.Params) resdet.Result {
	t.Helper()
	d, err := resdet.New(cfg, params, resdet.Options{ShortSide: 64, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	res, err := d.DetectBatch(context.Background(), []image.Image{photo()}, d.Settings())
	if err != nil {
		t.Fatal(err)
	}
	return res[0]
}

// distance is the largest difference of boxes in pixels and of scores, taken
// a hundredfold; infinite where the numbers of boxes or classes differ.
func distance(a, b resdet.Result) float64 {
	if len(a.Detections) != len(b.Detections) || len(a.Proposals) != len(b.Proposals) {
		return math.Inf(1)
	}
	most := 0.0
	boxes := func(x, y resdet.Box, s, r float32) {
		for _, d := range []float32{x.X0 - y.X0, x.Y0 - y.Y0, x.X1 - y.X1, x.Y1 - y.Y1, 100 * (s - r)} {
			most = max(most, math.Abs(float64(d)))
		}
	}
	for i, d := range a.Detections {
		if d.Class != b.Detections[i].Class {
			return math.Inf(1)
		}
		boxes(d.Box, b.Detections[i].Box, d.Score, b.Detections[i].Score)
	}
	for i, p := range a.Proposals {
		boxes(p.Box, b.Proposals[i].Box, p.Score, b.Proposals[i].Score)
	}
	return most
}

// same is what rounding may do to a box in pixels, different what a wrong
// convention does at least.
const (
	same      = 1e-3
	different = 20 * same
)

func TestDetectorFamilies(t *testing.T) {
	for _, tt := range detectors {
		t.Run(tt.name, func(t *testing.T) {
			cfg, report, arrays := importCase(t, tt)
			if err := report.Err(); err != nil {
				t.Fatal(err)
			}
			plain := base(t, tt)
			tt.plain(&plain)
			plain.ROI.BackgroundLast = tt.backgroundLast
			for _, c := range []*resdet.Config{&cfg, &plain} {
				if err := c.Merge([]byte(smallChanges)); err != nil {
					t.Fatal(err)
				}
			}
			params := &plainParams{tt: tt, arrays: arrays, cfg: plain}
			if tt.numbers {
				params.first = true
				sameNumbers(t, report, params, "")
				return
			}
			got, want := outcome(t, cfg, report), outcome(t, plain, params)
			d := distance(got, want)
			t.Logf("%d proposals, %d detections, largest difference %.2g px", len(want.Proposals), len(want.Detections), d)
			if d > same {
				t.Errorf("the imported network differs from the plain one by %g", d)
			}
			if len(want.Detections) < 5 || len(want.Detections) == 100 && want.Detections[99].Score > 0.9 {
				t.Errorf("%d detections: the case tells nothing", len(want.Detections))
			}
		})
	}
}

// features runs a backbone on the photo and returns its levels one after the other.
func features(t *testing.T, cfg resdet.Config, params resdet.Params) []float32 {
	t.Helper()
	cfg.Transform.ShortSide, cfg.Transform.LongSide, cfg.Transform.PadMultiple = 64, 107, 1
	view, shape := cfg.Transform.Plan(imageWidth, imageHeight)
	g, err := nn.Build(func(b *nn.Builder) {
		for i, v := range cfg.Backbone.Build(b, b.Input("pixels", shape...)) {
			b.Output(fmt.Sprint(i), v)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	dev, err := cpu.Open(cpu.Options{Threads: 2})
	if err != nil {
		dev = ref.Open(2)
	}
	defer dev.Close()
	program, err := dev.Compile(g, params, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if err := cfg.Transform.Write(program.Input(0).Data(), shape[2], shape[3], photo(), view, transform.NewScratch(2)); err != nil {
		t.Fatal(err)
	}
	if err := program.Run(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	var out []float32
	for i := range g.Outputs {
		out = append(out, program.Output(i).Data()...)
	}
	return out
}

// apart is the largest difference of two maps in units of the first's
// deviation.
func apart(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	most, sum, square := 0.0, 0.0, 0.0
	for i, v := range a {
		most = max(most, math.Abs(float64(v-b[i])))
		sum += float64(v)
		square += float64(v) * float64(v)
	}
	n := float64(len(a))
	return most / math.Sqrt(square/n-sum/n*sum/n)
}

// A VGG of torchvision's is the same file as vgg16_caffe.pth but for its name,
// and for the colours that it was trained with.
func TestFamilyByFileName(t *testing.T) {
	arrays := keyList(t, "torchvision-classifier-vgg16.txt", nil)
	for i := range arrays { // what is looked at are names
		arrays[i] = array(arrays[i].key, []int{1}, "bias")
	}
	for name, want := range map[string]string{"vgg16-397923af.pth": "torchvision-classifier", "vgg16_caffe.pth": "caffe-pth"} {
		c, err := weights.Open(write(t, name, torchZip(false, "", nil), arrays))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if f, err := weights.FamilyOf(c, ""); err != nil || f.Name != want {
			t.Errorf("%s: %+v, %v; want %s", name, f, err, want)
		}
		if f, err := weights.FamilyOf(c, "timm"); err != nil || f.Name != "timm" {
			t.Errorf("%s as timm: %+v, %v", name, f, err)
		}
	}
}

// backboneRows holds a classifier's report against what a detector takes of it:
// everything up to the last layer.
func backboneRows(t *testing.T, report *weights.Report) {
	t.Helper()
	vgg := slices.ContainsFunc(report.Rows, func(row weights.Row) bool { return row.Key == "backbone.28.weight" })
	for _, row := range report.Rows {
		at := place{}
		if row.Key != "" {
			at = placeOf(row.Key)
		}
		fromFile := at.part == "stem" || at.part == "block" || at.part == "vgg" || vgg && (at.part == "fc6" || at.part == "fc7")
		switch {
		case fromFile && row.Status != weights.Matched, row.Status == weights.Unexpected, row.Status == weights.Misshapen:
			t.Errorf("%s, %q: %v", row.Key, row.From, row.Status)
		}
	}
}

func TestBackboneFamilies(t *testing.T) {
	if fixture.Race {
		t.Skip("whole networks, one after another")
	}
	for _, tt := range backbones {
		t.Run(tt.name, func(t *testing.T) {
			cfg, report, arrays := importCase(t, tt)
			backboneRows(t, report)
			plain := base(t, tt)
			tt.plain(&plain)
			params := &plainParams{tt: tt, arrays: arrays, cfg: plain}
			after := ""
			if !tt.numbers {
				after = "roi_heads." // what comes before shows in the features
			}
			sameNumbers(t, report, params, after)
			if tt.numbers {
				return
			}
			got, want := features(t, cfg, report), features(t, plain, params)
			d := apart(want, got)
			t.Logf("%d features, largest difference %.2g deviations", len(want), d)
			if d > 1e-4 {
				t.Errorf("the imported network differs from the plain one by %g", d)
			}
		})
	}
}

// A rope gives back what was written.
func TestRope(t *testing.T) {
	var want bytes.Buffer
	r := &rope{}
	w := io.MultiWriter(&want, r)
	for _, s := range []string{"head", "", "abc", "abc", "abc", "ab", "tail", "tail"} {
		io.WriteString(w, s)
	}
	if len(r.parts) != 4 || r.size != int64(want.Len()) {
		t.Errorf("%d parts, %d bytes, want 4, %d", len(r.parts), r.size, want.Len())
	}
	for from := range want.Len() + 1 {
		for n := range want.Len() + 2 - from {
			b := make([]byte, n)
			got, err := r.ReadAt(b, int64(from))
			have := want.Bytes()[from:min(from+n, want.Len())]
			if !bytes.Equal(b[:got], have) || (err == io.EOF) != (got < n) {
				t.Errorf("%d bytes from %d: %q, %v; want %q", n, from, b[:got], err, have)
			}
		}
	}
}
