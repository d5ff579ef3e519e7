package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/train/data"
	"resdet/internal/weights"
)

func example() (State, []Array) {
	s := State{
		Version: version, Step: 17, Next: data.Position{Epoch: 2, Batch: 5}, SolverSteps: 17, Best: Best{Score: 0.25, Step: 10, Waited: 1},
		Logs: map[string]int64{"metrics.jsonl": 1234}, Seconds: 3.5, Seed: 1<<63 + 7,
		Recipe: []byte(`{"a":1}`), Model: []byte(`{}`), Data: "abc", Machines: []Machine{ThisMachine("ref", 2)},
	}
	return s, []Array{
		{"w", nd.Shape{2, 3}, []float32{1, -2.5, 3e-40, 4, 5, 6}},
		{"solver.momentum.w", nd.Shape{6}, []float32{0, 1, 2, 3, 4, 5}},
		{"empty", nd.Shape{0}, []float32{}},
	}
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
	want, arrays := example()
	if err := Save(path, want, arrays); err != nil {
		t.Fatal(err)
	}
	got, read, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(arrays, read); diff != "" {
		t.Error(diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	model := filepath.Join(dir, "model.safetensors")
	if err := weights.Save(model, []byte("{}"), []nn.ParamSpec{{Key: "w", Shape: nd.Shape{1}}}, byName{"w": {1}}, weights.F32); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(model); !errors.Is(err, ErrNotCheckpoint) {
		t.Errorf("a model: %v", err)
	}
	for name, text := range map[string]string{
		"no JSON": "{", "version": `{"version":99,"machines":[{}]}`, "step": `{"version":1,"step":-1,"machines":[{}]}`, "no machine": `{"version":1}`,
	} {
		path := filepath.Join(dir, "bad.safetensors")
		if err := weights.SaveArrays(path, map[string]string{MetadataKey: text}, nil, byName{}, weights.F32); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDifferences(t *testing.T) {
	a := Machine{Device: "cpu", Threads: 2, Features: []string{"AVX2", "AVX512F"}}
	if d := a.Differences(a); len(d) != 0 {
		t.Errorf("the same machine differs: %v", d)
	}
	b := Machine{Device: "cpu", Threads: 4, Features: []string{"AVX2", "AMXBF16"}, FromStep: 7, CPU: "another name"}
	want := []string{"threads: 2, now 4", "CPU features that are missing now: AVX512F", "CPU features that are new: AMXBF16"}
	if diff := cmp.Diff(want, a.Differences(b)); diff != "" {
		t.Error(diff)
	}
}
