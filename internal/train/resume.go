package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/train/checkpoint"
	"resdet/internal/train/solver"
)

// Start is where a run begins.
type Start struct {
	State  checkpoint.State
	solver []solver.Array
}

// Identity is what makes a run the run that it is. How often it saves and logs
// is not.
type Identity struct {
	Recipe Recipe
	Model  any    // the detector's configuration, written as JSON
	Data   string // identifies the images and objects
}

// Begin returns the start of a new run.
func Begin(id Identity, m checkpoint.Machine) (Start, error) {
	s := checkpoint.State{Seed: id.Recipe.Seed, Data: id.Data, Machines: []checkpoint.Machine{m}}
	r := id.Recipe
	r.Data.Workers, r.Save, r.Log, r.Output = 0, 0, 0, "" // these may change between a run's parts
	var err error
	if s.Recipe, err = json.Marshal(r); err == nil {
		s.Model, err = json.Marshal(id.Model)
	}
	if err != nil {
		return Start{}, fmt.Errorf("train: %w", err)
	}
	return Start{State: s}, nil
}

// Resume returns where the run of a folder stopped, and its parameters. A run
// with another recipe, model or data is an error. changed says how this
// machine differs from the one that the run was on last: where it does, the
// weights will not be those of an uninterrupted run to the last bit.
func Resume(dir string, id Identity, m checkpoint.Machine) (start Start, params device.Params, changed []string, err error) {
	path := filepath.Join(dir, CheckpointFile)
	s, arrays, err := checkpoint.Load(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("train: %s holds no run to resume: %w", dir, err)
		}
		return start, nil, nil, err
	}
	want, err := Begin(id, m)
	if err != nil {
		return start, nil, nil, err
	}
	recipe, err := recipeOf(s)
	if err != nil {
		return start, nil, nil, fmt.Errorf("train: %s: %w", path, err)
	}
	for _, p := range []struct {
		what     string
		had, now []byte
	}{{"recipe", recipe, want.State.Recipe}, {"model", s.Model, want.State.Model}} {
		if where := firstDifference(p.had, p.now); where != "" {
			return start, nil, nil, fmt.Errorf("train: %s was started with another %s: %s", path, p.what, where)
		}
	}
	if s.Data != want.State.Data {
		return start, nil, nil, fmt.Errorf("train: %s was started on other data: images or objects have changed", path)
	}
	last := s.Machines[len(s.Machines)-1]
	if changed = last.Differences(m); len(changed) > 0 {
		m.FromStep = s.Step
		s.Machines = append(s.Machines, m)
	}
	start.State = s
	model := device.MapParams{}
	for _, a := range arrays {
		if key, ok := strings.CutPrefix(a.Name, modelPrefix); ok {
			model[key] = nd.Of(a.Data, a.Shape...)
		} else {
			start.solver = append(start.solver, solver.Array{Name: a.Name, Data: a.Data})
		}
	}
	return start, model, changed, nil
}

// recipeOf returns a checkpoint's recipe with what those do not name that are from
// before there was a choice.
func recipeOf(s checkpoint.State) ([]byte, error) {
	r := Recipe{Precision: nn.F32}
	if err := json.Unmarshal(s.Recipe, &r); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// firstDifference says where two JSON texts of one type differ; "" if they do
// not.
func firstDifference(had, now []byte) string {
	if bytes.Equal(had, now) {
		return ""
	}
	var a, b any
	if json.Unmarshal(had, &a) != nil || json.Unmarshal(now, &b) != nil {
		return "it cannot be read"
	}
	return different(a, b, "")
}

// different compares what encoding/json makes of texts.
func different(a, b any, where string) string {
	x, okX := a.(map[string]any)
	y, okY := b.(map[string]any)
	if !okX || !okY {
		if reflect.DeepEqual(a, b) {
			return ""
		}
		had, _ := json.Marshal(a) // they come from JSON
		now, _ := json.Marshal(b)
		return fmt.Sprintf("%s was %.100s, is %.100s", where, had, now)
	}
	keys := slices.Sorted(maps.Keys(x))
	for key := range y {
		if _, ok := x[key]; !ok {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		if d := different(x[key], y[key], join(where, key)); d != "" {
			return d
		}
	}
	return ""
}
