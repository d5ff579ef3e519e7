// Package plan turns a graph (package nn) into the list of steps that a
// device executes: operations fused, the exact algebra of region heads done,
// in the order of execution. It knows nothing of layouts or memory of a
// particular device; [Pack] places buffers of any size by their lifetimes.
//
//	nn.Graph ─New▶ Plan{Steps, Values} ─device▶ kernels, layouts ─Pack▶ arena
//
// What is fused into one step:
//
//	conv  + norm (into weights and shift) + add + relu
//	linear + relu; flatten before linear is only a view
//	norm, add, relu that have no convolution: one pointwise step
//
// And what is rewritten, exactly up to rounding: RoIAlign is linear and works
// on each channel alone, so 1×1 convolutions that follow it run before it, on
// the feature map, where that is less work; see [New].
package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Value is an index into [Plan.Values].
type Value int

// None stands where a step has no value.
const None Value = -1

// Info describes a value.
type Info struct {
	Name  string
	Shape nd.Shape
}

// Plan is a graph made ready for a device.
type Plan struct {
	Values  []Info
	Steps   []Step   // in the order of execution; every value is written once
	Inputs  []Value  // one for each input of the graph
	Outputs []Output // one for each output of the graph
	Parts   int      // of a run, see nn.Graph.Parts
}

// Output is a value that leaves the plan; see [nn.Output]. It is never an
// input of the plan. Of an output that is an array Value is None: steps add to
// it, see [Step.Into].
type Output struct {
	Name  string
	Value Value
	Kept  bool
}

// Step is one kernel: Out = mask(relu(kernel(In) + shift + Sum)).
type Step struct {
	Name   string // of the last node that it computes
	Op     string // of all nodes: "conv+norm+add+relu"
	Part   int    // of a run
	Kernel Kernel
	In     []Value
	// Numbers says in what a convolution or matrix product computes.
	Numbers nn.Numbers
	// Sum is added by a convolution, or the gradient of its input, before the
	// ReLU. The step is its last reader and Out may lie in the same memory:
	// kernels accumulate in place.
	Sum    Value
	Affine Affine // learned arrays
	// Weight and Bias are inputs in the place of Affine's, which then names
	// neither; None otherwise.
	Weight, Bias Value
	ReLU         bool
	Mask         Value // where this is not positive the result is 0; None without
	Out          Value
	Into         int   // the output that the result is added to, Out is only its name; -1: Out is written
	FLOPs        int64 // as nn.Graph.FLOPs counts for the nodes that it stands for
}

// Reads returns the values that the step reads.
func (s *Step) Reads() []Value {
	reads := slices.Clone(s.In)
	for _, v := range []Value{s.Sum, s.Weight, s.Bias, s.Mask} {
		if v != None {
			reads = append(reads, v)
		}
	}
	return reads
}

// Kernel is what a step computes; the types below are all there are.
type Kernel interface{ kernel() }

type (
	// Conv is [nn.Conv] with Affine's weights.
	Conv struct{ Stride, Pad int }
	// Linear is [nn.Linear]; In[0] may have four dimensions, which are then
	// seen as rows of C·H·W.
	Linear struct{}
	// Pointwise is In[0]·scale + shift + In[1], or times In[1]; scale and shift
	// if Affine has a norm, In[1] if there is one.
	Pointwise struct{ Mul bool }
	// MaxPool, Upsample, RoIPool, Mean and Flatten are those of package nn.
	MaxPool  struct{ nn.MaxPool }
	Upsample struct{ nn.Upsample }
	RoIPool  struct{ nn.RoIPool }
	Mean     struct{}
	Flatten  struct{}
	// RoIAlign pools the bins of an H×W grid whose row and column are multiples
	// of Every, then adds Affine's shift where it has one. In is the levels
	// and the regions.
	RoIAlign struct {
		nn.RoIAlign
		Every int
	}
)

func (Conv) kernel()      {}
func (Linear) kernel()    {}
func (Pointwise) kernel() {}
func (MaxPool) kernel()   {}
func (Upsample) kernel()  {}
func (RoIPool) kernel()   {}
func (Mean) kernel()      {}
func (Flatten) kernel()   {}
func (RoIAlign) kernel()  {}

// New plans g.
//
// RoIAlign followed only by 1×1 convolutions without padding (the first ones
// of res5: the branch's and the shortcut's) is rewritten when the feature
// maps have fewer pixels than the convolutions' results: the convolution runs
// on the maps without its shift, RoIAlign pools the result, at stride 2 only
// every other bin, and adds the shift after, since samples outside the map
// count as zero and must go on doing so.
func New(g *nn.Graph) (*Plan, error) { return NewStep(g, nil) }

