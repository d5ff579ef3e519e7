package jobs

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fakeTrainer counts to a number of steps, each of which takes a value from
// hold, and keeps the count in the folder of the run.
type fakeTrainer struct {
	steps int
	hold  chan struct{} // nil: steps take no time
	fault error         // of Check
	saw   []string      // files that Check found, by their paths in the data set

	mu     sync.Mutex
	first  []int // the step at which each Train began
	served map[string]string
	check  int
}

func (f *fakeTrainer) Check(ctx context.Context, data string, t Training) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.check++
	f.saw = nil
	err := filepath.WalkDir(data, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(filepath.Dir(data), p)
			f.saw = append(f.saw, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		return err
	}
	return f.fault
}

func (f *fakeTrainer) Train(ctx context.Context, data, run, start string, t Training, tell func(Trained) error) (string, error) {
	if err := os.MkdirAll(run, 0o700); err != nil {
		return "", err
	}
	at := filepath.Join(run, "step")
	text, _ := os.ReadFile(at)
	step, _ := strconv.Atoi(string(text))
	f.mu.Lock()
	f.first = append(f.first, step)
	f.mu.Unlock()
	p := Trained{Steps: f.steps, Left: -1}
	for ; step < f.steps; step++ {
		if f.hold != nil {
			select {
			case <-f.hold:
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		p.Step = step + 1
		p.Losses = append(p.Losses, Loss{Step: step + 1, Total: 1 / float64(step+1)})
		if p.Step%10 == 0 {
			p.Scores = append(p.Scores, Score{Step: step + 1, Value: 0.5})
		}
		if err := os.WriteFile(at, []byte(strconv.Itoa(step+1)), 0o600); err != nil {
			return "", err
		}
		if err := tell(p); err != nil {
			return "", err
		}
	}
	model := filepath.Join(run, "m")
	return model, os.WriteFile(model, []byte(start+" "+filepath.Base(data)), 0o600)
}

func (f *fakeTrainer) Serve(name, file string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.served == nil {
		f.served = map[string]string{}
	}
	f.served[name] = file
	return nil
}

func (f *fakeTrainer) Withdraw(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.served, name)
}

func (f *fakeTrainer) serves(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.served[name] != ""
}

// trainConfig is testConfig with that trainer.
func trainConfig(t testing.TB, f *fakeTrainer) Config {
	c := testConfig(t)
	c.Trainer, c.TrainDir = f, t.TempDir()
	return c
}

// dataset is an archive with a picture and its annotation.
func dataset(t testing.TB) []byte {
	return zipOf(t, member{"JPEGImages/a.jpg", shade(t, 9)}, member{"Annotations/a.xml", []byte("<annotation/>")}, member{"notes.md", []byte("hello")})
}

// inRuns lists what is left of runs.
func inRuns(t testing.TB, c Config) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(c.TrainDir, runsFolder))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return entries
}

