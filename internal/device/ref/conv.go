package ref

import (
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// conv is a convolution as the product of the weights [O C·KH·KW] and the
// windows of the input, [C·KH·KW N·OH·OW]. A linear layer is the case of 1×1
// images.
type conv[T nd.Float] struct {
	x, y, bias  nn.Value // bias < 0: none
	channels    int      // of the input
	outs        int      // channels of the output
	h, w        int      // of the input
	kh, kw      int
	stride, pad int
	oh, ow      int
}

func newConv[T nd.Float](g *nn.Graph, v nn.Value, weight *packed[T], numbers nn.Numbers) kernel[T] {
	n := g.Nodes[v]
	x, w := g.Nodes[n.In[0]].Shape, g.Nodes[n.In[1]].Shape
	k := &conv[T]{x: n.In[0], y: v, bias: -1, channels: w[1], outs: w[0], h: 1, w: 1, kh: 1, kw: 1, stride: 1, oh: 1, ow: 1}
	if len(n.In) == 3 {
		k.bias = n.In[2]
	}
	if op, ok := n.Op.(nn.Conv); ok {
		k.h, k.w, k.kh, k.kw = x[2], x[3], w[2], w[3]
		k.stride, k.pad = op.Stride, op.Pad
		k.oh, k.ow = n.Shape[2], n.Shape[3]
	}
	return &product[T]{left: weight, columns: n.Shape[0] * k.oh * k.ow, right: k, round: rounding[T](numbers), step: float64(numbers.Scale)}
}

// locate fills cols with the windows of the output pixels from first on.
func (k *conv[T]) locate(cols []column, first int) {
	for i := range cols {
		image, pixel := (first+i)/(k.oh*k.ow), (first+i)%(k.oh*k.ow)
		cols[i] = column{
			in:  image * k.channels * k.h * k.w,
			out: image*k.outs*k.oh*k.ow + pixel,
			y0:  pixel/k.ow*k.stride - k.pad,
			x0:  pixel%k.ow*k.stride - k.pad,
		}
	}
}

// gather packs rows k0…k1 of the windows; padding is zero.
func (k *conv[T]) gather(right []T, values [][]T, cols []column, k0, k1 int) {
	x := values[k.x]
	steps := roundUp(k1-k0, unroll)
	window := k.kh * k.kw
	c, ky, kx := k0/window, k0%window/k.kw, k0%k.kw
	for step := range steps {
		dst := right[step*tileCols:]
		if step >= k1-k0 {
			for j := range ceilDiv(len(cols), tileCols) {
				clear(dst[j*steps*tileCols:][:tileCols])
			}
			continue
		}
		plane := c*k.h*k.w + ky*k.w + kx
		for i := range cols {
			col := &cols[i]
			var v T
			if uint(col.y0+ky) < uint(k.h) && uint(col.x0+kx) < uint(k.w) {
				v = x[col.in+plane+col.y0*k.w+col.x0]
			}
			dst[i/tileCols*steps*tileCols+i%tileCols] = v
		}
		for i := len(cols); i%tileCols != 0; i++ {
			dst[i/tileCols*steps*tileCols+i%tileCols] = 0
		}
		if kx++; kx == k.kw {
			kx = 0
			if ky++; ky == k.kh {
				ky = 0
				c++
			}
		}
	}
}

// scatter writes a channel of the output, with the bias.
func (k *conv[T]) scatter(values [][]T, row int, cols []column, sums tileRow[T]) {
	var bias T
	if k.bias >= 0 {
		bias = values[k.bias][row]
	}
	y := values[k.y][row*k.oh*k.ow:]
	for i := range cols {
		y[cols[i].out] = sums.at(i) + bias
	}
}
