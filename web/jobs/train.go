package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Trainer makes models of data sets, for jobs of kind [Train]. Its methods are
// called from several goroutines, Train from one at a time.
type Trainer interface {
	// Check looks for what ruins training in the data set in a folder. The error
	// is a [Fault] that names file and object.
	Check(ctx context.Context, data string, t Training) error
	// Train trains on the data set in a folder, beginning with the model called
	// start, and keeps what it needs in the folder run: if it finds a run there
	// that was cut off, it goes on with that one, and ends with the same model.
	// It returns the model's file, in run. It calls tell now and then, and ends
	// with its error if there is one.
	Train(ctx context.Context, data, run, start string, t Training, tell func(Trained) error) (model string, err error)
	// Serve serves the model in a file by that name from now on, Withdraw not any
	// more.
	Serve(name, file string) error
	Withdraw(name string)
}

// Training is what a job of kind [Train] asks for, beside the model to start
// from.
type Training struct {
	// Name is how the new model is called: letters, digits, dots, dashes and
	// underscores. Empty: by the name of the upload.
	Name string `json:"name"`
	// Steps is how often the weights are changed; 0: as the data ask for.
	Steps int `json:"steps,omitempty"`
	// Rate is the learning rate; 0: the recipe's.
	Rate float64 `json:"rate,omitempty"`
	// Seed decides everything random; 0 means 1.
	Seed uint64 `json:"seed,omitempty"`
	// Lenient trains in spite of findings of the check, as long as the photos can
	// be read.
	Lenient bool `json:"lenient,omitempty"`
}

// maxSteps is beyond what anybody waits for.
const maxSteps = 1_000_000

func (t *Training) validate() error {
	t.Seed = max(t.Seed, 1)
	switch {
	case t.Name != "" && modelName(t.Name) != t.Name:
		return faultf(BadRequest, "the name %q: a model's is made of letters, digits, dots, dashes and underscores, of %d at most", t.Name, maxModelName)
	case t.Steps < 0 || t.Steps > maxSteps:
		return faultf(BadRequest, "steps %d: they must be 1 to %d", t.Steps, maxSteps)
	case !(t.Rate >= 0 && t.Rate <= 1):
		return faultf(BadRequest, "rate %g: it must be within 0 and 1", t.Rate)
	}
	return nil
}

// Phase is what a training is doing.
type Phase string

// The phases of a job of kind [Train], in their order.
const (
	Unpacking Phase = "unpacking"
	Checking  Phase = "checking"
	Fitting   Phase = "training"
)

// Trained says how far a training is.
type Trained struct {
	Step, Steps int // Steps 0: not known yet
	// Left is the time to the end; negative: unknown.
	Left time.Duration
	Curves
}

// Curves are a training's losses and its scores on the validation set so far,
// in order of steps.
type Curves struct {
	Losses []Loss  `json:"losses"`
	Scores []Score `json:"scores"`
}

// Loss is the mean over the steps since the last one: the sum, and its parts.
type Loss struct {
	Step       int     `json:"step"`
	Total      float64 `json:"total"`
	Classifier float64 `json:"classifier"`
	Box        float64 `json:"box"`
	Objectness float64 `json:"objectness"`
	RPNBox     float64 `json:"rpn_box"`
}

// Score is the mAP on the validation set after a step.
type Score struct {
	Step  int     `json:"step"`
	Value float64 `json:"value"`
}

// maxPoints bounds what every event and every record of a training carries: a
// curve on a page is some hundred pixels wide.
const maxPoints = 120

// thinned leaves out all but every n-th point of long curves, never the last.
func (c Curves) thinned() Curves { return Curves{thin(c.Losses), thin(c.Scores)} }

func thin[P any](points []P) []P {
	every := (len(points) + maxPoints - 1) / maxPoints
	if every <= 1 {
		return slices.Clone(points)
	}
	var kept []P
	for i := len(points) - 1; i >= 0; i -= every {
		kept = append(kept, points[i])
	}
	slices.Reverse(kept)
	return kept
}

// Names in the folder for training.
const (
	runsFolder   = "runs"   // of what is in work, by jobs' ids
	modelsFolder = "models" // of what came of it, by models' names
	modelExt     = ".safetensors"
)

// TrainedModels lists the models in a folder for training: their files by
// their names.
func TrainedModels(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, modelsFolder))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, e := range entries {
		if name := e.Name(); path.Ext(name) == modelExt && e.Type().IsRegular() {
			files[name[:len(name)-len(modelExt)]] = filepath.Join(dir, modelsFolder, name)
		}
	}
	return files, nil
}

