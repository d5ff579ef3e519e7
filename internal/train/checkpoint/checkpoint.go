// Package checkpoint stores everything that a training run needs to go on as
// if it had not been interrupted: one safetensors file with the weights and
// the solver's arrays, and in its metadata the rest.
//
//	State, arrays ─ Save ▶ FILE   (a temporary file, synced, then renamed: the old one or the new one, never half)
//	FILE ─ Load ▶ State, arrays
//
// Random numbers need no state: all of them follow from the run's seed and
// the numbers of step, epoch and image, which are in [State].
package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/klauspost/cpuid/v2"

	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/train/data"
	"resdet/internal/weights"
)

// MetadataKey is where the file's metadata keeps the State.
const MetadataKey = "resdet.training"

// version is raised when an older program could not read a newer file.
const version = 1

// State is what a run is besides its arrays.
type State struct {
	Version int `json:"version"`
	// Step is how many steps were made, so the number of the next one.
	Step int `json:"step"`
	// Next is the next batch.
	Next data.Position `json:"next"`
	// SolverSteps is the solver's own count.
	SolverSteps int64 `json:"solver_steps"`
	// Best is the best score on the validation set so far.
	Best Best `json:"best"`
	// Evaluated is the step of the last evaluation; 0: there was none.
	Evaluated int `json:"evaluated"`
	// Logs are the files that grow during a run, by name in the run's folder,
	// with their sizes when the checkpoint was made: what was written later is
	// cut off when a run resumes.
	Logs map[string]int64 `json:"logs"`
	// Seconds is how long the run has taken so far.
	Seconds float64 `json:"seconds"`
	// Seed, and the recipe and the detector's configuration as JSON, are the
	// run's; a run with others is another run. Data identifies what it is
	// trained on.
	Seed   uint64          `json:"seed"`
	Recipe json.RawMessage `json:"recipe"`
	Model  json.RawMessage `json:"model"`
	Data   string          `json:"data"`
	// Machines are those that the run was on, the current one last. Only on one
	// machine are the weights those of an uninterrupted run, bit for bit.
	Machines []Machine `json:"machines"`
}

// Best is a score on the validation set and where it was reached.
type Best struct {
	Score float64 `json:"score"`
	Step  int     `json:"step"` // 0: there is none yet
	// Waited is how many evaluations in a row were not better.
	Waited int `json:"waited"`
}

// Machine is everything that decides how sums are rounded.
type Machine struct {
	Device   string   `json:"device"` // with its library's version
	Threads  int      `json:"threads"`
	CPU      string   `json:"cpu"`      // for people
	Features []string `json:"features"` // instruction sets
	Go       string   `json:"go"`
	Program  string   `json:"program"`
	FromStep int      `json:"from_step"`
}

// ThisMachine describes where the program runs.
func ThisMachine(device string, threads int) Machine {
	m := Machine{Device: device, Threads: threads, CPU: cpuid.CPU.BrandName, Features: cpuid.CPU.FeatureSet(), Go: runtime.Version() + " " + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		m.Program = info.Main.Version
	}
	slices.Sort(m.Features)
	return m
}

// Differences says in words what is not the same, of what can change a run's
// weights; empty if nothing is.
func (m Machine) Differences(other Machine) []string {
	var out []string
	differ := func(what, a, b string) {
		if a != b {
			out = append(out, fmt.Sprintf("%s: %s, now %s", what, a, b))
		}
	}
	differ("device", m.Device, other.Device)
	differ("threads", fmt.Sprint(m.Threads), fmt.Sprint(other.Threads))
	differ("compiler", m.Go, other.Go)
	differ("program", m.Program, other.Program)
	only := func(a, b []string) string {
		rest := slices.DeleteFunc(slices.Clone(a), func(f string) bool { return slices.Contains(b, f) })
		return strings.Join(rest, " ")
	}
	if lost := only(m.Features, other.Features); lost != "" {
		out = append(out, "CPU features that are missing now: "+lost)
	}
	if gained := only(other.Features, m.Features); gained != "" {
		out = append(out, "CPU features that are new: "+gained)
	}
	return out
}

// Array is a named array of a checkpoint.
type Array struct {
	Name  string
	Shape nd.Shape
	Data  []float32
}

// Save writes a checkpoint, or an error and whatever was at path before.
func Save(path string, s State, arrays []Array) error {
	s.Version = version
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	wanted := make([]nn.ParamSpec, len(arrays))
	from := make(byName, len(arrays))
	for i, a := range arrays {
		wanted[i] = nn.ParamSpec{Key: a.Name, Shape: a.Shape}
		from[a.Name] = a.Data
	}
	if err := weights.SaveArrays(path, map[string]string{MetadataKey: string(text)}, wanted, from, weights.F32); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// byName is a weights.Params.
type byName map[string][]float32

func (b byName) Param(key string, _ nd.Shape) ([]float32, error) { return b[key], nil }

// Load reads a checkpoint. Where there is no file the error is an
// os.ErrNotExist.
func Load(path string) (State, []Array, error) {
	var s State
	c, err := weights.Open(path)
	if err != nil {
		return s, nil, fmt.Errorf("checkpoint: %w", err)
	}
	defer c.Close()
	if s, err = state(c); err != nil {
		return s, nil, err
	}
	arrays := make([]Array, len(c.Tensors))
	for i, t := range c.Tensors {
		values, err := c.Read(t.Key)
		if err != nil {
			return s, nil, fmt.Errorf("checkpoint: %w", err)
		}
		arrays[i] = Array{t.Key, t.Shape, values}
	}
	return s, arrays, nil
}

// LoadState reads a checkpoint without its arrays.
func LoadState(path string) (State, error) {
	c, err := weights.Open(path)
	if err != nil {
		return State{}, fmt.Errorf("checkpoint: %w", err)
	}
	defer c.Close()
	return state(c)
}

func state(c *weights.Checkpoint) (State, error) {
	var s State
	text, ok := c.Metadata[MetadataKey]
	if !ok {
		return s, fmt.Errorf("checkpoint: %s: %w", c.Name, ErrNotCheckpoint)
	}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("checkpoint: %s: %w", c.Name, err)
	}
	if s.Version != version {
		return s, fmt.Errorf("checkpoint: %s: written by another version of this program (format %d, this one reads %d)", c.Name, s.Version, version)
	}
	if s.Step < 0 || s.Next.Epoch < 0 || s.Next.Batch < 0 || len(s.Machines) == 0 {
		return s, fmt.Errorf("checkpoint: %s: step %d, epoch %d, batch %d, %d machines make no sense", c.Name, s.Step, s.Next.Epoch, s.Next.Batch, len(s.Machines))
	}
	return s, nil
}

// ErrNotCheckpoint says that a file is no checkpoint of a training run.
var ErrNotCheckpoint = errors.New("not a checkpoint of a training run")

// Exists reports whether there is a file at path.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
