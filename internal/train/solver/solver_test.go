package solver

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// array is a parameter as a graph would hold it.
type array struct {
	name        string
	value, grad *tensor.Dense
}

func newArray(name string, value, grad []float32) *array {
	return &array{name, tensor.New(tensor.WithBacking(value)), tensor.New(tensor.WithBacking(grad))}
}

func (a *array) Name() string                  { return a.name }
func (a *array) Value() gorgonia.Value         { return a.value }
func (a *array) Grad() (gorgonia.Value, error) { return a.grad, nil }
func (a *array) weights() []float32            { return a.value.Float32s() }
func (a *array) gradient() []float32           { return a.grad.Float32s() }

// golden is what scripts/goldens/solver.py writes.
type golden struct {
	Start map[string][]float32
	Grads []map[string][]float32
	Rates []float64
	Runs  map[string][]struct {
		Norm    float64
		Weights map[string][]float32
	}
}

func readGolden(t *testing.T) golden {
	t.Helper()
	text, err := os.ReadFile("testdata/torch.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestTorch(t *testing.T) {
	g := readGolden(t)
	two, zero := 2.0, 0.0
	sgd := Config{Kind: SGD, Momentum: 0.9, Decay: 1e-2, Epsilon: 1e-8}
	grouped := sgd
	grouped.Clip, grouped.Groups = 2, []Group{{Match: "*.bias", Rate: &two, Decay: &zero}}
	for name, cfg := range map[string]Config{
		"sgd":             sgd,
		"sgd_groups_clip": grouped,
		"adamw":           {Kind: AdamW, Decay: 1e-2, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var model []gorgonia.ValueGrad
			for key, start := range g.Start {
				model = append(model, newArray(key, slices.Clone(start), make([]float32, len(start))))
			}
			for i, want := range g.Runs[name] {
				s.Rate = g.Rates[i]
				for _, m := range model {
					copy(m.(*array).gradient(), g.Grads[i][m.(*array).name])
				}
				if err := s.Step(model); err != nil {
					t.Fatal(err)
				}
				if math.Abs(s.Norm()-want.Norm) > 1e-6*want.Norm {
					t.Errorf("step %d: norm %v, torch %v", i, s.Norm(), want.Norm)
				}
				for _, m := range model {
					a := m.(*array)
					for j, w := range want.Weights[a.name] {
						// Float32's precision after six steps; torch fuses some
						// multiplications with additions.
						if math.Abs(float64(a.weights()[j]-w)) > 2e-6*max(1, math.Abs(float64(w))) {
							t.Errorf("step %d: %s[%d] = %v, torch %v", i, a.name, j, a.weights()[j], w)
						}
					}
					if slices.Max(a.gradient()) != 0 || slices.Min(a.gradient()) != 0 {
						t.Errorf("step %d: the gradient of %s is not cleared", i, a.name)
					}
				}
			}
		})
	}
}

// random fills a model of some large and small parameters.
func random(seed uint64) []gorgonia.ValueGrad {
	r := rand.New(rand.NewPCG(seed, 0))
	var model []gorgonia.ValueGrad
	for i, n := range []int{3*piece + 17, 1, 1000, piece} {
		values, grads := make([]float32, n), make([]float32, n)
		for j := range values {
			values[j], grads[j] = float32(r.NormFloat64()), float32(r.NormFloat64())
		}
		model = append(model, newArray(fmt.Sprintf("p%d.weight", i), values, grads))
	}
	return model
}

func fillGradients(model []gorgonia.ValueGrad, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for _, m := range model {
		g := m.(*array).gradient()
		for j := range g {
			g[j] = float32(r.NormFloat64())
		}
	}
}

func sameWeights(t *testing.T, a, b []gorgonia.ValueGrad) {
	t.Helper()
	for i := range a {
		if !slices.Equal(a[i].(*array).weights(), b[i].(*array).weights()) {
			t.Fatalf("%s differs", a[i].(*array).name)
		}
	}
}

