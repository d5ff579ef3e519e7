package schedule

import (
	"encoding/json"
	"math"
	"os"
	"testing"
)

// TestTorch compares with torch's schedulers: scripts/goldens/solver.py.
func TestTorch(t *testing.T) {
	text, err := os.ReadFile("../solver/testdata/torch.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct{ Schedules map[string][]float64 }
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{
		"steps":  {Kind: Steps, Rate: 0.02, Steps: 12, Decay: []int{5, 8}, Factor: 0.1},
		"warmup": {Kind: Constant, Rate: 0.02, Steps: 12, Warmup: Warmup{Steps: 4, From: 0.005}},
		"cosine": {Kind: Cosine, Rate: 0.02, Steps: 12, Final: 0.1},
	} {
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		if len(golden.Schedules[name]) != c.Steps {
			t.Fatalf("%s: %d rates", name, len(golden.Schedules[name]))
		}
		for step, want := range golden.Schedules[name] {
			if got := c.At(step); math.Abs(got-want) > 1e-12 {
				t.Errorf("%s: step %d: %v, torch %v", name, step, got, want)
			}
		}
	}
}

func TestWarmupThenCosine(t *testing.T) {
	c := Config{Kind: Cosine, Rate: 1, Steps: 10, Warmup: Warmup{Steps: 4}}
	if c.At(0) != 0 || c.At(2) != 0.5 || c.At(4) != 1 || math.Abs(c.At(7)-0.5) > 1e-12 || c.At(10) > 1e-12 {
		t.Errorf("rates %v %v %v %v %v", c.At(0), c.At(2), c.At(4), c.At(7), c.At(10))
	}
}

func TestValidate(t *testing.T) {
	good := Config{Kind: Steps, Rate: 0.01, Steps: 100, Decay: []int{60, 80}, Factor: 0.1, Warmup: Warmup{Steps: 10}}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"kind":           func(c *Config) { c.Kind = "exponential" },
		"rate":           func(c *Config) { c.Rate = math.NaN() },
		"no steps":       func(c *Config) { c.Steps = 0 },
		"decay order":    func(c *Config) { c.Decay = []int{80, 60} },
		"decay too late": func(c *Config) { c.Decay = []int{100} },
		"factor":         func(c *Config) { c.Factor = 2 },
		"final":          func(c *Config) { c.Final = -1 },
		"long warm-up":   func(c *Config) { c.Warmup.Steps = 100 },
		"warm-up from":   func(c *Config) { c.Warmup.From = 2 },
	} {
		c := good
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
