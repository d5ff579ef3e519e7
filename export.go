package resdet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"resdet/internal/onnx"
	"resdet/internal/weights"
)

// WriteONNX writes the detector as one ONNX model (opset 16) that holds all of
// it, from an image to boxes, with the model's own thresholds.
//
// Its input "image" is float32 [3 height width], RGB in 0…1, of any size. Its
// outputs are what Detect returns: "boxes" [D 4] (x0 y0 x1 y1 in the image's
// pixels, best first), "labels" [D] (class ids) and "scores" [D]. The metadata
// has the classes' names by id ("names") and the configuration ("resdet"),
// both in JSON. Parameters beyond 2 GB go to path + ".data".
func (d *Detector) WriteONNX(path string) error {
	return d.export(func() error { return writeONNX(path, d.cfg, d.params) })
}

// WriteSafetensors writes the parameters in float32 under torchvision's names,
// where the background's row comes first, with the configuration in the
// metadata. torchvision loads the file strictly into a detector that is built
// with the same settings, and so does [Open].
func (d *Detector) WriteSafetensors(path string) error {
	return d.export(func() error {
		cfg, params := torchvisionHead(d.cfg, d.params)
		text, err := json.Marshal(cfg)
		if err != nil {
			return err
		}
		wanted, err := cfg.Params()
		if err != nil {
			return err
		}
		return weights.Save(path, text, wanted, params, weights.F32)
	})
}

// export runs write while the parameters are there.
func (d *Detector) export(write func() error) error {
	w, err := d.take(context.Background())
	if err != nil {
		return err
	}
	defer d.give(w)
	d.asking.Lock()
	defer d.asking.Unlock()
	return write()
}

// torchvisionHead returns the detector with a head as torchvision has it: the
// background's row before the classes', and boxes for every class.
func torchvisionHead(cfg Config, params Params) (Config, Params) {
	if !cfg.ROI.BackgroundLast && !cfg.ROI.ClassAgnostic {
		return cfg, params
	}
	given := predictor{params, 1 + len(cfg.Classes), cfg.ROI.BackgroundLast, cfg.ROI.ClassAgnostic}
	cfg.ROI.BackgroundLast, cfg.ROI.ClassAgnostic = false, false
	return cfg, given
}

// predictor gives the arrays of a head arranged otherwise.
type predictor struct {
	Params
	blocks                        int // of rows, with the background's
	backgroundLast, classAgnostic bool
}

func (p predictor) Param(key string, shape Shape) ([]float32, error) {
	if !strings.HasPrefix(key, "roi_heads.box_predictor.") {
		return p.Params.Param(key, shape)
	}
	if p.classAgnostic && strings.HasPrefix(key, "roi_heads.box_predictor.bbox_pred.") {
		one := slices.Clone(shape)
		one[0] = 4
		values, err := p.Params.Param(key, one)
		return slices.Repeat(values, p.blocks), err
	}
	values, err := p.Params.Param(key, shape)
	if err != nil || !p.backgroundLast {
		return values, err
	}
	last := len(values) - len(values)/p.blocks
	return slices.Concat(values[last:], values[:last]), nil
}

func writeONNX(path string, cfg Config, params Params) error {
	const side = 256 // the graphs' own; the model takes any
	one, err := cfg.stage1(1, side, side)
	if err != nil {
		return err
	}
	var features [][]int
	for _, o := range one.Outputs {
		if o.Kept {
			features = append(features, one.Nodes[o.Value].Shape)
		}
	}
	two, err := cfg.stage2(features, 1)
	if err != nil {
		return err
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	ids := make([]int64, len(cfg.Classes))
	byID := make(map[int]string, len(cfg.Classes))
	for i, c := range cfg.Classes {
		ids[i] = int64(c.ID)
		byID[c.ID] = c.Name
	}
	names, err := json.Marshal(byID)
	if err != nil {
		return err
	}
	return onnx.Write(path, onnx.Detector{
		Transform: cfg.Transform, Stage1: one, Stage2: two, Strides: cfg.Backbone.Strides(), RPN: cfg.RPN, ROI: cfg.ROI, IDs: ids,
		Doc:      fmt.Sprintf("Faster R-CNN (%s) for %d classes. Input: an RGB image in 0…1, of any size. Outputs: boxes in its pixels, class ids, scores.", cfg.Arch, len(ids)),
		Metadata: [][2]string{{"names", string(names)}, {weights.ConfigKey, string(text)}},
	}, params)
}
