package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"resdet/internal/device/plan"
	"resdet/internal/nn"
)

func mustBuild(t *testing.T, model func(b *nn.Builder)) *nn.Graph {
	t.Helper()
	g, err := nn.Build(model)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func newPlan(t *testing.T, model func(b *nn.Builder)) *plan.Plan {
	t.Helper()
	g := mustBuild(t, model)
	p, err := plan.New(g)
	if err != nil {
		t.Fatal(err)
	}
	checkPlan(t, g, p)
	return p
}

// listing is the plan as text: one line a step, values numbered as they are
// made, "sum" before the value that the step accumulates onto.
func listing(p *plan.Plan) []string {
	var lines []string
	for _, s := range p.Steps {
		line := fmt.Sprintf("%d = %s(", s.Out, s.Op)
		for i, v := range s.In {
			if i > 0 {
				line += " "
			}
			line += fmt.Sprint(v)
		}
		line += ")"
		if s.Sum != plan.None {
			line += fmt.Sprintf(" sum %d", s.Sum)
		}
		lines = append(lines, line)
	}
	return lines
}

// checkPlan holds what every plan promises: values are made before they are
// read and once, sums are read for the last time, no work is lost.
func checkPlan(t *testing.T, g *nn.Graph, p *plan.Plan) {
	t.Helper()
	made := map[plan.Value]bool{}
	last := map[plan.Value]int{}
	for _, v := range p.Inputs {
		made[v] = true
		last[v] = len(p.Steps)
	}
	for i, s := range p.Steps {
		for _, v := range s.In {
			if !made[v] {
				t.Errorf("step %d reads value %d before it is made", i, v)
			}
			last[v] = max(last[v], i)
		}
		if s.Sum != plan.None {
			if !made[s.Sum] {
				t.Errorf("step %d adds value %d before it is made", i, s.Sum)
			}
			last[s.Sum] = max(last[s.Sum], i)
		}
		if made[s.Out] {
			t.Errorf("step %d makes value %d again", i, s.Out)
		}
		made[s.Out] = true
		if s.Name == "" || s.Op == "" || s.Kernel == nil {
			t.Errorf("incomplete step %+v", s)
		}
	}
	for _, o := range p.Outputs {
		if !made[o.Value] {
			t.Errorf("output %q is not made", o.Name)
		}
		last[o.Value] = len(p.Steps)
	}
	var flops, want int64
	for i, s := range p.Steps {
		flops += s.FLOPs
		if s.Sum == plan.None {
			continue
		}
		if last[s.Sum] != i {
			t.Errorf("step %d overwrites value %d, which is read later", i, s.Sum)
		}
		for _, v := range s.In {
			if v == s.Sum {
				t.Errorf("step %d overwrites value %d while it reads it", i, v)
			}
		}
		if !p.Values[s.Sum].Shape.Equal(p.Values[s.Out].Shape) {
			t.Errorf("step %d adds %v to %v", i, p.Values[s.Sum].Shape, p.Values[s.Out].Shape)
		}
	}
	for v := range g.Nodes {
		want += g.FLOPs(nn.Value(v))
	}
	if flops != want {
		t.Errorf("the plan counts %d floating-point operations, the graph %d", flops, want)
	}
}

func TestFusions(t *testing.T) {
	image := func(b *nn.Builder) nn.Value { return b.Input("x", 1, 16, 8, 8) }
	conv := func(b *nn.Builder, name string, x nn.Value) nn.Value { return b.Conv(name, x, 16, 3, 1, 1) }
	tests := []struct {
		name  string
		model func(b *nn.Builder)
		want  []string
	}{
		{"conv, norm, relu", func(b *nn.Builder) {
			b.Output("y", b.ReLU(b.Norm("bn", conv(b, "c", image(b)), 1e-5)))
		}, []string{"3 = conv+norm+relu(0)"}},
		{"residual block", func(b *nn.Builder) {
			x := b.ReLU(conv(b, "in", image(b)))
			y := b.ReLU(b.Norm("bn1", conv(b, "c1", x), 1e-5))
			b.Output("y", b.ReLU(b.Add(b.Norm("bn2", conv(b, "c2", y), 1e-5), x)))
		}, []string{"2 = conv+relu(0)", "5 = conv+norm+relu(2)", "9 = conv+norm+add+relu(5) sum 2"}},
		{"projection: the later convolution adds", func(b *nn.Builder) {
			x := image(b)
			y := b.Norm("bn1", conv(b, "c1", x), 1e-5)
			b.Output("y", b.ReLU(b.Add(y, b.Norm("bn2", conv(b, "c2", x), 1e-5))))
		}, []string{"2 = conv+norm(0)", "6 = conv+norm+add+relu(0) sum 2"}},
		{"a sum that is read later is copied", func(b *nn.Builder) {
			x := b.ReLU(conv(b, "in", image(b)))
			y := b.Add(conv(b, "c", x), x)
			b.Output("y", b.Add(conv(b, "d", y), x))
		}, []string{"2 = conv+relu(0)", "7 = copy(2)", "4 = conv+add(2) sum 7", "6 = conv+add(4) sum 2"}},
		{"an input that is added is copied", func(b *nn.Builder) {
			x := image(b)
			b.Output("y", b.Add(conv(b, "c", b.ReLU(x)), x))
		}, []string{"1 = relu(0)", "4 = copy(0)", "3 = conv+add(1) sum 4"}},
		{"an output that is added is copied", func(b *nn.Builder) {
			x := b.ReLU(conv(b, "in", image(b)))
			b.Output("x", x)
			b.Output("y", b.Add(conv(b, "c", b.ReLU(b.Norm("bn", x, 1e-5))), x))
		}, []string{"2 = conv+relu(0)", "4 = norm+relu(2)", "7 = copy(2)", "6 = conv+add(4) sum 7"}},
		{"read twice: not fused", func(b *nn.Builder) {
			x := conv(b, "c", image(b))
			b.Output("raw", x)
			b.Output("y", b.ReLU(x))
		}, []string{"1 = conv(0)", "2 = relu(1)"}},
		{"relu before the sum stays before", func(b *nn.Builder) {
			x := image(b)
			b.Output("y", b.Add(b.ReLU(conv(b, "c", x)), b.ReLU(conv(b, "d", x))))
		}, []string{"2 = conv+relu(0)", "4 = conv+relu(0)", "5 = add(2 4)"}},
		{"second norm is a step of its own", func(b *nn.Builder) {
			b.Output("y", b.ReLU(b.Norm("bn2", b.Norm("bn1", conv(b, "c", image(b)), 1e-5), 1e-5)))
		}, []string{"2 = conv+norm(0)", "4 = norm+relu(2)"}},
		{"flatten is a view", func(b *nn.Builder) {
			b.Output("y", b.ReLU(b.Linear("fc", b.Flatten(image(b)), 5)))
		}, []string{"3 = flatten+linear+relu(0)"}},
		{"flatten that leaves", func(b *nn.Builder) {
			f := b.Flatten(image(b))
			b.Output("rows", f)
			b.Output("y", b.Linear("fc", f, 5))
		}, []string{"1 = flatten(0)", "2 = flatten+linear(0)"}},
		{"input handed out", func(b *nn.Builder) { b.Output("y", image(b)) }, []string{"1 = copy(0)"}},
		{"what no output needs is left out", func(b *nn.Builder) {
			x := image(b)
			b.ReLU(x)
			b.Output("y", b.MaxPool("p", x, nn.MaxPool{Kernel: 2, Stride: 2}))
		}, []string{"1 = maxpool(0)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, listing(newPlan(t, tt.model))); d != "" {
				t.Error(d)
			}
		})
	}
}

