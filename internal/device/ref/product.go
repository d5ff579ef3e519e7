package ref

import "resdet/internal/nd"

// product is a matrix product. The left factor is packed; the right one is
// gathered one block at a time, into the scratch of the task that needs it.
type product[T nd.Float] struct {
	left    *packed[T]
	columns int
	right   factor[T]
	round   func(right []T) // what is done to the right factor; nil: nothing
	step    float64         // what one stands for in the right factor, of integers
}

// factor is the right factor of a product, and where the result goes.
type factor[T nd.Float] interface {
	// locate fills cols with the columns from first on.
	locate(cols []column, first int)
	// gather packs rows k0…k1 of the columns into panels of tileCols columns,
	// with zeros for missing columns and up to a multiple of unroll.
	gather(right []T, values [][]T, cols []column, k0, k1 int)
	// scatter writes one row of the product.
	scatter(values [][]T, row int, cols []column, sums tileRow[T])
}

// tileRow is one row of a block of the product.
type tileRow[T nd.Float] struct {
	tiles [][tileRows * tileCols]float64
	row   int     // in each tile
	step  float64 // what a sum of one stands for
}

// at returns the sum of the i-th column.
func (s tileRow[T]) at(i int) T {
	return T(s.tiles[i/tileCols][s.row*tileCols+i%tileCols] * s.step)
}

// column says where a column of the right factor comes from and where its
// results go.
type column struct {
	in     int // offset in the source
	out    int // offset in the result, of row 0
	y0, x0 int // in the source's image, where it has one; may be outside
}

func (p *product[T]) rowBlocks() int { return ceilDiv(p.left.rows, blockRows) }

func (p *product[T]) tasks() int { return ceilDiv(p.columns, blockCols) * p.rowBlocks() }

func (p *product[T]) do(values [][]T, task int, s *scratch[T]) {
	row0 := task % p.rowBlocks() * blockRows
	col0 := task / p.rowBlocks() * blockCols
	rows := min(blockRows, p.left.rows-row0)
	cols := s.columns[:min(blockCols, p.columns-col0)]
	p.right.locate(cols, col0)

	rowPanels, colPanels := ceilDiv(rows, tileRows), ceilDiv(len(cols), tileCols)
	sums := s.sums[:rowPanels*colPanels]
	clear(sums)
	left := p.left.data[row0/tileRows*p.left.stride:]
	for k0 := 0; k0 < p.left.cols; k0 += blockInner {
		k1 := min(k0+blockInner, p.left.cols)
		steps := roundUp(k1-k0, unroll)
		right := s.right[:colPanels*steps*tileCols]
		p.right.gather(right, values, cols, k0, k1)
		if p.round != nil {
			p.round(right)
		}
		for i := range rowPanels {
			a := left[i*p.left.stride+k0*tileRows:][:steps*tileRows]
			for j := range colPanels {
				multiply(a, right[j*steps*tileCols:][:steps*tileCols], &sums[i*colPanels+j])
			}
		}
	}
	for r := range rows {
		step := 1.0
		if p.left.steps != nil {
			step = p.left.steps[row0+r] * p.step
		}
		p.right.scatter(values, row0+r, cols, tileRow[T]{sums[r/tileRows*colPanels:], r % tileRows, step})
	}
}

// fillPanels packs steps rows of len(cols) columns, of which count rows are
// there: at gives the elements.
func fillPanels[T nd.Float](right []T, cols []column, count int, at func(step int, col *column) T) {
	steps := roundUp(count, unroll)
	for step := range steps {
		dst := right[step*tileCols:]
		for i := range roundUp(len(cols), tileCols) {
			var v T
			if step < count && i < len(cols) {
				v = at(step, &cols[i])
			}
			dst[i/tileCols*steps*tileCols+i%tileCols] = v
		}
	}
}

// packer packs the left factor of the product that follows, in parallel by
// panels.
type packer[T nd.Float] struct {
	left *packed[T]
	// at returns element (row, col) of the factor from the memory of the nodes.
	at    func(values [][]T, row, col int) T
	round func(panel []T) // what is done to the elements; nil: nothing
}

func (p *packer[T]) tasks() int { return ceilDiv(p.left.rows, tileRows) }

func (p *packer[T]) do(values [][]T, task int, _ *scratch[T]) {
	panel := p.left.data[task*p.left.stride : (task+1)*p.left.stride]
	clear(panel)
	for row := task * tileRows; row < min((task+1)*tileRows, p.left.rows); row++ {
		for col := range p.left.cols {
			panel[col*tileRows+row%tileRows] = p.at(values, row, col)
		}
	}
	if p.round != nil {
		p.round(panel)
	}
}