// NewStep plans a training step. arrays tells which inputs may stand in the
// place of learned arrays, and which outputs are added to.
func NewStep(g *nn.Graph, arrays map[string]bool) (*Plan, error) {
	parts, err := g.Parts()
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	p := &planner{graph: g, parts: parts, arrays: arrays, value: make([]Value, len(g.Nodes)), made: map[Value]int{}, uses: map[Value]int{}}
	if err := p.translate(); err != nil {
		return nil, err
	}
	p.spreadSums()
	p.foldNorms()
	p.foldNormGradients()
	p.swapRoIAlign()
	p.fuseAdds()
	p.fuseReLUs()
	p.fuseMasks()
	p.viewFlattens()
	p.order()
	p.ownSums()
	return p.finish(), nil
}

// planner holds the plan while passes change it.
type planner struct {
	graph   *nn.Graph
	parts   []int // of nodes
	arrays  map[string]bool
	values  []Info
	value   []Value // of each node; None for parameters and what no output needs
	steps   []*draft
	made    map[Value]int // index in steps of the step that writes a value
	uses    map[Value]int // readers, outputs included
	inputs  []Value
	outputs []Output
}

// draft is a step in the making. A step that was fused into another is dead.
type draft struct {
	Step
	ops  []string
	at   int // node index of the last node; steps run in this order
	dead bool
}

// translate makes one step of every node that an output needs.
func (p *planner) translate() error {
	needed := make([]bool, len(p.graph.Nodes))
	for _, o := range p.graph.Outputs {
		needed[o.Value] = true
	}
	for i := len(p.graph.Nodes) - 1; i >= 0; i-- {
		if needed[i] {
			for _, v := range p.graph.Nodes[i].In {
				needed[v] = true
			}
		}
	}
	for i, n := range p.graph.Nodes {
		p.value[i] = None
		switch n.Op.(type) {
		case nn.Param:
			continue
		case nn.Input:
			p.value[i] = p.newValue(n.Name, n.Shape)
			p.inputs = append(p.inputs, p.value[i])
			continue
		}
		if !needed[i] {
			continue
		}
		s, err := p.step(i)
		if err != nil {
			return fmt.Errorf("plan: %s: %s: %w", n.Name, n.Op, err)
		}
		s.Part = p.parts[i]
		p.value[i] = p.newValue(n.Name, n.Shape)
		s.Out = p.value[i]
		p.add(s)
	}
	for _, o := range p.graph.Outputs {
		v := p.value[o.Value]
		if v == None {
			return fmt.Errorf("plan: output %q is a parameter", o.Name)
		}
		if _, ok := p.made[v]; !ok { // an input handed out: copy it
			n := p.graph.Nodes[o.Value]
			s := newDraft(n.Name, "copy", Pointwise{}, v)
			s.Out, s.at, s.Part = p.newValue(n.Name, n.Shape), len(p.graph.Nodes), p.parts[o.Value]
			v = s.Out
			p.add(s)
		}
		p.outputs = append(p.outputs, Output{o.Name, v, o.Kept})
		p.uses[v]++
	}
	return nil
}

func (p *planner) step(i int) (*draft, error) {
	n := p.graph.Nodes[i]
	s := newDraft(n.Name, n.Op.String(), nil)
	s.at, s.FLOPs, s.Numbers = i, p.graph.FLOPs(nn.Value(i)), p.graph.Numbers(nn.Value(i))
	data := n.In
	switch op := n.Op.(type) {
	case nn.Conv:
		s.Kernel, data = Conv{op.Stride, op.Pad}, n.In[:1]
		if err := p.weights(&s.Step, n.In[1:]); err != nil {
			return nil, err
		}
	case nn.Linear:
		s.Kernel, data = Linear{}, n.In[:1]
		if err := p.weights(&s.Step, n.In[1:]); err != nil {
			return nil, err
		}
	case nn.Norm:
		norm, err := p.norm(op, n.In[1:])
		if err != nil {
			return nil, err
		}
		s.Kernel, data, s.Affine = Pointwise{}, n.In[:1], Affine{Norm: norm}
	case nn.Add, nn.ReLU:
		s.Kernel = Pointwise{}
		_, s.ReLU = op.(nn.ReLU)
	case nn.MaxPool:
		s.Kernel = MaxPool{op}
	case nn.Upsample:
		s.Kernel = Upsample{op}
	case nn.RoIAlign:
		s.Kernel = RoIAlign{op, 1}
	case nn.RoIPool:
		s.Kernel = RoIPool{op}
	case nn.Mean:
		s.Kernel = Mean{}
	case nn.Flatten:
		s.Kernel = Flatten{}
	default:
		var err error
		if data, err = p.gradient(s, n); err != nil {
			return nil, err
		}
	}
	for _, v := range data {
		if p.value[v] == None {
			return nil, fmt.Errorf("operand %s is a parameter", p.graph.Nodes[v].Name)
		}
		s.In = append(s.In, p.value[v])
	}
	return s, nil
}