// roiHead is RoIAlign from a map of the given size and the first block of
// res5: two 1×1 convolutions of the given stride read the pooled regions.
func roiHead(h, w, regions, stride int, more func(b *nn.Builder, pooled nn.Value)) func(b *nn.Builder) {
	return func(b *nn.Builder) {
		op := nn.RoIAlign{Pyramid: nn.Pyramid{Scales: []float64{1. / 16}}, H: 14, W: 14, Sampling: 2}
		x := b.RoIAlign(op, []nn.Value{b.Input("x", 1, 32, h, w)}, b.Input("rois", regions, 5))
		b.Output("branch", b.ReLU(b.Norm("bn1", b.Conv("conv1", x, 16, 1, stride, 0), 1e-5)))
		b.Output("shortcut", b.Norm("bn2", b.Conv("conv2", x, 64, 1, stride, 0), 1e-5))
		if more != nil {
			more(b, x)
		}
	}
}

// The exact algebra of region heads, where it saves work and only there.
func TestRoIAlignAfterConvolutions(t *testing.T) {
	swapped := []string{"roialign+shift+relu", "roialign+shift"}
	tests := []struct {
		name    string
		model   func(b *nn.Builder)
		rewrite bool
		every   int
	}{
		{"more regions than pixels", roiHead(20, 30, 30, 1, nil), true, 1},
		{"stride 2: every other bin", roiHead(20, 30, 30, 2, nil), true, 2},
		{"three regions of 196 bins, 600 pixels", roiHead(20, 30, 3, 1, nil), false, 0},
		{"at stride 2 only 49 bins are read", roiHead(20, 30, 12, 2, nil), false, 0},
		{"pooled regions leave", roiHead(20, 30, 30, 1, func(b *nn.Builder, x nn.Value) { b.Output("pooled", x) }), false, 0},
		{"a 3×3 convolution reads them too", roiHead(20, 30, 30, 1, func(b *nn.Builder, x nn.Value) { b.Output("z", b.Conv("conv3", x, 8, 3, 1, 1)) }), false, 0},
		{"a padded 1×1 convolution reads them too", roiHead(20, 30, 30, 1, func(b *nn.Builder, x nn.Value) { b.Output("z", b.Conv("conv3", x, 8, 1, 1, 1)) }), false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlan(t, tt.model)
			var ops []string
			for _, s := range p.Steps {
				align, ok := s.Kernel.(plan.RoIAlign)
				if !ok {
					continue
				}
				ops = append(ops, s.Op)
				if tt.rewrite && align.Every != tt.every {
					t.Errorf("every %d, want %d", align.Every, tt.every)
				}
			}
			want := []string{"roialign"}
			if tt.rewrite {
				want = swapped
			}
			if d := cmp.Diff(want, ops); d != "" {
				t.Errorf("%s\n%s", d, strings.Join(listing(p), "\n"))
			}
		})
	}
}

