package resdet

import (
	"context"
	"fmt"
	"image"
	"math"
	"slices"

	"resdet/internal/device"
	"resdet/internal/nn"
	"resdet/rpn"
)

// maxObserved bounds the memory, in floats, of what one run hands out: the
// activations of ResNet-101 on one large photo are 2 GB.
const maxObserved = 64 << 20

// Observe runs the network on an image in float32 and shows what each of
// [Config.Layers] reads, [N C H W] or [R C], for calibration. A layer that is used
// more than once (the RPN's, on every level) is shown every time. values are only
// good during the call of show, whose error ends the run. The detector must be
// one in f32.
func (d *Detector) Observe(ctx context.Context, img image.Image, show func(layer string, shape Shape, values []float32) error) error {
	if d.precision != F32 {
		return fmt.Errorf("resdet: observing wants a detector in f32, this one is in %s", d.precision)
	}
	w, err := d.take(ctx)
	if err != nil {
		return err
	}
	defer d.give(w)
	if _, _, err := w.detect(ctx, []image.Image{img}, d.Settings()); err != nil {
		return err
	}
	one, err := w.programs.stage1(w.cfg.Transform.BatchShape(w.views...))
	if err != nil {
		return err
	}
	graph, err := w.cfg.stage1(one.shape[0], one.shape[2], one.shape[3])
	if err != nil {
		return err
	}
	pixels := one.program.Input(0).Data()
	err = w.observe(ctx, graph, nil, func(p device.Program) { copy(p.Input(0).Data(), pixels) }, show)
	if err != nil || len(w.proposals) == 0 {
		return err
	}
	if graph, err = w.cfg.stage2(one.features, len(w.proposals)); err != nil {
		return err
	}
	return w.observe(ctx, graph, one.kept, func(p device.Program) { rpn.Rois(p.Input(len(one.features)).Data(), w.proposals) }, show)
}

// observe runs a graph's layers up to what they read, as many at a time as the
// memory allows.
func (w *worker) observe(ctx context.Context, g *nn.Graph, bound map[string]device.Buffer, fill func(device.Program), show func(string, Shape, []float32) error) error {
	names := reducible(g)
	readers := map[nn.Value][]string{} // layers by what they read
	var values []nn.Value
	for v := range g.Nodes {
		name := g.Layer(nn.Value(v))
		if !slices.Contains(names, name) {
			continue
		}
		for _, x := range reads(g, nn.Value(v)) {
			if readers[x] == nil {
				values = append(values, x)
			}
			readers[x] = append(readers[x], name)
		}
	}
	for len(values) > 0 {
		n, room := 0, maxObserved
		for n < len(values) && (n == 0 || room >= g.Nodes[values[n]].Shape.Len()) {
			room -= g.Nodes[values[n]].Shape.Len()
			n++
		}
		if err := w.observeSome(ctx, g, values[:n], bound, fill, func(i int, data []float32) error {
			for _, name := range readers[values[i]] {
				if err := show(name, g.Nodes[values[i]].Shape, data); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

func (w *worker) observeSome(ctx context.Context, g *nn.Graph, values []nn.Value, bound map[string]device.Buffer, fill func(device.Program), show func(i int, data []float32) error) error {
	some := *g
	some.Outputs = nil
	for i, v := range values {
		some.Outputs = append(some.Outputs, nn.Output{Name: fmt.Sprint("observed ", i), Value: v})
	}
	p, err := w.programs.build(&some, bound)
	if err != nil {
		return err
	}
	defer p.Close()
	fill(p)
	if err := p.Run(ctx, bound); err != nil {
		return err
	}
	for i := range values {
		if err := show(i, p.Output(i).Data()); err != nil {
			return err
		}
	}
	return nil
}

// reads returns what a layer reads as a device may run it: a convolution of
// pooled regions is computed on the maps that they are pooled from.
func reads(g *nn.Graph, v nn.Value) []nn.Value {
	x := g.Nodes[v].In[0]
	if _, ok := g.Nodes[x].Op.(nn.Flatten); ok {
		x = g.Nodes[x].In[0]
	}
	_, conv := g.Nodes[v].Op.(nn.Conv)
	if _, ok := g.Nodes[x].Op.(nn.RoIAlign); ok && conv {
		levels := g.Nodes[x].In
		return levels[:len(levels)-1]
	}
	return []nn.Value{x}
}

// Calibrate returns the quantization that the largest values in a few images
// give: plain, and ready at once.
func (d *Detector) Calibrate(ctx context.Context, images ...image.Image) (*Quantization, error) {
	type extent struct{ low, high float32 }
	seen := map[string]extent{}
	for _, img := range images {
		err := d.Observe(ctx, img, func(layer string, _ Shape, values []float32) error {
			e := seen[layer]
			for _, v := range values {
				e.low, e.high = min(e.low, v), max(e.high, v)
			}
			if !(e.high-e.low <= math.MaxFloat32) { // NaN and infinities
				return fmt.Errorf("resdet: calibration: layer %q reads what is not a number", layer)
			}
			seen[layer] = e
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	q := &Quantization{Method: "max", Images: len(images), Layers: map[string]Numbers{}}
	for layer, e := range seen {
		n := Numbers{Precision: Int8, Scale: e.high / 255}
		if e.low < 0 {
			n.Scale, n.Signed = max(e.high, -e.low)/127, true
		}
		if n.Validate() == nil { // else nothing but zeros was seen
			q.Layers[layer] = n
		}
	}
	return q, nil
}
