package solver

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// The solvers.
const (
	SGD   = "sgd"
	AdamW = "adamw"
)

// Config says how weights follow from gradients. The zero value is not valid;
// start from [DefaultConfig].
type Config struct {
	// Kind is "sgd" (with momentum) or "adamw".
	Kind string `json:"kind"`
	// Momentum of SGD; 0.9.
	Momentum float64 `json:"momentum"`
	// Decay is the weight decay: of SGD it is added to the gradient, times the
	// weight; AdamW takes rate·decay off the weight itself.
	Decay float64 `json:"decay"`
	// Beta1, Beta2 and Epsilon are AdamW's: 0.9, 0.999, 1e-8.
	Beta1   float64 `json:"beta1"`
	Beta2   float64 `json:"beta2"`
	Epsilon float64 `json:"epsilon"`
	// Clip is the most that the norm of all gradients together may be; they are
	// scaled down to it. 0: no limit.
	Clip float64 `json:"clip"`
	// Groups give some parameters another learning rate or decay. The factors of
	// all groups that match a parameter are multiplied.
	Groups []Group `json:"groups"`
}

// Group is a set of parameters and what is different about them.
type Group struct {
	// Match is a pattern for names of parameters, in which * stands for any
	// number of characters: "*.bias", "backbone.*".
	Match string `json:"match"`
	// Rate and Decay multiply the learning rate and the weight decay; left out,
	// they are 1.
	Rate  *float64 `json:"rate,omitempty"`
	Decay *float64 `json:"decay,omitempty"`
}

// DefaultConfig is SGD as torchvision trains detectors: momentum 0.9, decay
// 1e-4 on everything; and a clip at a norm of 10, which healthy training of a
// detector meets in its first steps only.
func DefaultConfig() Config {
	return Config{Kind: SGD, Momentum: 0.9, Decay: 1e-4, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8, Clip: 10}
}

// Moments is how many numbers the solver keeps of every weight.
func (c Config) Moments() int {
	if c.Kind == AdamW {
		return 2
	}
	return 1
}

// Validate reports everything that cannot work.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("solver: "+format, args...)) }
	if c.Kind != SGD && c.Kind != AdamW {
		bad("kind %q is neither sgd nor adamw", c.Kind)
	}
	for _, f := range []struct {
		name  string
		value float64
	}{{"momentum", c.Momentum}, {"beta1", c.Beta1}, {"beta2", c.Beta2}} {
		if !(f.value >= 0 && f.value < 1) {
			bad("%s %g is not in [0, 1)", f.name, f.value)
		}
	}
	if !(c.Decay >= 0 && c.Decay < 1) {
		bad("decay %g is not in [0, 1)", c.Decay)
	}
	if !(c.Epsilon > 0 && c.Epsilon < 1) {
		bad("epsilon %g is not in (0, 1)", c.Epsilon)
	}
	if !(c.Clip >= 0) || math.IsInf(c.Clip, 0) {
		bad("clip %g is not a norm; 0 means none", c.Clip)
	}
	for _, g := range c.Groups {
		if g.Match == "" {
			bad("a group without match")
		}
		for _, f := range []*float64{g.Rate, g.Decay} {
			if f != nil && !(*f >= 0 && *f <= 1e6) {
				bad("group %q: the factor %g is not in [0, 1e6]", g.Match, *f)
			}
		}
	}
	return errors.Join(errs...)
}

// factors returns what a parameter's learning rate and decay are multiplied
// with.
func (c Config) factors(name string) (rate, decay float64) {
	rate, decay = 1, 1
	for _, g := range c.Groups {
		if !Matches(g.Match, name) {
			continue
		}
		if g.Rate != nil {
			rate *= *g.Rate
		}
		if g.Decay != nil {
			decay *= *g.Decay
		}
	}
	return rate, decay
}

// Matches reports whether a pattern, in which * stands for any number of
// characters, matches the whole name.
func Matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return pattern == name
	}
	if !strings.HasPrefix(name, first) || !strings.HasSuffix(name[len(first):], last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(name, p)
		if i < 0 {
			return false
		}
		name = name[i+len(p):]
	}
	return true
}
