package ref

import (
	"math"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Where samples and bins fall is computed in float32 for every element type,
// with each operation rounded as torchvision's kernels round it: an oracle in
// float64 then pools the same pixels as a device in float32.

// maxCorner bounds corners in feature pixels: beyond it float32 no longer
// tells a quarter of a pixel, and counts of samples would leave all bounds.
const maxCorner = 1 << 22

// region is a row of the regions' array in feature pixels of its level.
type region struct {
	level, image   int
	x0, y0, x1, y1 float32
}

// regionOf reads row r. It reports false for a region that pools to zeros:
// of no image of the batch, or with a corner that is not finite or beyond
// maxCorner.
func regionOf[T nd.Float](p *nn.Pyramid, rois []T, r, images int) (region, bool) {
	row := rois[5*r : 5*r+5]
	x0, y0, x1, y1 := float32(row[1]), float32(row[2]), float32(row[3]), float32(row[4])
	level := levelOf(p, x0, y0, x1, y1)
	scale := float32(p.Scales[level])
	g := region{level, 0, x0 * scale, y0 * scale, x1 * scale, y1 * scale}
	for _, v := range [...]float32{g.x0, g.y0, g.x1, g.y1} {
		if !(-maxCorner <= v && v <= maxCorner) {
			return g, false
		}
	}
	if !(0 <= row[0] && row[0] < T(images)) {
		return g, false
	}
	g.image = int(row[0])
	return g, true
}

// levelOf returns the index of the level that a region is pooled from.
func levelOf(p *nn.Pyramid, x0, y0, x1, y1 float32) int {
	if len(p.Scales) == 1 {
		return 0
	}
	finest := float32(math.Round(-math.Log2(p.Scales[0])))
	extra := float32(p.Extra)
	size := float32(math.Sqrt(float64((x1 - x0 + extra) * (y1 - y0 + extra))))
	k := float32(p.CanonicalLevel) + float32(math.Log2(float64(size/float32(p.CanonicalSize)))) + 1e-6
	level := float32(math.Floor(float64(k))) - finest
	switch last := len(p.Scales) - 1; {
	case level >= float32(last):
		return last
	case level > 0:
		return int(level)
	}
	return 0 // also −∞ and NaN, of areas that are not positive
}

// channelsPerTask divides the channels of a region: the samples' places are
// computed anew for each part, which costs as much as pooling a few channels.
const channelsPerTask = 128

// pooling is what both kinds of region pooling have in common.
type pooling struct {
	n                       nn.Node
	y                       nn.Value
	pyramid                 nn.Pyramid
	levels                  []nd.Shape
	images, channels, parts int
	bins                    int // of a channel
}

func newPooling(g *nn.Graph, v nn.Value, pyramid nn.Pyramid) pooling {
	n := g.Nodes[v]
	k := pooling{n: n, y: v, pyramid: pyramid, channels: n.Shape[1], bins: n.Shape[2] * n.Shape[3]}
	k.parts = ceilDiv(k.channels, channelsPerTask)
	for _, f := range n.In[:len(n.In)-1] {
		k.levels = append(k.levels, g.Nodes[f].Shape)
	}
	k.images = k.levels[0][0]
	return k
}

func (k *pooling) tasks() int { return k.n.Shape[0] * k.parts }

// roiAlign averages bilinear samples.
type roiAlign[T nd.Float] struct {
	pooling
	op nn.RoIAlign
}

func newRoIAlign[T nd.Float](g *nn.Graph, v nn.Value) *roiAlign[T] {
	op := g.Nodes[v].Op.(nn.RoIAlign)
	return &roiAlign[T]{newPooling(g, v, op.Pyramid), op}
}

// tap is a bilinear sample along one axis: two pixels and their weights.
type tap[T nd.Float] struct {
	lo, hi       int
	atLo, atHigh T
}

// axis holds the samples of all bins along one axis; those outside the image
// are left out, for they are 0.
type axis[T nd.Float] struct {
	taps []tap[T]
	ends []int // of each bin's samples in taps
}

// sample fills a with the samples of bins bins from start on, each divided
// into grid steps, in an image of the given extent.
func (a *axis[T]) sample(start, size float32, bins, grid, extent int) {
	a.taps, a.ends = a.taps[:0], a.ends[:0]
	for bin := range bins {
		from := start + float32(float32(bin)*size)
		step := size / float32(grid)
		first := 0
		if step > 0 { // skip what lies left of the image, less one for rounding
			first = max(0, int((-1-from)/step)-1)
		}
		for i := first; i < grid; i++ {
			at := from + float32(float32(float32(i)+0.5)*size)/float32(grid)
			if at > float32(extent) {
				break
			}
			if at < -1 {
				continue
			}
			at = max(at, 0)
			lo := int(at)
			hi := lo + 1
			if lo >= extent-1 {
				lo, hi, at = extent-1, extent-1, float32(extent-1)
			}
			part := at - float32(lo)
			a.taps = append(a.taps, tap[T]{lo, hi, T(1 - part), T(part)})
		}
		a.ends = append(a.ends, len(a.taps))
	}
}

// of returns the samples of a bin.
func (a *axis[T]) of(bin int) []tap[T] {
	from := 0
	if bin > 0 {
		from = a.ends[bin-1]
	}
	return a.taps[from:a.ends[bin]]
}

// sampleBins fills s with the samples of the region's bins in a level of the
// given shape and returns how many each bin is divided by.
func sampleBins[T nd.Float](s *scratch[T], op *nn.RoIAlign, g region, level nd.Shape) int {
	var shift float32
	if op.Aligned {
		shift = 0.5
	}
	x0, y0 := g.x0-shift, g.y0-shift
	w, h := g.x1-shift-x0, g.y1-shift-y0
	if !op.Aligned {
		w, h = max(w, 1), max(h, 1)
	}
	binW, binH := w/float32(op.W), h/float32(op.H)
	gridW, gridH := op.Sampling, op.Sampling
	if op.Sampling <= 0 {
		gridW, gridH = max(0, int(math.Ceil(float64(binW)))), max(0, int(math.Ceil(float64(binH))))
	}
	s.xs.sample(x0, binW, op.W, gridW, level[3])
	s.ys.sample(y0, binH, op.H, gridH, level[2])
	return max(1, gridW*gridH)
}

func (k *roiAlign[T]) do(values [][]T, task int, s *scratch[T]) {
	r, c0 := task/k.parts, task%k.parts*channelsPerTask
	c1 := min(c0+channelsPerTask, k.channels)
	out := values[k.y][(r*k.channels+c0)*k.bins : (r*k.channels+c1)*k.bins]
	g, ok := regionOf(&k.pyramid, values[k.n.In[len(k.n.In)-1]], r, k.images)
	if !ok {
		clear(out)
		return
	}
	level := k.levels[g.level]
	count := T(sampleBins(s, &k.op, g, level))
	plane, width := level[2]*level[3], level[3]
	features := values[k.n.In[g.level]][(g.image*k.channels+c0)*plane:]
	for len(out) > 0 {
		i := 0
		for by := range k.op.H {
			ys := s.ys.of(by)
			for bx := range k.op.W {
				xs := s.xs.of(bx)
				var sum T
				for _, y := range ys {
					upper, lower := features[y.lo*width:][:width], features[y.hi*width:][:width]
					for _, x := range xs {
						sum += y.atLo*x.atLo*upper[x.lo] + y.atLo*x.atHigh*upper[x.hi] +
							y.atHigh*x.atLo*lower[x.lo] + y.atHigh*x.atHigh*lower[x.hi]
					}
				}
				out[i] = sum / count
				i++
			}
		}
		out = out[k.bins:]
		features = features[plane:]
	}
}

// roiPool takes maxima over whole pixels.
type roiPool[T nd.Float] struct {
	pooling
	op nn.RoIPool
}

func newRoIPool[T nd.Float](g *nn.Graph, v nn.Value) *roiPool[T] {
	op := g.Nodes[v].Op.(nn.RoIPool)
	return &roiPool[T]{newPooling(g, v, op.Pyramid), op}
}

func (k *roiPool[T]) do(values [][]T, task int, _ *scratch[T]) {
	r, c0 := task/k.parts, task%k.parts*channelsPerTask
	c1 := min(c0+channelsPerTask, k.channels)
	out := values[k.y][(r*k.channels+c0)*k.bins : (r*k.channels+c1)*k.bins]
	g, ok := regionOf(&k.pyramid, values[k.n.In[len(k.n.In)-1]], r, k.images)
	if !ok {
		clear(out)
		return
	}
	level := k.levels[g.level]
	bins := binsOf(&k.op, g, level)
	plane, width := level[2]*level[3], level[3]
	features := values[k.n.In[g.level]][(g.image*k.channels+c0)*plane:]
	for len(out) > 0 {
		i := 0
		for by := range k.op.H {
			top, bottom := bins.rows(by)
			for bx := range k.op.W {
				left, right := bins.columns(bx)
				var best T // an empty bin is 0
				if top < bottom && left < right {
					best = T(math.Inf(-1))
				}
				for y := top; y < bottom && left < right; y++ {
					for _, v := range features[y*width+left : y*width+right] {
						best = max(best, v)
					}
				}
				out[i] = best
				i++
			}
		}
		out = out[k.bins:]
		features = features[plane:]
	}
}

// bins are those of a region in a level.
type bins struct {
	x0, y0        int
	width, height float32 // of a bin
	level         nd.Shape
}

// binsOf follows Caffe's rounding: halves away from zero, the end pixel
// included.
func binsOf(op *nn.RoIPool, g region, level nd.Shape) bins {
	x0, y0 := round(g.x0), round(g.y0)
	return bins{x0, y0, float32(max(round(g.x1)-x0+1, 1)) / float32(op.W), float32(max(round(g.y1)-y0+1, 1)) / float32(op.H), level}
}

func (b *bins) rows(bin int) (from, to int)    { return binEdges(b.y0, bin, b.height, b.level[2]) }
func (b *bins) columns(bin int) (from, to int) { return binEdges(b.x0, bin, b.width, b.level[3]) }

// binEdges returns the pixels of a bin, cut to the image.
func binEdges(start, bin int, size float32, extent int) (from, to int) {
	from = start + int(math.Floor(float64(float32(bin)*size)))
	to = start + int(math.Ceil(float64(float32(bin+1)*size)))
	return min(max(from, 0), extent), min(max(to, 0), extent)
}

func round(v float32) int { return int(math.Round(float64(v))) }
