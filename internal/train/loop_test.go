package train

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"resdet/internal/nn"
	"resdet/internal/train/checkpoint"
	"resdet/internal/train/data"
	"resdet/internal/train/step"
)

// final reads what a finished run left: its state without what takes time,
// its arrays, its log without times.
func final(t *testing.T, dir string) (checkpoint.State, []checkpoint.Array, []Record) {
	t.Helper()
	s, arrays, err := checkpoint.Load(filepath.Join(dir, CheckpointFile))
	if err != nil {
		t.Fatal(err)
	}
	s.Seconds, s.Logs = 0, nil
	records, err := ReadMetrics(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		records[i].Seconds, records[i].ImagesPerSecond, records[i].MemoryMB = 0, 0, 0
	}
	return s, arrays, records
}

// equalRuns compares two finished runs to the last bit. Lines of the log are
// means since the last line or since the run was resumed, so only evaluations
// are compared where one was interrupted.
func equalRuns(t *testing.T, a, b string, interrupted bool) {
	t.Helper()
	sa, wa, ra := final(t, a)
	sb, wb, rb := final(t, b)
	if diff := cmp.Diff(sa, sb); diff != "" {
		t.Errorf("states differ:\n%s", diff)
	}
	if diff := cmp.Diff(wa, wb); diff != "" {
		t.Errorf("arrays differ:\n%s", diff)
	}
	if interrupted {
		training := func(r Record) bool { return r.Score == nil }
		ra, rb = slices.DeleteFunc(ra, training), slices.DeleteFunc(rb, training)
	}
	if diff := cmp.Diff(ra, rb); diff != "" {
		t.Errorf("logs differ:\n%s", diff)
	}
}

func TestRunIsRepeatable(t *testing.T) {
	dir := t.TempDir()
	set := photos(t, dir, 7)
	var dirs []string
	for i, workers := range []int{1, 3} {
		r := recipe()
		r.Data.Workers = workers
		out := filepath.Join(dir, fmt.Sprint("run", i))
		if err := os.Mkdir(out, 0o777); err != nil {
			t.Fatal(err)
		}
		run, _ := newRun(t, out, set, r)
		o, err := run.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if o.Steps != 40 || o.Best.Step == 0 || o.Stopped {
			t.Errorf("outcome %+v", o)
		}
		dirs = append(dirs, out)
	}
	equalRuns(t, dirs[0], dirs[1], false)
	_, _, records := final(t, dirs[0])
	if len(records) != 10+5 {
		t.Errorf("%d records, want 10 of training and 5 evaluations", len(records))
	}
	if first, last := records[0].Loss, records[len(records)-2].Loss; !(last < first) {
		t.Errorf("the loss went from %g to %g", first, last)
	}
}

// TestCancelled interrupts a run within a step and goes on.
func TestCancelled(t *testing.T) {
	dir := t.TempDir()
	set := photos(t, dir, 7)
	whole, parts := filepath.Join(dir, "whole"), filepath.Join(dir, "parts")
	for _, d := range []string{whole, parts} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	run, _ := newRun(t, whole, set, recipe())
	if _, err := run.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{1, 2, 15, 30} { // batches of each part
		ctx, cancel := context.WithCancel(context.Background())
		run, net := newRun(t, parts, set, recipe())
		net.spoil = func(n int, _ *step.Losses, _ *fake) {
			if n == at {
				cancel()
			}
		}
		if _, err := run.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v, want that of the context", err)
		}
	}
	run, _ = newRun(t, parts, set, recipe())
	if _, err := run.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	equalRuns(t, whole, parts, true)
}

// TestKilled kills a run ten times, each time some steps further and anywhere
// within a step, an evaluation or a checkpoint; the test's process is the run's
// parent.
func TestKilled(t *testing.T) {
	const name = "RESDET_TEST_KILLED"
	if dir := os.Getenv(name); dir != "" {
		set := photos(t, t.TempDir(), 7)
		run, net := newRun(t, dir, set, recipe())
		net.pause = time.Millisecond
		run.Report = func(p Progress) { fmt.Println("step", p.Step) }
		if _, err := run.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		return
	}
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	// live runs until it has made a number of steps, 0: to the end, and returns
	// the last step that it told of, and whether it was killed.
	live := func(dir string, steps int) (last string, killed bool) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), name+"="+dir)
		var log strings.Builder
		cmd.Stderr = &log
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(&log, lines.Text())
			if !strings.HasPrefix(lines.Text(), "step ") {
				continue
			}
			last = lines.Text()
			if steps--; steps == 0 {
				time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
				killed = cmd.Process.Kill() == nil
			}
		}
		if err := cmd.Wait(); err != nil && !killed {
			t.Fatalf("%v\n%s", err, &log)
		}
		return last, killed
	}
	whole, parts := t.TempDir(), t.TempDir()
	live(whole, 0)
	var after []string
	for len(after) < 10 {
		// Checkpoints are three steps apart: each life adds about three.
		last, killed := live(parts, 1+r.IntN(8))
		if killed {
			after = append(after, last)
		}
		if s, err := checkpoint.LoadState(filepath.Join(parts, CheckpointFile)); err == nil && s.Step == 40 && len(after) < 10 {
			// It was through before ten kills: again from the start.
			if err := os.RemoveAll(parts); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(parts, 0o777); err != nil {
				t.Fatal(err)
			}
		}
	}
	live(parts, 0)
	t.Logf("killed after %v", after)
	equalRuns(t, whole, parts, true)
}