// A data set becomes a model, which lives as long as its job; other jobs do
// not wait for it.
func TestTraining(t *testing.T) {
	f := &fakeTrainer{steps: 300, hold: make(chan struct{})}
	c := trainConfig(t, f)
	c.MaxTrained = 2
	q := openQueue(t, c, &fake{})
	j := submit(t, q, Spec{Name: "my cars.zip", Train: &Training{Steps: 3}}, dataset(t))
	if j.Kind != Train || j.Model != "m" || j.Training == nil || j.Training.Model != "my-cars" || j.Name != "my cars.zip" {
		t.Fatalf("%+v %+v", j, j.Training)
	}
	f.hold <- struct{}{}
	f.hold <- struct{}{}
	now := wait(t, q, j.ID, func(j Job) bool { return j.Progress.Done >= 2 })
	if now.Training.Phase != Fitting || now.Progress.Total != 300 || len(now.Training.Losses) != 2 || now.State != Running {
		t.Errorf("%+v %+v", now, now.Training)
	}
	if want := []string{"my-cars/Annotations/a.xml", "my-cars/JPEGImages/a.jpg"}; !slices.Equal(f.saw, want) {
		t.Errorf("the trainer was given %v, want %v", f.saw, want)
	}
	pictures := submit(t, q, Spec{}, zipOf(t, shades(t, 2)...))
	wait(t, q, pictures.ID, is(Done)) // while the training waits

	second := submit(t, q, Spec{Name: "my cars.tar.gz", Train: &Training{}}, dataset(t))
	if second.Training.Model != "my-cars-2" {
		t.Errorf("two models are called %q", second.Training.Model)
	}
	if s := wait(t, q, second.ID, func(Job) bool { return true }); s.State != Queued {
		t.Errorf("two trainings run at a time: %+v", s)
	}
	if _, err := q.Submit(t.Context(), Spec{Train: &Training{}}, bytes.NewReader(dataset(t)), -1); code(err) != NoSpace || !strings.Contains(err.Error(), "2 models") {
		t.Errorf("a third model: %v", err)
	}
	close(f.hold)
	end := wait(t, q, j.ID, finished)
	if end.State != Done || end.Progress.Done != 300 || end.Progress.Fraction != 1 || !f.serves("my-cars") {
		t.Fatalf("%+v %v", end, end.Fault)
	}
	wait(t, q, second.ID, is(Done))
	if n := len(end.Training.Losses); n > maxPoints || n < maxPoints/2 || end.Training.Losses[n-1].Step != 300 || len(end.Training.Scores) != 30 {
		t.Errorf("%d losses, %d scores", n, len(end.Training.Scores))
	}
	if n := len(resultsOf(t, q, j.ID)); n != 330 {
		t.Errorf("the log has %d lines", n)
	}
	if _, _, err := q.AnnotatedFile(j.ID); code(err) != NotReady {
		t.Error(err)
	}
	models, err := TrainedModels(c.TrainDir)
	if text, _ := os.ReadFile(models["my-cars"]); err != nil || len(models) != 2 || string(text) != "m my-cars" {
		t.Errorf("%v %v %s", models, err, text)
	}
	if left := inRuns(t, c); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	// It is not removed for its age or to make room, and stays through a restart.
	q.mu.Lock()
	if q.entries[j.ID].removable() {
		t.Error("the model would be removed with its job")
	}
	q.mu.Unlock()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openQueue(t, c, &fake{})
	if again, err := q.Get(j.ID); err != nil || len(again.Training.Losses) != len(end.Training.Losses) || again.Progress != end.Progress {
		t.Errorf("%+v %v", again, err)
	}
	if _, removed, err := q.Delete(t.Context(), j.ID); err != nil || !removed || f.serves("my-cars") || !f.serves("my-cars-2") {
		t.Errorf("removed %v, %v; served: %v", removed, err, f.served)
	}
	if models, _ := TrainedModels(c.TrainDir); len(models) != 1 {
		t.Errorf("%v", models)
	}
}

// Cut off, gracefully or not, a training goes on where it was.
func TestTrainingGoesOn(t *testing.T) {
	f := &fakeTrainer{steps: 6, hold: make(chan struct{})}
	c := trainConfig(t, f)
	q := openQueue(t, c, &fake{})
	j := submit(t, q, Spec{Train: &Training{Name: "x"}}, dataset(t))
	done := 0
	for _, graceful := range []bool{true, false, false} {
		f.hold <- struct{}{}
		done++
		wait(t, q, j.ID, func(j Job) bool { return j.Progress.Done == done })
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		if !graceful { // as a process leaves it that is killed
			s, err := openStore(c.Dir)
			if err != nil {
				t.Fatal(err)
			}
			records, _ := s.all(func(id string, err error) { t.Error(id, err) })
			records[0].State, records[0].Attempts = Running, records[0].Attempts+1
			if err := s.put(&records[0]); err != nil {
				t.Fatal(err)
			}
			s.close()
			os.MkdirAll(filepath.Join(q.runDir(newID()), "run"), 0o700) // of a job that is not there any more
		}
		q = openQueue(t, c, &fake{})
		if n := len(inRuns(t, c)); n != 1 {
			t.Errorf("there are %d runs", n)
		}
	}
	close(f.hold)
	if end := wait(t, q, j.ID, finished); end.State != Done || end.Progress.Done != 6 {
		t.Fatalf("%+v %v", end, end.Fault)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.first, []int{0, 1, 2, 3}) || f.check != 1 {
		t.Errorf("it began at steps %v, and was checked %d times", f.first, f.check)
	}
}

