package ref

import (
	"math"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// grain is how many elements a task of a cheap kernel handles at least: some
// 10 µs, a hundred times what handing it out costs.
const grain = 1 << 14

// span is a number of rows dealt out in tasks of several rows each.
type span struct{ rows, perTask int }

func spanOf(rows, elements int) span { return span{rows, max(1, grain/max(1, elements))} }

func (s span) tasks() int { return ceilDiv(s.rows, s.perTask) }

func (s span) of(task int) (from, to int) {
	return task * s.perTask, min((task+1)*s.perTask, s.rows)
}

type norm[T nd.Float] struct {
	span
	n               nn.Node
	y               nn.Value
	eps             float64
	channels, plane int
}

func newNorm[T nd.Float](g *nn.Graph, v nn.Value) *norm[T] {
	n := g.Nodes[v]
	plane := n.Shape[2] * n.Shape[3]
	return &norm[T]{spanOf(n.Shape[0]*n.Shape[1], plane), n, v, n.Op.(nn.Norm).Eps, n.Shape[1], plane}
}

func (k *norm[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	weight, bias, mean, variance := values[k.n.In[1]], values[k.n.In[2]], values[k.n.In[3]], values[k.n.In[4]]
	for i := from; i < to; i++ {
		c := i % k.channels
		scale := T(float64(weight[c]) / math.Sqrt(float64(variance[c])+k.eps))
		shift := bias[c] - mean[c]*scale
		y := values[k.y][i*k.plane : (i+1)*k.plane]
		for j, v := range values[k.n.In[0]][i*k.plane : (i+1)*k.plane] {
			y[j] = v*scale + shift
		}
	}
}

type add[T nd.Float] struct {
	span
	a, b, y nn.Value
}

func newAdd[T nd.Float](g *nn.Graph, v nn.Value) *add[T] {
	n := g.Nodes[v]
	return &add[T]{spanOf(n.Shape.Len(), 1), n.In[0], n.In[1], v}
}

func (k *add[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	a, b, y := values[k.a][from:to], values[k.b][from:to], values[k.y][from:to]
	for i := range y {
		y[i] = a[i] + b[i]
	}
}

type relu[T nd.Float] struct {
	span
	x, y nn.Value
}

func newReLU[T nd.Float](g *nn.Graph, v nn.Value) *relu[T] {
	n := g.Nodes[v]
	return &relu[T]{spanOf(n.Shape.Len(), 1), n.In[0], v}
}

func (k *relu[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	y := values[k.y][from:to]
	for i, v := range values[k.x][from:to] {
		y[i] = max(v, 0)
	}
}

// identity copies a value that is an output twice, or not computed at all.
type identity[T nd.Float] struct {
	span
	x, y nn.Value
}

func newIdentity[T nd.Float](x, y nn.Value, size int) *identity[T] {
	return &identity[T]{spanOf(size, 1), x, y}
}

func (k *identity[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	copy(values[k.y][from:to], values[k.x][from:to])
}

// sum adds a value to an array.
type sum[T nd.Float] struct {
	span
	x  nn.Value
	to []T
}

func newSum[T nd.Float](x nn.Value, to []T) *sum[T] { return &sum[T]{spanOf(len(to), 1), x, to} }

func (k *sum[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	y := k.to[from:to]
	for i, v := range values[k.x][from:to] {
		y[i] += v
	}
}

type maxPool[T nd.Float] struct {
	span
	x, y         nn.Value
	op           nn.MaxPool
	h, w, oh, ow int
}

func newMaxPool[T nd.Float](g *nn.Graph, v nn.Value) *maxPool[T] {
	n := g.Nodes[v]
	x := g.Nodes[n.In[0]].Shape
	op := n.Op.(nn.MaxPool)
	return &maxPool[T]{spanOf(x[0]*x[1], n.Shape[2]*n.Shape[3]*op.Kernel*op.Kernel), n.In[0], v, op, x[2], x[3], n.Shape[2], n.Shape[3]}
}

func (k *maxPool[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	for i := from; i < to; i++ {
		x := values[k.x][i*k.h*k.w : (i+1)*k.h*k.w]
		y := values[k.y][i*k.oh*k.ow : (i+1)*k.oh*k.ow]
		for oy := range k.oh {
			y0 := oy*k.op.Stride - k.op.Pad
			y1 := min(y0+k.op.Kernel, k.h)
			for ox := range k.ow {
				x0 := ox*k.op.Stride - k.op.Pad
				x1 := min(x0+k.op.Kernel, k.w)
				best := T(math.Inf(-1))
				for iy := max(y0, 0); iy < y1; iy++ {
					for _, v := range x[iy*k.w+max(x0, 0) : iy*k.w+x1] {
						best = max(best, v) // NaN wins, as in torch
					}
				}
				y[oy*k.ow+ox] = best
			}
		}
	}
}

type upsample[T nd.Float] struct {
	span
	x, y         nn.Value
	h, w, oh, ow int
}

func newUpsample[T nd.Float](g *nn.Graph, v nn.Value) *upsample[T] {
	n := g.Nodes[v]
	x := g.Nodes[n.In[0]].Shape
	return &upsample[T]{spanOf(x[0]*x[1], n.Shape[2]*n.Shape[3]), n.In[0], v, x[2], x[3], n.Shape[2], n.Shape[3]}
}

func (k *upsample[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	for i := from; i < to; i++ {
		for oy := range k.oh {
			x := values[k.x][(i*k.h+oy*k.h/k.oh)*k.w:][:k.w]
			y := values[k.y][(i*k.oh+oy)*k.ow:][:k.ow]
			for ox := range y {
				y[ox] = x[ox*k.w/k.ow]
			}
		}
	}
}

type mean[T nd.Float] struct {
	span
	x, y  nn.Value
	plane int
}

func newMean[T nd.Float](g *nn.Graph, v nn.Value) *mean[T] {
	n := g.Nodes[v]
	x := g.Nodes[n.In[0]].Shape
	return &mean[T]{spanOf(x[0]*x[1], x[2]*x[3]), n.In[0], v, x[2] * x[3]}
}

func (k *mean[T]) do(values [][]T, task int, _ *scratch[T]) {
	from, to := k.of(task)
	for i := from; i < to; i++ {
		var sum T
		for _, v := range values[k.x][i*k.plane : (i+1)*k.plane] {
			sum += v
		}
		values[k.y][i] = sum / T(k.plane)
	}
}