// newDraft returns a step that has nothing but inputs.
func newDraft(name, op string, kernel Kernel, in ...Value) *draft {
	return &draft{Step: Step{Name: name, Kernel: kernel, In: in, Sum: None, Weight: None, Bias: None, Mask: None, Into: -1}, ops: []string{op}}
}

func (p *planner) newValue(name string, shape nd.Shape) Value {
	p.values = append(p.values, Info{name, shape})
	return Value(len(p.values) - 1)
}

func (p *planner) add(s *draft) {
	p.made[s.Out] = len(p.steps)
	p.steps = append(p.steps, s)
	for _, v := range s.Reads() {
		p.uses[v]++
	}
}

// only returns the step that makes v if v has a single reader.
func (p *planner) only(v Value) *draft {
	i, ok := p.made[v]
	if !ok || p.uses[v] != 1 {
		return nil
	}
	return p.steps[i]
}

// fuse lets first compute what last computes too.
func (p *planner) fuse(first, last *draft) {
	first.ops = append(first.ops, last.ops...)
	first.Name, first.Out, first.at, first.Part = last.Name, last.Out, last.at, last.Part
	last.dead = true
	p.made[first.Out] = slices.Index(p.steps, first)
}

// is reports whether the step stands for one node, of the operation.
func (s *draft) is(op string) bool { return len(s.ops) == 1 && s.ops[0] == op }

func (p *planner) foldNorms() {
	for _, s := range p.steps {
		if s.Affine.Norm == nil || s.Affine.NoShift {
			continue
		}
		conv := p.only(s.In[0])
		if conv == nil || conv.Bias != None {
			continue
		}
		if _, ok := conv.Kernel.(Conv); ok && conv.Affine.Norm == nil {
			conv.Affine.Norm = s.Affine.Norm
			p.fuse(conv, s)
		}
	}
}

func (p *planner) swapRoIAlign() {
	for _, pool := range slices.Clone(p.steps) {
		align, ok := pool.Kernel.(RoIAlign)
		if !ok {
			continue
		}
		pixels := 0
		for _, level := range pool.In[:len(pool.In)-1] {
			s := p.values[level].Shape
			pixels += s[0] * s[2] * s[3]
		}
		convs := p.pointConvs(pool.Out)
		if convs == nil || slices.ContainsFunc(convs, func(c *draft) bool {
			s := p.values[c.Out].Shape
			return s[0]*s[2]*s[3] <= pixels
		}) {
			continue
		}
		pool.dead = true
		for _, v := range pool.In {
			p.uses[v]--
		}
		for _, conv := range convs {
			p.swap(pool, align, conv)
		}
	}
}

// pointConvs returns the readers of v if they are all 1×1 convolutions
// without padding, else nil.
func (p *planner) pointConvs(v Value) []*draft {
	var convs []*draft
	for _, s := range p.steps {
		if s.dead || !slices.Contains(s.In, v) {
			continue
		}
		conv, ok := s.Kernel.(Conv)
		if !ok || s.Weight != None || conv.Pad != 0 || s.Affine.Shape[2] != 1 || s.Affine.Shape[3] != 1 {
			return nil
		}
		convs = append(convs, s)
	}
	if len(convs) != p.uses[v] { // an output reads it too
		return nil
	}
	return convs
}

