package ref

import (
	"cmp"
	"slices"

	"resdet/internal/nn"
)

// block is memory that one or more values of a graph share in turn.
type block struct {
	size        int // elements
	first, last int // nodes that write it first and read it last
	offset      int // set by arrange
}

// share returns the memory of every value that is computed, nil for the
// others. Views and element-wise results take over their input's memory where
// nothing reads it later. Outputs live to the end, but for those that are
// added to arrays as soon as they are computed.
func share(g *nn.Graph, needed []bool, added func(nn.Output) bool) []*block {
	last := make([]int, len(g.Nodes)) // node that reads a value last
	for v, n := range g.Nodes {
		last[v] = v
		for _, in := range n.In {
			if needed[v] {
				last[in] = v
			}
		}
	}
	for _, o := range g.Outputs {
		if !added(o) {
			last[o.Value] = len(g.Nodes)
		}
	}
	blocks := make([]*block, len(g.Nodes))
	for v, n := range g.Nodes {
		if !needed[v] || !computed(g, nn.Value(v)) {
			continue
		}
		b := takenOver(n, v, blocks)
		if b == nil {
			b = &block{size: n.Shape.Len(), first: v}
		}
		b.last = max(b.last, last[v])
		blocks[v] = b
	}
	return blocks
}

// takenOver returns the memory of an input that node v may write its result
// to, or nil.
func takenOver(n nn.Node, v int, blocks []*block) *block {
	switch n.Op.(type) {
	case nn.Flatten, nn.Unflatten:
		return blocks[n.In[0]]
	case nn.Add, nn.ReLU, nn.Norm, nn.Mul, nn.ReLUGrad, nn.NormInput:
		for _, in := range n.In {
			if b := blocks[in]; b != nil && b.last == v && b.size == n.Shape.Len() {
				return b
			}
		}
	}
	return nil
}

// arrange gives blocks that live at the same time disjoint offsets and returns
// the memory needed. Largest first at the lowest offset that is free: within
// a few per cent of the peak of live values on residual networks.
func arrange(blocks []*block) int {
	bySize := slices.Clone(blocks)
	slices.SortStableFunc(bySize, func(a, b *block) int { return cmp.Compare(b.size, a.size) })
	need := 0
	var placed []*block // by offset
	for _, b := range bySize {
		b.offset = 0
		for _, p := range placed {
			if p.first > b.last || b.first > p.last {
				continue
			}
			if b.offset+b.size <= p.offset {
				break
			}
			b.offset = max(b.offset, p.offset+p.size)
		}
		i, _ := slices.BinarySearchFunc(placed, b, func(p, b *block) int { return cmp.Compare(p.offset, b.offset) })
		placed = slices.Insert(placed, i, b)
		need = max(need, b.offset+b.size)
	}
	return need
}