func (q *Queue) runDir(id string) string { return filepath.Join(q.cfg.TrainDir, runsFolder, id) }

func (q *Queue) modelFile(name string) string {
	return filepath.Join(q.cfg.TrainDir, modelsFolder, name+modelExt)
}

// trains reports whether the queue takes jobs of kind [Train].
func (q *Queue) trains() bool { return q.cfg.Trainer != nil }

// roomToTrain says why no more may be trained: so many models, or so many
// bytes, are in the folder already. The caller holds the lock.
func (q *Queue) roomToTrain(models int) error {
	files, err := TrainedModels(q.cfg.TrainDir)
	if err != nil {
		return diskOr(err)
	}
	for _, e := range q.entries {
		if e.Kind == Train && !e.State.Finished() {
			models++
		}
	}
	if n := models + len(files); n > q.cfg.MaxTrained {
		return faultf(NoSpace, "%d models are trained or in training, as many as there may be: remove the job of one", n-1)
	}
	return nil
}

// bytesToTrain says why n more bytes do not fit into the folder for training.
func (q *Queue) bytesToTrain(n int64) error {
	if used := folderBytes(q.cfg.TrainDir); used+n > q.cfg.MaxTrainBytes {
		return faultf(NoSpace, "it does not fit: trainings and their models take %d of the %d MiB that they may have, and this would take %d", used>>20, q.cfg.MaxTrainBytes>>20, n>>20)
	}
	return nil
}

// taken reports whether a model's name is that of another one that is served,
// trained or in training. The caller holds the lock.
func (q *Queue) taken(name string) bool {
	if _, _, err := q.detector.Check(name, Settings{}); err == nil {
		return true
	}
	if _, err := os.Lstat(q.modelFile(name)); err == nil {
		return true
	}
	for _, e := range q.entries {
		if e.Kind == Train && !e.State.Finished() && e.Spec.Train.Name == name {
			return true
		}
	}
	return false
}

// nameModel gives a training's model a name of its own: the one that was asked
// for, or the upload's with a number behind it if need be. The caller holds the
// lock.
func (q *Queue) nameModel(s *Spec) error {
	if name := s.Train.Name; name != "" {
		if q.taken(name) {
			return faultf(BadRequest, "there is a model %q already: choose another name", name)
		}
		return nil
	}
	base := modelName(s.Name)
	s.Train.Name = base
	for n := 2; q.taken(s.Train.Name); n++ {
		s.Train.Name = base + "-" + strconv.Itoa(n)
	}
	return nil
}

// acceptTraining is what [Queue.Submit] asks before an upload comes.
func (q *Queue) acceptTraining(s Spec) error {
	switch {
	case !q.trains():
		return faultf(NoTraining, "this server does not train (--train-dir)")
	case s.URL != "":
		return faultf(BadRequest, "a data set is uploaded, not fetched")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.roomToTrain(1); err != nil {
		return err
	}
	t := *s.Train // nothing is decided yet
	s.Train = &t
	return q.nameModel(&s)
}

// inspectData looks whether an archive can be one with a data set.
func (q *Queue) inspectData(a *archive) error {
	if !slices.ContainsFunc(a.files, func(name string) bool {
		return slices.Contains([]string{".xml", ".json", ".yaml", ".yml"}, path.Ext(name))
	}) {
		return faultf(BadInput, "there are pictures in the archive, but no annotations: VOC's .xml, COCO's .json, or YOLO's data.yaml")
	}
	return q.bytesToTrain(a.bytes)
}

// train makes a model of the data set in an archive.
func (r *run) train(ctx context.Context, input string, f format) (outcome, error) {
	if !r.q.trains() {
		return outcome{}, faultf(NoTraining, "this server does not train (--train-dir)")
	}
	t, start := *r.spec.Train, time.Now()
	dir := r.q.runDir(r.job.ID)
	// Named like the model: its report and its provenance tell of it so.
	data, work := filepath.Join(dir, "data", t.Name), filepath.Join(dir, "run")
	r.phase(Unpacking)
	if err := r.unpack(ctx, input, f, data); err != nil {
		return outcome{}, err
	}
	if _, err := os.Stat(work); err != nil { // else it was checked before it began
		r.phase(Checking)
		if err := r.q.cfg.Trainer.Check(ctx, data, t); err != nil {
			return outcome{}, err
		}
	}
	r.phase(Fitting)
	var last Trained
	looked := time.Now()
	model, err := r.q.cfg.Trainer.Train(ctx, data, work, r.spec.Model, t, func(p Trained) error {
		last = p
		r.tellTraining(p)
		if time.Since(looked) < sizeEvery {
			return nil
		}
		looked = time.Now()
		return r.q.bytesToTrain(0)
	})
	if err != nil {
		return outcome{}, err
	}
	if err := r.keepLog(last.Curves); err != nil {
		return outcome{}, err
	}
	if err := r.keepModel(model, t.Name); err != nil {
		return outcome{}, err
	}
	r.q.cfg.Log.Info("model trained", "job", r.job.ID, "model", t.Name, "start", r.spec.Model, "steps", last.Step, "seconds", time.Since(start).Seconds())
	curves := last.Curves.thinned()
	return outcome{progress: Progress{Done: last.Step, Total: max(last.Step, last.Steps), Fraction: 1}, curves: &curves}, nil
}

// sizeEvery is how often the folder for training is measured.
const sizeEvery = 10 * time.Second

// unpack writes the data set to a folder, which an attempt before this one may
// have left half full.
func (r *run) unpack(ctx context.Context, input string, f format, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return diskOr(err)
	}
	a, file, err := openArchive(ctx, input, f, r.q.cfg.dataLimits(), isDataFile)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := r.q.bytesToTrain(a.bytes); err != nil {
		return err
	}
	return a.extract(ctx, dir)
}