// swap puts conv before pool.
func (p *planner) swap(pool *draft, align RoIAlign, conv *draft) {
	align.Every = conv.Kernel.(Conv).Stride
	linear := conv.Affine
	linear.NoShift = true
	levels, rois := pool.In[:len(pool.In)-1], pool.In[len(pool.In)-1]
	pooled := newDraft(conv.Name, "roialign", align)
	pooled.Out, pooled.at, pooled.Part = conv.Out, conv.at, conv.Part
	if conv.Affine.HasShift() {
		pooled.Affine = conv.Affine
		pooled.Affine.ShiftOnly = true
		pooled.ops = append(pooled.ops, "shift")
	}
	for i, level := range levels {
		in := p.values[level].Shape
		s := newDraft(conv.Name, "", Conv{Stride: 1}, level)
		s.ops, s.at, s.Part, s.Affine, s.Numbers = conv.ops, conv.at, conv.Part, linear, conv.Numbers
		s.Out = p.newValue(conv.Name, nd.Shape{in[0], conv.Affine.Shape[0], in[2], in[3]})
		if i == 0 {
			s.FLOPs = conv.FLOPs
		}
		p.add(s)
		pooled.In = append(pooled.In, s.Out)
	}
	pooled.In = append(pooled.In, rois)
	conv.dead = true
	p.add(pooled)
}

func (p *planner) fuseAdds() {
	for _, s := range p.steps {
		if s.dead || !s.is("add") || s.Into >= 0 || s.In[0] == s.In[1] {
			continue
		}
		// The convolution that runs last takes the other operand as its sum, so
		// that both are there.
		var conv *draft
		var sum Value
		for i, v := range s.In {
			c := p.only(v)
			if c == nil {
				continue
			}
			switch c.Kernel.(type) {
			case Conv, ConvInput:
				if c.Sum == None && !c.ReLU && c.Mask == None && !c.Affine.NoShift && (conv == nil || c.at > conv.at) {
					conv, sum = c, s.In[1-i]
				}
			}
		}
		if conv != nil {
			conv.Sum = sum
			p.fuse(conv, s)
		}
	}
}

func (p *planner) fuseReLUs() {
	for _, s := range p.steps {
		if s.dead || !s.is("relu") {
			continue
		}
		x := p.only(s.In[0])
		if x == nil {
			continue
		}
		switch x.Kernel.(type) {
		case Conv, Linear, Pointwise, RoIAlign:
			if x.Affine.NoShift {
				continue
			}
			x.ReLU = true
			p.fuse(x, s)
		}
	}
}

// viewFlattens lets linear steps read the four-dimensional value.
func (p *planner) viewFlattens() {
	for _, s := range p.steps {
		if _, ok := s.Kernel.(Linear); !ok || s.dead || s.Weight != None {
			continue
		}
		i, ok := p.made[s.In[0]]
		if !ok {
			continue
		}
		flat := p.steps[i]
		if _, ok := flat.Kernel.(Flatten); !ok {
			continue
		}
		p.uses[s.In[0]]--
		s.In[0] = flat.In[0]
		p.uses[s.In[0]]++
		s.ops = append(slices.Clone(flat.ops), s.ops...)
		if p.uses[flat.Out] == 0 {
			flat.dead = true
			p.uses[flat.In[0]]--
		}
	}
}

func (p *planner) order() {
	p.steps = slices.DeleteFunc(p.steps, func(s *draft) bool { return s.dead })
	slices.SortStableFunc(p.steps, func(a, b *draft) int { return cmp.Or(a.Part-b.Part, a.at-b.at) })
}

// ownSums gives every step with a sum a value that it may overwrite: the
// operand itself where nobody reads it later, else a copy.
func (p *planner) ownSums() {
	last := map[Value]int{}
	for i, s := range p.steps {
		for _, v := range s.Reads() {
			last[v] = i
		}
	}
	for _, v := range p.inputs {
		last[v] = len(p.steps)
	}
	for _, o := range p.outputs {
		last[o.Value] = len(p.steps) // of None too, which nobody reads
	}
	var steps []*draft
	for i, s := range p.steps {
		if s.Sum != None && (last[s.Sum] != i || slices.Contains(s.In, s.Sum) || s.Mask == s.Sum) {
			c := newDraft(s.Name, "copy", Pointwise{}, s.Sum)
			c.Out, c.Part = p.newValue(s.Name, p.values[s.Sum].Shape), s.Part
			s.Sum = c.Out
			steps = append(steps, c)
		}
		steps = append(steps, s)
	}
	p.steps = steps
}

func (p *planner) finish() *Plan {
	out := &Plan{Values: p.values, Inputs: p.inputs, Outputs: p.outputs, Parts: 1}
	for _, v := range p.graph.Inputs {
		out.Parts = max(out.Parts, p.parts[v]+1)
	}
	for _, s := range p.steps {
		s.Op = strings.Join(s.ops, "+")
		out.Steps = append(out.Steps, s.Step)
	}
	return out
}