func TestPatience(t *testing.T) {
	dir := t.TempDir()
	r := recipe()
	r.Evaluate.Every, r.Evaluate.Patience = 4, 2
	run, _ := newRun(t, dir, photos(t, t.TempDir(), 4), r)
	scores := []float64{0.1, 0.3, 0.2, math.NaN(), 0.9}
	var best []int
	n := 0
	run.Evaluate = func(context.Context, int) (Score, error) {
		n++
		return Score{Value: scores[n-1]}, nil
	}
	run.Best = func(step int, _ Score) error {
		best = append(best, step)
		return nil
	}
	o, err := run.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !o.Stopped || o.Steps != 16 || o.Best.Step != 8 || o.Best.Score != 0.3 || !slices.Equal(best, []int{4, 8}) {
		t.Errorf("outcome %+v, best at %v", o, best)
	}
}

func TestDiverged(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(n int, l *step.Losses, f *fake)
		term  string
	}{
		"loss": {func(n int, l *step.Losses, _ *fake) {
			if n == 21 {
				l.Box = math.NaN()
			}
		}, "loss_box_reg"},
		"explosion": {func(n int, l *step.Losses, _ *fake) {
			if n == 21 {
				l.Box = 1e6
			}
		}, "the sum of the losses"},
		"gradient": {func(n int, _ *step.Losses, f *fake) {
			if n == 21 {
				f.params[1].grad.Float32s()[0] = float32(math.Inf(1))
			}
		}, "the gradient of a.bias"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			run, net := newRun(t, dir, photos(t, t.TempDir(), 4), recipe())
			net.spoil = c.spoil
			_, err := run.Run(context.Background())
			var d *DivergedError
			if !errors.As(err, &d) {
				t.Fatalf("error %v", err)
			}
			// Batch 21 is the first of step 10; checkpoints are made every third
			// step, and at 8 before the evaluation.
			if d.Step != 10 || d.Term != c.term || d.Saved != 9 || d.Checkpoint == "" || len(d.Images) == 0 || !strings.HasSuffix(d.Images[0], ".png") {
				t.Errorf("%+v: %v", d, d)
			}
		})
	}
}

func TestFirstStepDiverges(t *testing.T) {
	run, net := newRun(t, t.TempDir(), photos(t, t.TempDir(), 4), recipe())
	net.spoil = func(_ int, l *step.Losses, _ *fake) { l.RPNBox = math.Inf(1) }
	_, err := run.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "no checkpoint yet") {
		t.Errorf("error %v", err)
	}
}

func TestSkippedPhotosAreTold(t *testing.T) {
	photoDir := t.TempDir()
	r := recipe()
	r.Data.Corrupt = data.Skip
	run, _ := newRun(t, t.TempDir(), photos(t, photoDir, 5), r)
	if err := os.WriteFile(filepath.Join(photoDir, "2.png"), []byte("no picture"), 0o666); err != nil {
		t.Fatal(err)
	}
	var notes []string
	run.Note = func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if _, err := run.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "2.png") {
		t.Errorf("notes %q, want one about 2.png", notes)
	}
}

// A checkpoint from before there was a precision to choose is one in f32.
func TestRecipeOfAnOldCheckpoint(t *testing.T) {
	text, err := json.Marshal(recipe())
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.Replace(text, []byte(`"precision":"f32",`), nil, 1)
	got, err := recipeOf(checkpoint.State{Recipe: old})
	if err != nil || !bytes.Equal(got, text) || bytes.Equal(old, text) {
		t.Errorf("%v: %s became %s, want %s", err, old, got, text)
	}
}

func TestResumeRefuses(t *testing.T) {
	dir := t.TempDir()
	id := Identity{Recipe: recipe(), Model: map[string]int{"fake": 1}, Data: "photos"}
	if _, _, _, err := Resume(dir, id, machine); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a checkpoint: %v", err)
	}
	run, _ := newRun(t, dir, photos(t, t.TempDir(), 4), recipe())
	if _, err := run.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Identity){
		"schedule.rate": func(i *Identity) { i.Recipe.Schedule.Rate = 0.02 },
		"precision":     func(i *Identity) { i.Recipe.Precision = nn.BF16 },
		"fake":          func(i *Identity) { i.Model = map[string]int{"fake": 2} },
		"data":          func(i *Identity) { i.Data = "others" },
	} {
		other := id
		change(&other)
		if _, _, _, err := Resume(dir, other, machine); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %s", err, want)
		}
	}
	id.Recipe.Data.Workers, id.Recipe.Save = 9, 9
	elsewhere := machine
	elsewhere.Threads = 8
	start, _, changed, err := Resume(dir, id, elsewhere)
	if err != nil || len(changed) != 1 || len(start.State.Machines) != 2 || start.State.Machines[1].FromStep != 40 {
		t.Errorf("on another machine: %v, %v, %+v", err, changed, start.State.Machines)
	}
}

func TestMeasure(t *testing.T) {
	run, net := newRun(t, t.TempDir(), photos(t, t.TempDir(), 4), recipe())
	run.Recipe.Schedule.Rate = 0.001
	before := slices.Clone(net.params[0].value.Float32s())
	e, err := run.Measure(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if e.Steps != 40 || e.Step <= 0 || e.Total < 40*e.Step {
		t.Errorf("%+v", e)
	}
	if !slices.Equal(before, net.params[0].value.Float32s()) || slices.Max(net.params[0].grad.Float32s()) != 0 {
		t.Error("measuring changed weights or left gradients")
	}
	run.Recipe.Schedule.Rate = 0.4
	_, err = run.Measure(context.Background())
	var bad *RateError
	if !errors.As(err, &bad) {
		t.Errorf("a rate of 0.4: %v", err)
	}
}
