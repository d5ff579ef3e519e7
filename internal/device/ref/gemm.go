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
}

// pack copies a row-major matrix.
func pack[T nd.Float](a []T, rows, cols int) *packed[T] {
	p := &packed[T]{rows: rows, cols: cols, stride: roundUp(cols, unroll) * tileRows}
	p.data = make([]T, ceilDiv(rows, tileRows)*p.stride)
	for i := range rows {
		panel := p.data[i/tileRows*p.stride:]
		for k, v := range a[i*cols : (i+1)*cols] {
			panel[k*tileRows+i%tileRows] = v
		}
	}
	return p
}

// multiply adds the product of a panel of the left factor and one of the
// right to a tile of sums. The right panel has tileCols columns, in the order
// in which they are read; both have the same multiple of unroll steps.
func multiply[T nd.Float](a, b []T, sums *[tileRows * tileCols]T) {
	c00, c01, c02, c03 := sums[0], sums[1], sums[2], sums[3]
	c10, c11, c12, c13 := sums[4], sums[5], sums[6], sums[7]
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
	sums[0], sums[1], sums[2], sums[3] = c00, c01, c02, c03
	sums[4], sums[5], sums[6], sums[7] = c10, c11, c12, c13
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

func roundUp(a, b int) int { return ceilDiv(a, b) * b }
