package onnx

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protowire"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/replace"
	"resdet/internal/transform"
	"resdet/roihead"
	"resdet/rpn"
)

// Detector is what a model is written of. Its configurations must be valid.
type Detector struct {
	Transform transform.Config
	// Stage1 is pixels [1 3 H W] → logits and deltas of every level, one after
	// the other, and kept features; Stage2 is features by these names and "rois"
	// → class_logits and box_regression. They may be built for any size.
	Stage1, Stage2 *nn.Graph
	Strides        []int // of the RPN's levels
	RPN            rpn.Config
	ROI            roihead.Config
	IDs            []int64 // of the classes, in the head's order
	// Doc describes the model to people; Metadata is stored beside it.
	Doc      string
	Metadata [][2]string
}

// protobufLimit is the most that a protobuf message may have: 2 GiB less one.
const protobufLimit = math.MaxInt32

// Write writes the model to path with the given parameters, which are asked
// for one at a time. Where the whole exceeds 2 GB, the parameters lie beside
// it in path + ".data". The file appears when it is complete and on disk, or
// not at all.
func Write(path string, d Detector, params device.Params) error {
	if err := write(path, d, params, protobufLimit); err != nil {
		return fmt.Errorf("onnx: writing %s: %w", path, err)
	}
	return nil
}

func write(path string, d Detector, params device.Params, limit int64) error {
	g, err := d.graph()
	if err != nil {
		return err
	}
	model, weights := d.encode(g, "")
	if int64(len(model))+weights <= limit {
		return replace.File(path, func(w io.Writer) error { return writeInside(w, model, g.params, params) })
	}
	data := path + ".data"
	if err := replace.File(data, func(w io.Writer) error { return writeBeside(w, g.params, params) }); err != nil {
		return err
	}
	model, _ = d.encode(g, filepath.Base(data))
	return replace.File(path, func(w io.Writer) error {
		_, err := w.Write(model)
		return err
	})
}

// graph builds everything between the image and the detections.
func (d Detector) graph() (*graph, error) {
	g := newGraph()
	p := g.image(d.Transform, "image")
	out, err := g.network(d.Stage1, map[string]string{"pixels": p.pixels})
	if err != nil {
		return nil, err
	}
	var levels [2][]string // logits, deltas
	given := map[string]string{}
	for _, o := range d.Stage1.Outputs {
		if o.Kept {
			given[o.Name] = out[o.Name]
			continue
		}
		of := 0
		if len(levels[0]) > len(levels[1]) {
			of = 1
		}
		levels[of] = append(levels[of], out[o.Name])
	}
	regions := g.proposals(d.RPN, d.Strides, levels[0], levels[1], p)
	given["rois"] = regions
	out, err = g.network(d.Stage2, given)
	if err != nil {
		return nil, err
	}
	g.detections(d.ROI, d.IDs, regions, out["class_logits"], out["box_regression"], p)
	return g, nil
}

// encode returns the model without the parameters' elements, whose bytes it
// counts: a ModelProto up to its last field, a GraphProto up to its
// initializers. With a name for the parameters' file it is complete.
func (d Detector) encode(g *graph, data string) (model message, weights int64) {
	any := []dim{{size: 3}, {name: "height"}, {name: "width"}}
	var graph message
	graph.text(2, "detector")
	graph.bytes(11, valueInfo("image", "RGB in 0…1, of any size", float32s, any...))
	found := dim{name: "detections"}
	graph.bytes(12, valueInfo("boxes", "x0 y0 x1 y1 in pixels of the image, best first", float32s, found, dim{size: 4}))
	graph.bytes(12, valueInfo("labels", "ids of the classes", int64s, found))
	graph.bytes(12, valueInfo("scores", "in 0…1", float32s, found))
	graph = append(append(graph, g.nodes...), g.inits...)
	if data != "" {
		offset := int64(0)
		for _, p := range g.params {
			offset = aligned(offset)
			size := 4 * int64(nd.Shape(p.shape).Len())
			m := tensorHead(p.key, float32s, p.shape)
			m.external(data, offset, size)
			graph.bytes(5, m)
			offset += size
		}
	} else {
		for _, p := range g.params {
			weights += sizeOf(5, tensorSize(p))
		}
	}
	model.int(1, irVersion)
	model.text(2, "resdet")
	model.text(6, d.Doc)
	var version message // OperatorSetIdProto: domain 1 (default: ONNX's own), version 2
	version.int(2, opset)
	model.bytes(8, version)
	for _, pair := range d.Metadata {
		model.pair(14, pair[0], pair[1])
	}
	model = protowire.AppendTag(model, 7, protowire.BytesType)
	model = protowire.AppendVarint(model, uint64(int64(len(graph))+weights))
	return append(model, graph...), weights
}

// tensorSize returns the bytes of a parameter's TensorProto.
func tensorSize(p param) int64 {
	size := 4 * int64(nd.Shape(p.shape).Len())
	return int64(len(tensorHead(p.key, float32s, p.shape))+len(rawTag(size))) + size
}

// writeInside writes the model with its parameters as the last initializers.
func writeInside(w io.Writer, model message, specs []param, params device.Params) error {
	if _, err := w.Write(model); err != nil {
		return err
	}
	for _, p := range specs {
		var m message
		m = protowire.AppendTag(m, 5, protowire.BytesType)
		m = protowire.AppendVarint(m, uint64(tensorSize(p)))
		m = append(m, tensorHead(p.key, float32s, p.shape)...)
		m = append(m, rawTag(4*int64(nd.Shape(p.shape).Len()))...)
		if _, err := w.Write(m); err != nil {
			return err
		}
		if err := writeParam(w, p, params); err != nil {
			return err
		}
	}
	return nil
}

// alignment of parameters in a file of their own, so that it can be mapped.
const alignment = 4096

func aligned(offset int64) int64 { return (offset + alignment - 1) / alignment * alignment }

// writeBeside writes the parameters alone.
func writeBeside(w io.Writer, specs []param, params device.Params) error {
	var offset int64
	for _, p := range specs {
		if _, err := w.Write(make([]byte, aligned(offset)-offset)); err != nil {
			return err
		}
		if err := writeParam(w, p, params); err != nil {
			return err
		}
		offset = aligned(offset) + 4*int64(nd.Shape(p.shape).Len())
	}
	return nil
}

// writeParam writes one parameter's elements.
func writeParam(w io.Writer, p param, params device.Params) error {
	values, err := params.Param(p.key, p.shape)
	if err == nil && len(values) != nd.Shape(p.shape).Len() {
		err = fmt.Errorf("%d values for shape %v", len(values), p.shape)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.key, err)
	}
	buf := make([]byte, 0, 64<<10)
	for len(values) > 0 {
		part := values[:min(len(values), cap(buf)/4)]
		buf = buf[:0]
		for _, v := range part {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		values = values[len(part):]
	}
	return nil
}
