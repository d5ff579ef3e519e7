package ref

import (
	"math"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// channelSum adds up the gradients of a channel: one task each, so that the
// order is fixed, and in float64: they cancel, and there may be 600,000.
type channelSum[T nd.Float] struct {
	dy, y                   nn.Value
	images, channels, plane int
}

func newChannelSum[T nd.Float](g *nn.Graph, v nn.Value) *channelSum[T] {
	n := g.Nodes[v]
	s := g.Nodes[n.In[0]].Shape
	return &channelSum[T]{n.In[0], v, s[0], s[1], s[2:].Len()}
}

func (k *channelSum[T]) tasks() int { return k.channels }

func (k *channelSum[T]) do(values [][]T, c int, _ *scratch[T]) {
	var sum float64
	for image := range k.images {
		for _, v := range values[k.dy][(image*k.channels+c)*k.plane:][:k.plane] {
			sum += float64(v)
		}
	}
	values[k.y][c] = T(sum)
}

type normInput[T nd.Float] struct {
	span
	n               nn.Node
	y               nn.Value
	eps             float64
	channels, plane int
}

func newNormInput[T nd.Float](g *nn.Graph, v nn.Value) *normInput[T] {
	n := g.Nodes[v]
	plane := n.Shape[2] * n.Shape[3]
	return &normInput[T]{spanOf(n.Shape[0]*n.Shape[1], plane), n, v, n.Op.(nn.NormInput).Eps, n.Shape[1], plane}
}

func (k *normInput[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	weight, variance := values[k.n.In[1]], values[k.n.In[2]]
	for i := from; i < to; i++ {
		c := i % k.channels
		scale := T(float64(weight[c]) / math.Sqrt(float64(variance[c])+k.eps))
		y := values[k.y][i*k.plane : (i+1)*k.plane]
		for j, v := range values[k.n.In[0]][i*k.plane : (i+1)*k.plane] {
			y[j] = v * scale
		}
	}
}

type reluGrad[T nd.Float] struct {
	span
	dy, y, dx nn.Value
}

func newReLUGrad[T nd.Float](g *nn.Graph, v nn.Value) *reluGrad[T] {
	n := g.Nodes[v]
	return &reluGrad[T]{spanOf(n.Shape.Len(), 1), n.In[0], n.In[1], v}
}

func (k *reluGrad[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	dy, y, dx := values[k.dy][from:to], values[k.y][from:to], values[k.dx][from:to]
	for i := range dx {
		v := dy[i]
		if y[i] <= 0 {
			v = 0
		}
		dx[i] = v
	}
}

type mul[T nd.Float] struct {
	span
	a, b, y nn.Value
}

func newMul[T nd.Float](g *nn.Graph, v nn.Value) *mul[T] {
	n := g.Nodes[v]
	return &mul[T]{spanOf(n.Shape.Len(), 1), n.In[0], n.In[1], v}
}

func (k *mul[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	a, b, y := values[k.a][from:to], values[k.b][from:to], values[k.y][from:to]
	for i := range y {
		y[i] = a[i] * b[i]
	}
}

type maxPoolGrad[T nd.Float] struct {
	span
	x, dy, dx    nn.Value
	op           nn.MaxPool
	h, w, oh, ow int
}

func newMaxPoolGrad[T nd.Float](g *nn.Graph, v nn.Value) *maxPoolGrad[T] {
	n := g.Nodes[v]
	x, dy := n.Shape, g.Nodes[n.In[1]].Shape
	op := n.Op.(nn.MaxPoolGrad).MaxPool
	return &maxPoolGrad[T]{spanOf(x[0]*x[1], dy[2]*dy[3]*op.Kernel*op.Kernel), n.In[0], n.In[1], v, op, x[2], x[3], dy[2], dy[3]}
}

func (k *maxPoolGrad[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	for i := from; i < to; i++ {
		x := values[k.x][i*k.h*k.w : (i+1)*k.h*k.w]
		dx := values[k.dx][i*k.h*k.w : (i+1)*k.h*k.w]
		dy := values[k.dy][i*k.oh*k.ow : (i+1)*k.oh*k.ow]
		clear(dx)
		for oy := range k.oh {
			y0 := oy*k.op.Stride - k.op.Pad
			for ox := range k.ow {
				x0 := ox*k.op.Stride - k.op.Pad
				at := firstMax(x, k.w, max(y0, 0), min(y0+k.op.Kernel, k.h), max(x0, 0), min(x0+k.op.Kernel, k.w))
				if at >= 0 {
					dx[at] += dy[oy*k.ow+ox]
				}
			}
		}
	}
}

// firstMax returns the index in a plane of rows of the given width of the
// first of the largest elements of a window, or −1 if it is empty. NaN wins,
// as in torch.
func firstMax[T nd.Float](plane []T, width, y0, y1, x0, x1 int) int {
	best := -1
	for y := y0; y < y1; y++ {
		for i := y*width + x0; i < y*width+x1; i++ {
			if v := plane[i]; best < 0 || v > plane[best] || v != v {
				best = i
			}
		}
	}
	return best
}

type upsampleGrad[T nd.Float] struct {
	span
	dy, dx       nn.Value
	h, w, oh, ow int
}

func newUpsampleGrad[T nd.Float](g *nn.Graph, v nn.Value) *upsampleGrad[T] {
	n := g.Nodes[v]
	dy := g.Nodes[n.In[0]].Shape
	return &upsampleGrad[T]{spanOf(dy[0]*dy[1], dy[2]*dy[3]), n.In[0], v, n.Shape[2], n.Shape[3], dy[2], dy[3]}
}

func (k *upsampleGrad[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	for i := from; i < to; i++ {
		clear(values[k.dx][i*k.h*k.w:][:k.h*k.w])
		for oy := range k.oh {
			dx := values[k.dx][(i*k.h+oy*k.h/k.oh)*k.w:][:k.w]
			for ox, v := range values[k.dy][(i*k.oh+oy)*k.ow:][:k.ow] {
				dx[ox*k.w/k.ow] += v
			}
		}
	}
}

type meanGrad[T nd.Float] struct {
	span
	dy, dx nn.Value
	plane  int
}

func newMeanGrad[T nd.Float](g *nn.Graph, v nn.Value) *meanGrad[T] {
	n := g.Nodes[v]
	plane := n.Shape[2] * n.Shape[3]
	return &meanGrad[T]{spanOf(n.Shape[0]*n.Shape[1], plane), n.In[0], v, plane}
}

func (k *meanGrad[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	for i := from; i < to; i++ {
		v := values[k.dy][i] / T(k.plane)
		dx := values[k.dx][i*k.plane : (i+1)*k.plane]
		for j := range dx {
			dx[j] = v
		}
	}
}