// A server that does not train keeps what waits for one that does.
func TestTrainingWaits(t *testing.T) {
	f := &fakeTrainer{steps: 1, hold: make(chan struct{})}
	c := trainConfig(t, f)
	q := openQueue(t, c, &fake{})
	j := submit(t, q, Spec{Train: &Training{}}, dataset(t))
	wait(t, q, j.ID, func(j Job) bool { return j.State == Running && j.Training.Phase == Fitting })
	q.Close()
	without := c
	without.Trainer = nil
	q = openQueue(t, without, &fake{})
	if j, err := q.Get(j.ID); err != nil || j.State != Queued {
		t.Errorf("%+v %v", j, err)
	}
	if _, err := q.Submit(t.Context(), Spec{Train: &Training{}}, bytes.NewReader(dataset(t)), -1); code(err) != NoTraining {
		t.Error(err)
	}
	q.Close()
	close(f.hold)
	q = openQueue(t, c, &fake{})
	wait(t, q, j.ID, is(Done))
}

// What a check finds is why the job failed; a cancelled one leaves nothing.
func TestTrainingEnds(t *testing.T) {
	f := &fakeTrainer{steps: 1, fault: faultf(BadInput, "a/x.xml:3: object 0: it is upside down")}
	c := trainConfig(t, f)
	q := openQueue(t, c, &fake{})
	j := wait(t, q, submit(t, q, Spec{Train: &Training{Name: "n"}}, dataset(t)).ID, finished)
	if j.State != Failed || j.Fault.Code != BadInput || !strings.Contains(j.Fault.Message, "object 0") {
		t.Errorf("%+v %v", j, j.Fault)
	}
	f.mu.Lock()
	f.fault, f.hold = nil, make(chan struct{})
	f.mu.Unlock()
	j = submit(t, q, Spec{Train: &Training{Name: "n"}}, dataset(t)) // the name is free again
	wait(t, q, j.ID, func(j Job) bool { return j.State == Running && j.Training.Phase == Fitting })
	if j, removed, err := q.Delete(t.Context(), j.ID); err != nil || removed || j.State != Cancelled {
		t.Errorf("%+v %v %v", j, removed, err)
	}
	if _, removed, err := q.Delete(t.Context(), j.ID); err != nil || !removed { // waits for the run's end
		t.Errorf("%v %v", removed, err)
	}
	if left := inRuns(t, c); len(left) > 0 || f.serves("n") {
		t.Errorf("left behind: %v", left)
	}
}

