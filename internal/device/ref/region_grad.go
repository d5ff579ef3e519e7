package ref

import (
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// gradChannelsPerTask divides the channels of an image's gradient. Regions
// overlap, so that one task adds up all of them for its channels, in their
// order.
const gradChannelsPerTask = 16

// poolingGrad is what the gradients of both kinds of region pooling have in
// common: those of one level.
type poolingGrad struct {
	rois, dy, dx nn.Value
	pyramid      nn.Pyramid
	level        int
	shape        nd.Shape // of the level
	regions      int
	bins         int // of a channel
	parts        int
}

func newPoolingGrad(g *nn.Graph, v, rois, dy nn.Value, pyramid nn.Pyramid, level int) poolingGrad {
	shape, pooled := g.Nodes[v].Shape, g.Nodes[dy].Shape
	return poolingGrad{rois, dy, v, pyramid, level, shape, pooled[0], pooled[2] * pooled[3], ceilDiv(shape[1], gradChannelsPerTask)}
}

func (k *poolingGrad) tasks() int { return k.shape[0] * k.parts }

// channels returns a task's image and channels.
func (k *poolingGrad) channels(task int) (image, from, to int) {
	from = task % k.parts * gradChannelsPerTask
	return task / k.parts, from, min(from+gradChannelsPerTask, k.shape[1])
}

func (k *poolingGrad) plane() int { return k.shape[2] * k.shape[3] }

type roiAlignGrad[T nd.Float] struct {
	poolingGrad
	op nn.RoIAlign
}

func newRoIAlignGrad[T nd.Float](g *nn.Graph, v nn.Value) *roiAlignGrad[T] {
	n := g.Nodes[v]
	op := n.Op.(nn.RoIAlignGrad)
	return &roiAlignGrad[T]{newPoolingGrad(g, v, n.In[0], n.In[1], op.Pyramid, op.Level), op.RoIAlign}
}

func (k *roiAlignGrad[T]) do(values [][]T, task int, s *scratch[T]) {
	image, c0, c1 := k.channels(task)
	plane, width := k.plane(), k.shape[3]
	dx := values[k.dx][(image*k.shape[1]+c0)*plane : (image*k.shape[1]+c1)*plane]
	clear(dx)
	for r := range k.regions {
		g, ok := regionOf(&k.pyramid, values[k.rois], r, k.shape[0])
		if !ok || g.level != k.level || g.image != image {
			continue
		}
		count := T(sampleBins(s, &k.op, g, k.shape))
		dy := values[k.dy][(r*k.shape[1]+c0)*k.bins:]
		for c := range c1 - c0 {
			to := dx[c*plane:][:plane]
			for bin, v := range dy[c*k.bins:][:k.bins] {
				v /= count
				for _, y := range s.ys.of(bin / k.op.W) {
					upper, lower := to[y.lo*width:][:width], to[y.hi*width:][:width]
					for _, x := range s.xs.of(bin % k.op.W) {
						upper[x.lo] += v * y.atLo * x.atLo
						upper[x.hi] += v * y.atLo * x.atHigh
						lower[x.lo] += v * y.atHigh * x.atLo
						lower[x.hi] += v * y.atHigh * x.atHigh
					}
				}
			}
		}
	}
}

type roiPoolGrad[T nd.Float] struct {
	poolingGrad
	op nn.RoIPool
	x  nn.Value
}

func newRoIPoolGrad[T nd.Float](g *nn.Graph, v nn.Value) *roiPoolGrad[T] {
	n := g.Nodes[v]
	op := n.Op.(nn.RoIPoolGrad)
	return &roiPoolGrad[T]{newPoolingGrad(g, v, n.In[1], n.In[2], op.Pyramid, op.Level), op.RoIPool, n.In[0]}
}

func (k *roiPoolGrad[T]) do(values [][]T, task int, _ *scratch[T]) {
	image, c0, c1 := k.channels(task)
	plane := k.plane()
	from, to := (image*k.shape[1]+c0)*plane, (image*k.shape[1]+c1)*plane
	x, dx := values[k.x][from:to], values[k.dx][from:to]
	clear(dx)
	for r := range k.regions {
		g, ok := regionOf(&k.pyramid, values[k.rois], r, k.shape[0])
		if !ok || g.level != k.level || g.image != image {
			continue
		}
		bins := binsOf(&k.op, g, k.shape)
		dy := values[k.dy][(r*k.shape[1]+c0)*k.bins:]
		for c := range c1 - c0 {
			for bin, v := range dy[c*k.bins:][:k.bins] {
				top, bottom := bins.rows(bin / k.op.W)
				left, right := bins.columns(bin % k.op.W)
				if at := firstMax(x[c*plane:], k.shape[3], top, bottom, left, right); at >= 0 {
					dx[c*plane+at] += v
				}
			}
		}
	}
}