func TestCoresDoNotChangeTheResult(t *testing.T) {
	run := func(cores int) []gorgonia.ValueGrad {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		s, err := New(DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		s.Rate = 0.1
		model := random(3)
		for step := range uint64(3) {
			fillGradients(model, step)
			if err := s.Step(model); err != nil {
				t.Fatal(err)
			}
		}
		return model
	}
	sameWeights(t, run(1), run(5))
}

func TestRestore(t *testing.T) {
	for _, kind := range []string{SGD, AdamW} {
		t.Run(kind, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Kind = kind
			through, _ := New(cfg)
			through.Rate = 0.1
			whole := random(7)
			step := func(s *Solver, model []gorgonia.ValueGrad, n uint64) {
				t.Helper()
				fillGradients(model, n)
				if err := s.Step(model); err != nil {
					t.Fatal(err)
				}
			}
			for n := range uint64(4) {
				step(through, whole, n)
			}
			first, _ := New(cfg)
			first.Rate = 0.1
			parts := random(7)
			step(first, parts, 0)
			step(first, parts, 1)
			var state []Array
			for _, a := range first.State() {
				state = append(state, Array{a.Name, slices.Clone(a.Data)})
			}
			second, _ := New(cfg)
			second.Rate = 0.1
			if err := second.Restore(first.Steps(), state); err != nil {
				t.Fatal(err)
			}
			step(second, parts, 2)
			step(second, parts, 3)
			sameWeights(t, whole, parts)
		})
	}
}

func TestRestoreRefusesOtherState(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Kind = AdamW
	s, _ := New(cfg)
	if err := s.Restore(1, []Array{{velocity + "w", []float32{1}}}); err == nil {
		t.Error("SGD's state was taken for AdamW's")
	}
	s, _ = New(DefaultConfig())
	if err := s.Restore(1, []Array{{velocity + "w", []float32{1}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Step([]gorgonia.ValueGrad{newArray("w", []float32{1, 2}, []float32{1, 2})}); err == nil {
		t.Error("a state of another size was used")
	}
}

func TestNonFinite(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1)} {
		s, _ := New(DefaultConfig())
		s.Rate = 0.1
		model := random(1)
		before := slices.Clone(model[2].(*array).weights())
		model[2].(*array).gradient()[5] = float32(v)
		err := s.Step(model)
		var bad *NonFiniteError
		if !errors.As(err, &bad) || bad.Param != "p2.weight" {
			t.Fatalf("error %v, want one that names p2.weight", err)
		}
		if !slices.Equal(before, model[2].(*array).weights()) || s.Steps() != 0 {
			t.Error("weights or state changed")
		}
	}
}

func TestAccumulation(t *testing.T) {
	run := func(batches int, scale float32) []gorgonia.ValueGrad {
		s, _ := New(DefaultConfig())
		s.Rate, s.Batches = 0.1, batches
		model := random(2)
		for _, m := range model {
			for j := range m.(*array).gradient() {
				m.(*array).gradient()[j] *= scale
			}
		}
		if err := s.Step(model); err != nil {
			t.Fatal(err)
		}
		return model
	}
	sameWeights(t, run(1, 1), run(4, 4)) // a power of two: exact
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*.bias", "rpn.head.conv.0.0.bias", true},
		{"*.bias", "rpn.head.bias.weight", false},
		{"backbone.*", "backbone.body.conv1.weight", true},
		{"backbone.*", "rpn.backbone.x", false},
		{"*layer2*.weight", "backbone.body.layer2.0.conv1.weight", true},
		{"ab*ba", "aba", false},
		{"*", "x", true},
		{"x", "x", true},
		{"x", "xy", false},
	} {
		if got := Matches(c.pattern, c.name); got != c.want {
			t.Errorf("Matches(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func TestValidate(t *testing.T) {
	bad := -1.0
	for name, change := range map[string]func(*Config){
		"kind":     func(c *Config) { c.Kind = "rmsprop" },
		"momentum": func(c *Config) { c.Momentum = 1 },
		"decay":    func(c *Config) { c.Decay = math.NaN() },
		"clip":     func(c *Config) { c.Clip = -1 },
		"epsilon":  func(c *Config) { c.Epsilon = 0 },
		"group":    func(c *Config) { c.Groups = []Group{{Match: "*", Rate: &bad}} },
		"match":    func(c *Config) { c.Groups = []Group{{}} },
	} {
		c := DefaultConfig()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkSGD(b *testing.B) {
	n := 25_400_000 // the default model's
	s, _ := New(DefaultConfig())
	s.Rate = 1e-6
	model := []gorgonia.ValueGrad{newArray("w", make([]float32, n), make([]float32, n))}
	b.SetBytes(int64(n) * 4 * 6) // reads weight, gradient twice, velocity; writes three
	for b.Loop() {
		if err := s.Step(model); err != nil {
			b.Fatal(err)
		}
	}
}
