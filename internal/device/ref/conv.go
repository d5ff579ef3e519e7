package ref

import (
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// conv is a convolution as the product of the weights [O C·KH·KW] and the
// windows of the input, [C·KH·KW N·OH·OW]. The windows are gathered one block
// at a time, into the scratch of the task that needs it. A linear layer is
// the case of 1×1 images.
type conv[T nd.Float] struct {
	x, y, bias  nn.Value // bias < 0: none
	weight      *packed[T]
	h, w        int // of the input
	kh, kw      int
	stride, pad int
	oh, ow      int
	images      int
}

func newConv[T nd.Float](g *nn.Graph, v nn.Value, weight *packed[T]) *conv[T] {
	n := g.Nodes[v]
	k := &conv[T]{x: n.In[0], y: v, bias: -1, weight: weight, h: 1, w: 1, kh: 1, kw: 1, stride: 1, oh: 1, ow: 1}
	if len(n.In) == 3 {
		k.bias = n.In[2]
	}
	k.images = n.Shape[0]
	if op, ok := n.Op.(nn.Conv); ok {
		x, w := g.Nodes[n.In[0]].Shape, g.Nodes[n.In[1]].Shape
		k.h, k.w, k.kh, k.kw = x[2], x[3], w[2], w[3]
		k.stride, k.pad = op.Stride, op.Pad
		k.oh, k.ow = n.Shape[2], n.Shape[3]
	}
	return k
}

// column is where the window of one output pixel starts.
type column struct {
	in     int // offset of its image's first channel in x
	out    int // offset in y of the pixel in the first output channel
	y0, x0 int // of the window, in the image; negative in the padding
}

func (k *conv[T]) pixels() int { return k.images * k.oh * k.ow }

func (k *conv[T]) rowBlocks() int { return ceilDiv(k.weight.rows, blockRows) }

func (k *conv[T]) tasks() int { return ceilDiv(k.pixels(), blockCols) * k.rowBlocks() }

func (k *conv[T]) do(values [][]T, task int, s *scratch[T]) {
	row0 := task % k.rowBlocks() * blockRows
	col0 := task / k.rowBlocks() * blockCols
	rows := min(blockRows, k.weight.rows-row0)
	cols := s.columns[:min(blockCols, k.pixels()-col0)]
	k.locate(cols, col0)

	rowPanels, colPanels := ceilDiv(rows, tileRows), ceilDiv(len(cols), tileCols)
	sums := s.sums[:rowPanels*colPanels]
	clear(sums)
	left := k.weight.data[row0/tileRows*k.weight.stride:]
	for k0 := 0; k0 < k.weight.cols; k0 += blockInner {
		k1 := min(k0+blockInner, k.weight.cols)
		steps := roundUp(k1-k0, unroll)
		right := s.right[:colPanels*steps*tileCols]
		k.gather(right, values[k.x], cols, k0, k1)
		for i := range rowPanels {
			a := left[i*k.weight.stride+k0*tileRows:][:steps*tileRows]
			for j := range colPanels {
				multiply(a, right[j*steps*tileCols:][:steps*tileCols], &sums[i*colPanels+j])
			}
		}
	}
	k.scatter(values, sums, cols, row0, rows)
}

// locate fills cols with the windows of the output pixels from first on.
func (k *conv[T]) locate(cols []column, first int) {
	channels := k.weight.cols / (k.kh * k.kw)
	for i := range cols {
		image, pixel := (first+i)/(k.oh*k.ow), (first+i)%(k.oh*k.ow)
		cols[i] = column{
			in:  image * channels * k.h * k.w,
			out: image*k.weight.rows*k.oh*k.ow + pixel,
			y0:  pixel/k.ow*k.stride - k.pad,
			x0:  pixel%k.ow*k.stride - k.pad,
		}
	}
}

// gather packs rows k0…k1 of the windows into panels of tileCols columns,
// with zeros for padding, for missing columns and up to a multiple of unroll.
func (k *conv[T]) gather(right, x []T, cols []column, k0, k1 int) {
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

// scatter writes rows of sums, with the bias, to the output.
func (k *conv[T]) scatter(values [][]T, sums [][tileRows * tileCols]T, cols []column, row0, rows int) {
	y, colPanels := values[k.y], ceilDiv(len(cols), tileCols)
	for r := range rows {
		row := row0 + r
		var bias T
		if k.bias >= 0 {
			bias = values[k.bias][row]
		}
		tiles := sums[r/tileRows*colPanels:]
		for i := range cols {
			y[cols[i].out+row*k.oh*k.ow] = tiles[i/tileCols][r%tileRows*tileCols+i%tileCols] + bias
		}
	}
}