// The shift is added after pooling, for samples outside the map count as zero.
func TestRewriteMovesTheShift(t *testing.T) {
	for _, s := range newPlan(t, roiHead(20, 30, 30, 1, nil)).Steps {
		switch s.Kernel.(type) {
		case plan.Conv:
			if s.Affine.HasShift() || s.ReLU || s.Affine.Norm == nil {
				t.Errorf("%s: shift %v, relu %v, norm %v", s.Name, s.Affine.HasShift(), s.ReLU, s.Affine.Norm)
			}
		case plan.RoIAlign:
			if !s.Affine.HasShift() {
				t.Errorf("%s: no shift", s.Name)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	for name, model := range map[string]func(b *nn.Builder){
		"output": func(b *nn.Builder) { b.Output("y", b.Param("w", 3, 4)) },
		"data":   func(b *nn.Builder) { b.Output("y", b.ReLU(b.Param("w", 1, 2, 3, 4))) },
	} {
		if _, err := plan.New(mustBuild(t, model)); err == nil || !strings.HasPrefix(err.Error(), "plan: ") {
			t.Errorf("%s is a parameter: error %v", name, err)
		}
	}
	// A weight that is computed.
	g := mustBuild(t, func(b *nn.Builder) { b.Output("y", b.Conv("c", b.Input("x", 1, 2, 3, 3), 4, 1, 1, 0)) })
	for i, n := range g.Nodes {
		if p, ok := n.Op.(nn.Param); ok {
			g.Nodes[i].Op = nn.Input{Shape: p.Shape}
		}
	}
	if _, err := plan.New(g); err == nil || !strings.Contains(err.Error(), "c.weight") {
		t.Errorf("a computed weight: error %v does not name it", err)
	}
}
