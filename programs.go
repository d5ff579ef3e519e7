package resdet

import (
	"slices"
	"sync"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/rpn"
)

// maxShapes bounds how many input shapes have programs at a time: a data set
// of photos, resized to one short side and padded to 32, has about twenty.
const maxShapes = 24

// programs compiles a network for the shapes that come and keeps the
// programs, the least recently used one leaving first.
type programs struct {
	cfg    *Config
	dev    device.Device
	params Params
	asking *sync.Mutex // shared by the users of params
	layers nn.Numerics // that compute below float32
	cache  []*stage1   // most recently used last
}

// stage1 is the first graph compiled for one input shape, and the second for
// its features.
type stage1 struct {
	owner    *programs
	shape    nd.Shape // [N 3 H W]
	program  device.Program
	kept     map[string]device.Buffer // features, by stage 2's input names
	features [][]int
	grids    []rpn.Grid
	heads    []*stage2
}

// stage2 is the second graph compiled for one number of regions.
type stage2 struct {
	program device.Program
	regions int
	rois    int // index of the input
}

// stage1 returns the programs for pixels of the given shape.
func (p *programs) stage1(shape nd.Shape) (*stage1, error) {
	for i, s := range p.cache {
		if s.shape.Equal(shape) {
			p.cache = append(slices.Delete(p.cache, i, i+1), s)
			return s, nil
		}
	}
	if len(p.cache) >= maxShapes {
		p.cache[0].close()
		p.cache = slices.Delete(p.cache, 0, 1)
	}
	s, err := p.compile(shape)
	if err != nil {
		return nil, err
	}
	p.cache = append(p.cache, s)
	return s, nil
}

func (p *programs) compile(shape nd.Shape) (*stage1, error) {
	graph, err := p.cfg.stage1(shape[0], shape[2], shape[3])
	if err != nil {
		return nil, err
	}
	program, err := p.build(graph, nil)
	if err != nil {
		return nil, err
	}
	s := &stage1{owner: p, shape: shape, program: program, kept: map[string]device.Buffer{}}
	strides := p.cfg.Backbone.Strides()
	for i, o := range graph.Outputs {
		at := graph.Nodes[o.Value].Shape
		switch {
		case o.Kept:
			s.kept[o.Name] = program.Output(i)
			s.features = append(s.features, at)
		case i%2 == 0: // logits; deltas follow
			l := len(s.grids)
			s.grids = append(s.grids, p.cfg.RPN.Anchors.Grid(l, at[2], at[3], shape[2], shape[3], strides[l]))
		}
	}
	return s, nil
}

// build compiles a graph as the detector's precision has it.
func (p *programs) build(g *nn.Graph, from map[string]device.Buffer) (device.Program, error) {
	p.asking.Lock()
	defer p.asking.Unlock()
	return p.dev.Compile(g.With(p.layers), p.params, from)
}

// levels appends the RPN's outputs of the last run.
func (s *stage1) levels(dst []rpn.Level) []rpn.Level {
	for i, g := range s.grids {
		dst = append(dst, rpn.Level{Grid: g, Logits: s.program.Output(2 * i).Data(), Deltas: s.program.Output(2*i + 1).Data()})
	}
	return dst
}

// stage2 returns the head compiled for at least the given number of regions.
// Regions are independent of each other, so that a few sizes serve them all:
// the most there can be, and quarters of it.
func (s *stage1) stage2(regions int) (*stage2, error) {
	most := s.shape[0] * s.owner.cfg.RPN.PostNMS
	size := most
	for quarter := 1; quarter < 4; quarter++ {
		if part := (most*quarter + 3) / 4; part >= regions {
			size = part
			break
		}
	}
	for _, h := range s.heads {
		if h.regions == size {
			return h, nil
		}
	}
	graph, err := s.owner.cfg.stage2(s.features, size)
	if err != nil {
		return nil, err
	}
	program, err := s.owner.build(graph, s.kept)
	if err != nil {
		return nil, err
	}
	h := &stage2{program: program, regions: size, rois: len(s.features)}
	s.heads = append(s.heads, h)
	return h, nil
}

func (s *stage1) close() {
	for _, h := range s.heads {
		h.program.Close()
	}
	s.program.Close()
}

func (p *programs) close() {
	for _, s := range p.cache {
		s.close()
	}
	p.cache = nil
}
