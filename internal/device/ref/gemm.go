package ref

import "resdet/internal/nd"

// The matrix product is done on tiles of tileRows × tileCols elements whose
// sums stay in registers: 8 sums, 4 factors and temporaries are what the 15
// scalar registers of amd64 hold (3×4 spills and is a third slower: 5.7
// against 8.4 GFLOP/s a core).
const (
	tileRows = 2
	tileCols = 4
	unroll   = 4 // steps of the inner loop; factors are padded to it with zeros

	blockRows  = 192 // of a task; the right factor is packed once per task
	blockCols  = 96  // of a task
	blockInner = 256 // a packed block of the right factor has 96 kB in float32
)

// packed is the left factor of a product in the order in which multiply reads
// it: panels of tileRows rows, in each the columns one after another.
type packed[T nd.Float] struct {
	rows, cols int
	stride     int // elements of a panel
	data       []T
	steps      []float64 // what one stands for in each row, of integers; nil: 1
}

// newPacked describes a factor whose memory is yet to be given.
func newPacked[T nd.Float](rows, cols int) *packed[T] {
	return &packed[T]{rows: rows, cols: cols, stride: roundUp(cols, unroll) * tileRows}
}

// size returns the number of elements, with the padding.
func (p *packed[T]) size() int { return ceilDiv(p.rows, tileRows) * p.stride }

// pack copies a row-major matrix.
func pack[T nd.Float](a []T, rows, cols int) *packed[T] {
	p := newPacked[T](rows, cols)
	p.data = make([]T, p.size())
	for i := range rows {
		panel := p.data[i/tileRows*p.stride:]
		for k, v := range a[i*cols : (i+1)*cols] {
			panel[k*tileRows+i%tileRows] = v
		}
	}
	return p
}

// multiply adds the product of a panel of the left factor and one of the
// right to a tile of sums: block by block, so that a sum of 4,608 products
// (VGG-16's) loses to rounding little more than one of 256 does. Sums of
// products of 8-bit integers are exact, in float32 too: a block's stay below
// 256·255·128 < 2²⁴. The right panel has tileCols columns, in the order in which they are read; both have
// the same multiple of unroll steps.
func multiply[T nd.Float](a, b []T, sums *[tileRows * tileCols]float64) {
	var c00, c01, c02, c03, c10, c11, c12, c13 T
	for len(a) >= unroll*tileRows && len(b) >= unroll*tileCols {
		// Array pointers: one bounds check for four steps.
		p, q := (*[unroll * tileRows]T)(a), (*[unroll * tileCols]T)(b)
		x, y := p[0], p[1]
		c00 += x * q[0]
		c10 += y * q[0]
		c01 += x * q[1]
		c11 += y * q[1]
		c02 += x * q[2]
		c12 += y * q[2]
		c03 += x * q[3]
		c13 += y * q[3]
		x, y = p[2], p[3]
		c00 += x * q[4]
		c10 += y * q[4]
		c01 += x * q[5]
		c11 += y * q[5]
		c02 += x * q[6]
		c12 += y * q[6]
		c03 += x * q[7]
		c13 += y * q[7]
		x, y = p[4], p[5]
		c00 += x * q[8]
		c10 += y * q[8]
		c01 += x * q[9]
		c11 += y * q[9]
		c02 += x * q[10]
		c12 += y * q[10]
		c03 += x * q[11]
		c13 += y * q[11]
		x, y = p[6], p[7]
		c00 += x * q[12]
		c10 += y * q[12]
		c01 += x * q[13]
		c11 += y * q[13]
		c02 += x * q[14]
		c12 += y * q[14]
		c03 += x * q[15]
		c13 += y * q[15]
		a, b = a[unroll*tileRows:], b[unroll*tileCols:]
	}
	for i, c := range [...]T{c00, c01, c02, c03, c10, c11, c12, c13} {
		sums[i] += float64(c)
	}
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

func roundUp(a, b int) int { return ceilDiv(a, b) * b }
