package solver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Array is a named array of a solver's state.
type Array struct {
	Name string
	Data []float32 // the solver's own
}

// Prefixes of the names of the state's arrays; the parameter's name follows.
const (
	velocity = "solver.momentum."
	mean     = "solver.mean."
	square   = "solver.square."
)

// Steps returns how many steps the solver has made; AdamW's depend on it.
func (s *Solver) Steps() int64 { return s.steps }

// State returns the arrays that a later solver needs to go on as this one
// would, sorted by name.
func (s *Solver) State() []Array {
	var out []Array
	for _, name := range slices.Sorted(maps.Keys(s.state)) {
		m := s.state[name]
		if s.cfg.Kind == SGD {
			out = append(out, Array{velocity + name, m.first})
		} else {
			out = append(out, Array{mean + name, m.first}, Array{square + name, m.second})
		}
	}
	return out
}

// Restore puts the solver where another was that had made that many steps and
// whose State it is given. The arrays become the solver's own.
func (s *Solver) Restore(steps int64, state []Array) error {
	clear(s.state)
	for _, a := range state {
		prefixes := []string{velocity}
		if s.cfg.Kind == AdamW {
			prefixes = []string{mean, square}
		}
		i := slices.IndexFunc(prefixes, func(p string) bool { return strings.HasPrefix(a.Name, p) })
		if i < 0 {
			return fmt.Errorf("solver: %s is no state of %s", a.Name, s.cfg.Kind)
		}
		m, err := s.of(a.Name[len(prefixes[i]):], len(a.Data))
		if err != nil {
			return err
		}
		if i == 0 {
			m.first = a.Data
		} else {
			m.second = a.Data
		}
	}
	s.steps = steps
	return nil
}
