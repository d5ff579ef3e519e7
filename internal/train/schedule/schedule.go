// Package schedule gives the learning rate of every step: constant, falling
// in steps or along a cosine, after a linear warm-up.
//
//	step ─ Rate ▶ learning rate:   base · warm-up(step) · decay(step)
package schedule

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// The kinds of decay.
const (
	Constant = "constant"
	Steps    = "steps"
	Cosine   = "cosine"
)

// Config describes a schedule. Steps count from 0; a step is one change of
// the weights.
type Config struct {
	// Kind is "constant", "steps" or "cosine".
	Kind string `json:"kind"`
	// Rate is the learning rate after the warm-up.
	Rate float64 `json:"rate"`
	// Steps is how many there are.
	Steps int `json:"steps"`
	// Decay lists the steps from which on the rate is multiplied by Factor once
	// more; of "steps".
	Decay  []int   `json:"decay"`
	Factor float64 `json:"factor"`
	// Final is what is left of the rate at the end, as a share; of "cosine".
	Final float64 `json:"final"`
	// Warmup says how the rate rises at the beginning.
	Warmup Warmup `json:"warmup"`
}

// Warmup is a linear rise from From·rate at step 0 to the full rate at step
// Steps (torch's LinearLR). No Steps: none.
type Warmup struct {
	Steps int     `json:"steps"`
	From  float64 `json:"from"`
}

// maxSteps bounds a schedule: He et al.'s longest has 490,000.
const maxSteps = 100_000_000

// Validate reports everything that cannot work.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("schedule: "+format, args...)) }
	if !slices.Contains([]string{Constant, Steps, Cosine}, c.Kind) {
		bad("kind %q is none of constant, steps, cosine", c.Kind)
	}
	if !(c.Rate > 0) || math.IsInf(c.Rate, 0) {
		bad("rate %g is not a positive learning rate", c.Rate)
	}
	if c.Steps < 1 || c.Steps > maxSteps {
		bad("steps %d are not in 1…%d", c.Steps, maxSteps)
	}
	for i, d := range c.Decay {
		if d < 1 || d >= c.Steps || i > 0 && d <= c.Decay[i-1] {
			bad("decay %v: the steps must rise between 1 and the last step, %d", c.Decay, c.Steps-1)
			break
		}
	}
	if c.Kind == Steps && !(c.Factor > 0 && c.Factor <= 1) {
		bad("factor %g is not in (0, 1]", c.Factor)
	}
	if !(c.Final >= 0 && c.Final <= 1) {
		bad("final %g is not in [0, 1]", c.Final)
	}
	if c.Warmup.Steps < 0 || c.Warmup.Steps >= c.Steps && c.Warmup.Steps > 0 {
		bad("a warm-up of %d steps does not fit into %d", c.Warmup.Steps, c.Steps)
	}
	if !(c.Warmup.From >= 0 && c.Warmup.From <= 1) {
		bad("warm-up from %g is not in [0, 1]", c.Warmup.From)
	}
	return errors.Join(errs...)
}

// At returns the learning rate of a step.
func (c Config) At(step int) float64 {
	rate := c.Rate
	switch c.Kind {
	case Steps:
		for _, d := range c.Decay {
			if step >= d {
				rate *= c.Factor
			}
		}
	case Cosine:
		// Over what the warm-up leaves, so that both ends are reached.
		span := max(c.Steps-c.Warmup.Steps, 1)
		t := float64(min(max(step-c.Warmup.Steps, 0), span)) / float64(span)
		rate *= c.Final + (1-c.Final)*(1+math.Cos(math.Pi*t))/2
	}
	if w := c.Warmup; step < w.Steps {
		rate *= w.From + (1-w.From)*float64(step)/float64(w.Steps)
	}
	return rate
}