// keepLog writes the whole curves as the job's results, a line of JSON for each
// point.
func (r *run) keepLog(c Curves) error {
	w, err := r.newResultFile()
	if err != nil {
		return err
	}
	defer w.abandon()
	lines := json.NewEncoder(w)
	scores := c.Scores
	for _, l := range c.Losses {
		for len(scores) > 0 && scores[0].Step < l.Step {
			if err := lines.Encode(map[string]any{"step": scores[0].Step, "score": scores[0].Value}); err != nil {
				return faultOf(err)
			}
			scores = scores[1:]
		}
		if err := lines.Encode(map[string]any{"step": l.Step, "losses": map[string]float64{
			"total": l.Total, "classifier": l.Classifier, "box": l.Box, "objectness": l.Objectness, "rpn_box": l.RPNBox,
		}}); err != nil {
			return faultOf(err)
		}
	}
	for _, s := range scores {
		if err := lines.Encode(map[string]any{"step": s.Step, "score": s.Value}); err != nil {
			return faultOf(err)
		}
	}
	return w.finish()
}

// keepModel moves the model to the others, and serves it. The job is not done
// until then: one that is killed here does it again.
func (r *run) keepModel(file, name string) error {
	to := r.q.modelFile(name)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return diskOr(err)
	}
	if err := syncFile(file); err != nil {
		return diskOr(err)
	}
	if err := os.Rename(file, to); err != nil {
		return diskOr(err)
	}
	if err := syncDir(filepath.Dir(to)); err != nil {
		return diskOr(err)
	}
	if err := r.q.cfg.Trainer.Serve(name, to); err != nil {
		r.q.cfg.Log.Error("a model that was trained cannot be served", "job", r.job.ID, "error", err) // with names of files
		return faultf(TrainFailed, "the model was trained, but cannot be opened; the server's log knows why")
	}
	return nil
}

// dropModel removes a trained model, if there is one.
func (q *Queue) dropModel(name string) {
	if _, err := os.Lstat(q.modelFile(name)); errors.Is(err, os.ErrNotExist) {
		return // nothing came of it; the name may be another's
	}
	q.cfg.Trainer.Withdraw(name)
	if err := os.Remove(q.modelFile(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		q.cfg.Log.Error("a model cannot be removed", "model", name, "error", err)
	}
}

// phase tells what the run is about to do.
func (r *run) phase(p Phase) {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	r.e.phase = p
	r.e.notify()
}

// tellTraining reports how far a training is.
func (r *run) tellTraining(t Trained) {
	p := Progress{Done: t.Step, Total: t.Steps, Fraction: -1, Left: t.Left}
	if t.Steps > 0 {
		p.Fraction = min(1, float64(t.Step)/float64(t.Steps))
	}
	curves := t.Curves.thinned()
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	r.e.progress, r.e.curves = p, &curves
	r.e.notify()
}
