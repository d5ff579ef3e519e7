package ref

import (
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// convInput is the gradient of a convolution's input as the product of the
// weights [C O·KH·KW] and the gradients that each pixel has gone to,
// [O·KH·KW N·H·W]; those that a stride skips are zeros. A linear layer is the
// case of 1×1 images.
type convInput[T nd.Float] struct {
	dy, dx         nn.Value
	channels, outs int // of x and y
	h, w           int // of x
	kh, kw         int
	stride, pad    int
	oh, ow         int // of y
}

func newConvInput[T nd.Float](g *nn.Graph, v nn.Value, weight *packed[T], round func([]T)) kernel[T] {
	n := g.Nodes[v]
	dy, w := g.Nodes[n.In[0]].Shape, g.Nodes[n.In[1]].Shape
	k := &convInput[T]{dy: n.In[0], dx: v, channels: w[1], outs: w[0], h: 1, w: 1, kh: 1, kw: 1, stride: 1, oh: 1, ow: 1}
	if op, ok := n.Op.(nn.ConvInput); ok {
		k.h, k.w, k.kh, k.kw = op.H, op.W, w[2], w[3]
		k.stride, k.pad = op.Stride, op.Pad
		k.oh, k.ow = dy[2], dy[3]
	}
	return &product[T]{left: weight, columns: n.Shape[0] * k.h * k.w, right: k, round: round}
}

func (k *convInput[T]) locate(cols []column, first int) {
	for i := range cols {
		image, pixel := (first+i)/(k.h*k.w), (first+i)%(k.h*k.w)
		cols[i] = column{
			in:  image * k.outs * k.oh * k.ow,
			out: image*k.channels*k.h*k.w + pixel,
			y0:  pixel/k.w + k.pad,
			x0:  pixel%k.w + k.pad,
		}
	}
}

func (k *convInput[T]) gather(right []T, values [][]T, cols []column, k0, k1 int) {
	dy := values[k.dy]
	window := k.kh * k.kw
	fillPanels(right, cols, k1-k0, func(step int, col *column) T {
		o, ky, kx := (k0+step)/window, (k0+step)%window/k.kw, (k0+step)%k.kw
		y, x := col.y0-ky, col.x0-kx // stride times the output's pixel
		if y < 0 || x < 0 || y%k.stride != 0 || x%k.stride != 0 || y/k.stride >= k.oh || x/k.stride >= k.ow {
			return 0
		}
		return dy[col.in+(o*k.oh+y/k.stride)*k.ow+x/k.stride]
	})
}

func (k *convInput[T]) scatter(values [][]T, row int, cols []column, sums tileRow[T]) {
	dx := values[k.dx][row*k.h*k.w:]
	for i := range cols {
		dx[cols[i].out] = sums.at(i)
	}
}

// convWeight is the gradient of a convolution's weights as the product of the
// output's gradient [O N·OH·OW] and the windows of the input
// [N·OH·OW C·KH·KW]. A linear layer is the case of 1×1 images.
type convWeight[T nd.Float] struct {
	x, dw       nn.Value
	channels    int // of x
	h, w        int
	kh, kw      int
	stride, pad int
	oh, ow      int
}

// newConvWeight returns a kernel for which left holds the output's gradient.
func newConvWeight[T nd.Float](g *nn.Graph, v nn.Value, left *packed[T], round func([]T)) kernel[T] {
	n := g.Nodes[v]
	x, dy := g.Nodes[n.In[0]].Shape, g.Nodes[n.In[1]].Shape
	k := &convWeight[T]{x: n.In[0], dw: v, channels: x[1], h: 1, w: 1, kh: 1, kw: 1, stride: 1, oh: 1, ow: 1}
	if op, ok := n.Op.(nn.ConvWeight); ok {
		k.h, k.w, k.kh, k.kw = x[2], x[3], op.KH, op.KW
		k.stride, k.pad = op.Stride, op.Pad
		k.oh, k.ow = dy[2], dy[3]
	}
	return &product[T]{left: left, columns: n.Shape[1:].Len(), right: k, round: round}
}

func (k *convWeight[T]) locate(cols []column, first int) {
	window := k.kh * k.kw
	for i := range cols {
		c, at := (first+i)/window, (first+i)%window
		cols[i] = column{in: c * k.h * k.w, out: first + i, y0: at/k.kw - k.pad, x0: at%k.kw - k.pad}
	}
}

func (k *convWeight[T]) gather(right []T, values [][]T, cols []column, k0, k1 int) {
	x := values[k.x]
	area, plane := k.oh*k.ow, k.h*k.w
	fillPanels(right, cols, k1-k0, func(step int, col *column) T {
		image, pixel := (k0+step)/area, (k0+step)%area
		iy, ix := pixel/k.ow*k.stride+col.y0, pixel%k.ow*k.stride+col.x0
		if uint(iy) >= uint(k.h) || uint(ix) >= uint(k.w) {
			return 0
		}
		return x[image*k.channels*plane+col.in+iy*k.w+ix]
	})
}

func (k *convWeight[T]) scatter(values [][]T, row int, cols []column, sums tileRow[T]) {
	dw := values[k.dw][row*k.channels*k.kh*k.kw:]
	for i := range cols {
		dw[cols[i].out] = sums.at(i)
	}
}

// The left factors that change from run to run are packed before each product,
// and rounded as its right ones are; round is nil for not at all.

// packMatrix packs weights as they are: [O C·KH·KW].
func packMatrix[T nd.Float](left *packed[T], w nn.Value, round func([]T)) kernel[T] {
	return &packer[T]{left, func(values [][]T, row, col int) T { return values[w][row*left.cols+col] }, round}
}

// packTransposed packs weights [O C KH KW] with their channels as rows.
func packTransposed[T nd.Float](left *packed[T], w nn.Value, window int, round func([]T)) kernel[T] {
	return &packer[T]{left, func(values [][]T, row, col int) T {
		return values[w][(col/window*left.rows+row)*window+col%window]
	}, round}
}

// packChannels packs maps [N O OH OW] with their channels as rows.
func packChannels[T nd.Float](left *packed[T], dy nn.Value, area int, round func([]T)) kernel[T] {
	return &packer[T]{left, func(values [][]T, row, col int) T {
		return values[dy][(col/area*left.rows+row)*area+col%area]
	}, round}
}