// What must not be trained on is refused, and nothing is written outside of
// its folder.
func TestTrainingRefuses(t *testing.T) {
	picture := member{"a.jpg", shade(t, 1)}
	note := member{"a.xml", []byte("<annotation/>")}
	link := func() []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&tar.Header{Name: "a.xml", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink})
		w.Close()
		return b.Bytes()
	}
	c := trainConfig(t, &fakeTrainer{steps: 1})
	c.Archive = Limits{Entries: 3, EntryBytes: 4 << 20, TotalBytes: 8 << 20, Ratio: 100}
	c.MaxTrainBytes = 6 << 20
	q := openQueue(t, c, &fake{})
	many := []member{picture, note}
	for i := range 5 {
		many = append(many, member{fmt.Sprint(i, ".txt"), nil})
	}
	noise := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, r := range []struct {
		name string
		spec Spec
		data []byte
		want Code
	}{
		{"steps", Spec{Train: &Training{Steps: -1}}, dataset(t), BadRequest},
		{"rate", Spec{Train: &Training{Rate: 7}}, dataset(t), BadRequest},
		{"name", Spec{Train: &Training{Name: "../x"}}, dataset(t), BadRequest},
		{"name of a model", Spec{Train: &Training{Name: "m"}}, dataset(t), BadRequest},
		{"address", Spec{Train: &Training{}, URL: "https://x.example/a.zip"}, nil, BadRequest},
		{"video", Spec{Train: &Training{}}, y4m(1), Unsupported},
		{"empty", Spec{Train: &Training{}}, nil, BadInput},
		{"no annotations", Spec{Train: &Training{}}, zipOf(t, picture), BadInput},
		{"no pictures", Spec{Train: &Training{}}, zipOf(t, note), BadInput},
		{"traversal", Spec{Train: &Training{}}, zipOf(t, picture, member{"../../a.xml", nil}), BadInput},
		{"absolute", Spec{Train: &Training{}}, tarOf(t, picture, member{"/tmp/a.xml", nil}), BadInput},
		{"link", Spec{Train: &Training{}}, link(), BadInput},
		{"doubled", Spec{Train: &Training{}}, zipOf(t, picture, note, note), BadInput},
		{"many", Spec{Train: &Training{}}, zipOf(t, many...), TooLarge},
		{"long entry", Spec{Train: &Training{}}, tarOf(t, picture, member{"a.xml", make([]byte, 5<<20)}), TooLarge},
		{"bomb", Spec{Train: &Training{}}, gzipOf(tarOf(t, picture, member{"a.xml", make([]byte, 4<<20)})), BadInput},
		{"no room", Spec{Train: &Training{}}, tarOf(t, picture, member{"a.json", append(noise, noise...)}, member{"b.xml", bytes.Repeat(noise, 4)}, member{"c.txt", noise}), NoSpace},
	} {
		t.Run(r.name, func(t *testing.T) {
			body := io.Reader(bytes.NewReader(r.data))
			if r.spec.URL != "" {
				body = nil
			}
			if _, err := q.Submit(t.Context(), r.spec, body, -1); code(err) != r.want {
				t.Errorf("%v, want %s", err, r.want)
			}
		})
	}
	// These are seen when they are unpacked.
	for _, data := range [][]byte{
		zipOf(t, picture, note, member{"a.xml/b.xml", nil}), zipOf(t, picture, member{"a.jpg/b.xml", nil}),
		zipOf(t, picture, member{strings.Repeat("n", 300) + ".xml", nil}),
	} {
		j := wait(t, q, submit(t, q, Spec{Train: &Training{}}, data).ID, finished)
		if j.State != Failed || j.Fault.Code != BadInput {
			t.Errorf("%+v %v", j, j.Fault)
		}
	}
	if left := inRuns(t, c); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if files, _ := filepath.Glob(filepath.Join(filepath.Dir(c.TrainDir), "*.xml")); len(files) > 0 {
		t.Errorf("written outside: %v", files)
	}
}

// A training that outgrows the folder is ended.
func TestTrainingOutgrows(t *testing.T) {
	f := &fakeTrainer{steps: 3, hold: make(chan struct{})}
	c := trainConfig(t, f)
	c.MaxTrainBytes = 1 << 20
	q := openQueue(t, c, &fake{})
	j := submit(t, q, Spec{Train: &Training{}}, dataset(t))
	wait(t, q, j.ID, func(j Job) bool { return j.Training.Phase == Fitting })
	if err := q.bytesToTrain(0); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(q.runDir(j.ID), "run", "checkpoint"), make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := q.bytesToTrain(0); code(err) != NoSpace {
		t.Error(err)
	}
	close(f.hold)
	wait(t, q, j.ID, finished)
}

func TestModelNames(t *testing.T) {
	for text, want := range map[string]string{
		"cars.zip": "cars", "my cars.tar.gz": "my-cars", "a/b": "a-b", "..": "model", "": "model", "räder.tgz": "r-der",
		"-x-": "x", strings.Repeat("a", 200): strings.Repeat("a", maxModelName), "v1.2": "v1.2",
	} {
		if got := modelName(text); got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
	if got := thin([]int{1, 2, 3}); len(got) != 3 {
		t.Errorf("%v", got)
	}
}
