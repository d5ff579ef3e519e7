package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"resdet/coco"
	"resdet/internal/train"
	"resdet/web"
	"resdet/web/jobs"
)

// serveTrainer opens the models that are served, and trains more of them for
// the server's jobs by this program's commands `data check` and `train`: in
// processes of their own, at the lowest priority, with memory of their own, and
// the first to go where memory runs out.
type serveTrainer struct {
	o      serveOptions
	server *web.Server // set before the first job runs

	// mu keeps a model that has just been trained from being lost when all are
	// opened anew.
	mu sync.Mutex
}

// dataSet is an uploaded data set as the commands take it: --data and
// --val-data, which may be empty. dir is the folder that paths begin at.
type dataSet struct{ dir, train, val string }

// findDataSet looks what an unpacked archive holds. Folders of training and
// validation are told by their names, which every tool that exports data sets
// gives them.
func findDataSet(data string) (dataSet, error) {
	s := dataSet{dir: filepath.Dir(data)}
	var yamls, jsons, xmls []string // the last: folders
	err := filepath.WalkDir(data, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(s.dir, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		place := rel
		switch strings.ToLower(path.Ext(rel)) {
		case ".yaml", ".yml":
			yamls = append(yamls, rel)
		case ".json":
			jsons = append(jsons, rel)
		case ".xml":
			place = path.Dir(rel)
			if strings.EqualFold(path.Base(place), "annotations") {
				place = path.Dir(place)
			}
			if !slices.Contains(xmls, place) {
				xmls = append(xmls, place)
			}
		default:
			return nil
		}
		if strings.Contains(place, ",") { // it would begin an option of --data
			return badData("%s: names with commas in them cannot be read", place)
		}
		return nil
	})
	if err != nil {
		return s, err
	}
	switch {
	case len(yamls) > 0:
		err = s.yolo(yamls)
	case len(xmls) > 0:
		err = s.pair("voc", "folders of XML", xmls)
		if len(xmls) == 1 {
			s.splits(xmls[0])
		}
	default:
		err = s.pair("coco", "JSON files", jsons)
	}
	return s, err
}

func badData(format string, args ...any) error {
	return &jobs.Fault{Code: jobs.BadInput, Message: fmt.Sprintf(format, args...)}
}

// pair takes the one of these places that there is, or those for training and
// validation.
func (s *dataSet) pair(format, what string, places []string) error {
	if len(places) == 1 {
		s.train = format + ":" + places[0]
		return nil
	}
	named := func(part string) (found []string) {
		for _, p := range places {
			_, below, _ := strings.Cut(strings.ToLower(p), "/") // the first folder is ours
			if strings.Contains(below, part) {
				found = append(found, p)
			}
		}
		return found
	}
	training, validation := named("train"), named("val")
	if len(training) != 1 || len(validation) != 1 {
		return badData("there are %d %s (%s): leave one, or name one of them train and one val", len(places), what, strings.Join(places[:min(len(places), 6)], ", "))
	}
	s.train, s.val = format+":"+training[0], format+":"+validation[0]
	return nil
}

// splits takes VOC's own splits where both are there.
func (s *dataSet) splits(root string) {
	for _, split := range []string{"train", "val"} {
		if _, err := os.Stat(filepath.Join(s.dir, filepath.FromSlash(root), "ImageSets", "Main", split+".txt")); err != nil {
			return
		}
	}
	s.train, s.val = "voc:"+root+",split=train", "voc:"+root+",split=val"
}

func (s *dataSet) yolo(files []string) error {
	if len(files) > 1 {
		return badData("there are %d YAML files (%s): leave the one that describes the data set", len(files), strings.Join(files[:min(len(files), 6)], ", "))
	}
	var has struct{ Train, Val any }
	text, err := os.ReadFile(filepath.Join(s.dir, filepath.FromSlash(files[0])))
	if err == nil {
		err = yaml.Unmarshal(text, &has)
	}
	if err != nil {
		return badData("%s: %v", files[0], err)
	}
	root, _, _ := strings.Cut(files[0], "/")
	spec := func(split string) string { return fmt.Sprintf("yolo:%s,split=%s,within=%s", files[0], split, root) }
	s.train = spec("train")
	if has.Val != nil {
		s.val = spec("val")
	}
	return nil
}

// Check is `resdet data check`.
func (t *serveTrainer) Check(ctx context.Context, data string, want jobs.Training) error {
	s, err := findDataSet(data)
	if err != nil || want.Lenient {
		return err
	}
	var found []string
	for _, spec := range []string{s.train, s.val} {
		if spec == "" {
			continue
		}
		var out, errs bytes.Buffer
		err := t.run(ctx, s.dir, &out, &errs, "data", "check", "--json", "--quiet", "--data", spec)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var r coco.Report
		if json.Unmarshal(out.Bytes(), &r) != nil {
			return t.fault(jobs.BadInput, errs.String(), err)
		}
		for _, f := range r.Faults {
			found = append(found, f.String())
		}
	}
	const most = 20
	n := len(found)
	if n == 0 {
		return nil
	}
	if n > most {
		found = append(found[:most], "…")
	}
	return badData("%s in the data set: %s", plural(n, "finding"), strings.Join(found, "; "))
}

// Names of files beside those of `resdet train`.
const (
	trainOutput = "output.txt"
	trainConfig = "options.yaml"
)

// trainEvery is how a served training differs from what the recipe says: its
// curve is watched, and it may be cut off at any moment. Neither changes the
// model.
const trainEvery = "log: 5\nsave: 25\n"

// Train is `resdet train --resume`.
func (t *serveTrainer) Train(ctx context.Context, data, run, start string, want jobs.Training, tell func(jobs.Trained) error) (string, error) {
	s, err := findDataSet(data)
	if err != nil {
		return "", err
	}
	initial, err := t.initial(start)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(run, 0o700); err != nil {
		return "", err
	}
	options := filepath.Join(run, trainConfig)
	if err := os.WriteFile(options, []byte(trainEvery), 0o600); err != nil {
		return "", err
	}
	args := []string{"train", "--resume", "--data", s.train, "--out", run, "--init", initial, "--config", options, "--seed", strconv.FormatUint(want.Seed, 10)}
	if s.val != "" {
		args = append(args, "--val-data", s.val)
	}
	if want.Steps > 0 {
		args = append(args, "--steps", strconv.Itoa(want.Steps))
	}
	if want.Rate > 0 {
		args = append(args, "--rate", strconv.FormatFloat(want.Rate, 'g', -1, 64))
	}
	if !want.Lenient { // it was checked
		args = append(args, "--no-check")
	}
	if t.o.run.threads > 0 {
		args = append(args, "--threads", strconv.Itoa(t.o.run.threads))
	}
	if t.o.run.device != "" {
		args = append(args, "--device", t.o.run.device)
	}
	log, err := os.Create(filepath.Join(run, trainOutput))
	if err != nil {
		return "", err
	}
	defer log.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := trainWatch{dir: run}
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if p, changed := watch.look(); changed {
				if err := tell(p); err != nil {
					cancel(err)
				}
			}
		}
	})
	errs := &tail{w: log}
	for attempt := 0; ; attempt++ {
		err = t.run(ctx, s.dir, io.Discard, errs, args...)
		// What ends a service may be told to all its processes at a time.
		if err == nil || ctx.Err() != nil || !wasSignalled(err) || attempt == 2 {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
	stopped := context.Cause(ctx)
	cancel(nil)
	watching.Wait()
	switch {
	case stopped != nil:
		return "", stopped
	case err != nil:
		return "", t.fault(jobs.TrainFailed, strings.NewReplacer(run, want.Name, initial, start).Replace(errs.String()), err)
	}
	if p, _ := watch.look(); p.Step > 0 {
		if err := tell(p); err != nil {
			return "", err
		}
	}
	return filepath.Join(run, modelFile), nil
}

// initial is what --init is given for a model that is served.
func (t *serveTrainer) initial(start string) (string, error) {
	models, err := t.files()
	if err != nil {
		return "", err
	}
	for _, m := range models {
		switch {
		case servedName(m.path) != start:
		case m.path == "":
			return builtIn, nil
		default:
			return filepath.Abs(m.path)
		}
	}
	return "", &jobs.Fault{Code: jobs.NoModel, Message: fmt.Sprintf("the model %s is not served any more", start)}
}

// servedFile is a model's file; path is empty for the model that is built in.
type servedFile struct {
	path    string
	trained bool
}

// files are the models to be served: those of the command line, and what came
// of trainings.
func (t *serveTrainer) files() (files []servedFile, err error) {
	for _, p := range t.o.models {
		files = append(files, servedFile{path: p})
	}
	if len(files) == 0 {
		files = []servedFile{{}}
	}
	if t.o.web.TrainDir == "" {
		return files, nil
	}
	trained, err := jobs.TrainedModels(t.o.web.TrainDir)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(trained)) {
		files = append(files, servedFile{trained[name], true})
	}
	return files, nil
}

// load opens the models and hands them to the server.
func (t *serveTrainer) load() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	models, err := t.open()
	if err != nil {
		return err
	}
	if err := t.server.SetModels(models...); err != nil {
		closeModels(models)
		return err
	}
	for _, m := range models {
		t.o.web.Log.Info("model is ready", "model", m.Name, "arch", m.Info.Arch)
	}
	return nil
}

// open opens the models. One that was trained and cannot be opened, or has
// another's name by now, does not keep the others from being served.
func (t *serveTrainer) open() ([]web.Model, error) {
	files, err := t.files()
	if err != nil {
		return nil, err
	}
	var models []web.Model
	for _, f := range files {
		name := servedName(f.path)
		if f.trained && slices.ContainsFunc(models, func(m web.Model) bool { return m.Name == name }) {
			t.o.web.Log.Error("a trained model is not served: another one has its name", "model", name)
			continue
		}
		m, err := t.o.openServed(f)
		if err != nil && f.trained {
			t.o.web.Log.Error("a trained model cannot be opened", "model", name, "error", err)
			continue
		}
		if err != nil {
			closeModels(models)
			return nil, err
		}
		models = append(models, m)
	}
	return models, nil
}

// Serve opens a model that was trained.
func (t *serveTrainer) Serve(name, file string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, err := t.o.openServed(servedFile{file, true})
	if err != nil {
		return err
	}
	if err := t.server.AddModel(m); err != nil {
		closeModels([]web.Model{m})
		return err
	}
	t.o.web.Log.Info("model is ready", "model", name, "arch", m.Info.Arch)
	return nil
}

// Withdraw ends Serve.
func (t *serveTrainer) Withdraw(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.server.RemoveModel(name)
}

// run runs this program with other arguments, until it or ctx ends. A training
// that is told to end saves first.
func (t *serveTrainer) run(ctx context.Context, dir string, out, errs io.Writer, args ...string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Args[0] = "resdet"
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, errs
	cmd.Env = append(os.Environ(), "OMP_WAIT_POLICY=passive") // threads that wait leave the cores to requests
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 8 * time.Second // a server has some more to stop; what is lost is made again
	return runLowly(cmd)
}

// wasSignalled reports whether a command was told to end.
func wasSignalled(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && (exit.ExitCode() == exitInterrupted || exit.ExitCode() == exitTerminated)
}

// fault is why a command failed, by the error and the hint that it printed.
func (t *serveTrainer) fault(code jobs.Code, printed string, err error) error {
	var text, hint string
	for line := range strings.Lines(printed) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "resdet: error: "); ok {
			text = rest
		} else if rest, ok := strings.CutPrefix(line, "resdet: hint: "); ok {
			hint = "; " + rest
		}
	}
	var exit *exec.ExitError
	switch {
	case text != "":
		text += hint
	case errors.As(err, &exit) && exit.ExitCode() < 0:
		text = fmt.Sprintf("the training's process was ended (%v): was there enough memory?", exit)
	default:
		t.o.web.Log.Error("a training failed", "error", err, "output", printed)
		return fmt.Errorf("training: %w", err)
	}
	return &jobs.Fault{Code: code, Message: text}
}

// tail keeps the end of what passes.
type tail struct {
	w   io.Writer
	end []byte
}

const tailBytes = 16 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.end = append(t.end, b...)
	if n := len(t.end) - tailBytes; n > 0 {
		t.end = append(t.end[:0], t.end[n:]...)
	}
	return t.w.Write(b)
}

func (t *tail) String() string { return string(t.end) }

// watchEvery is how often a training's log is looked at.
const watchEvery = time.Second

// trainWatch reads how far a training is from what it writes.
type trainWatch struct {
	dir   string
	size  int64 // of the log that was read
	steps int
}

// look reports whether something has changed since.
func (w *trainWatch) look() (p jobs.Trained, changed bool) {
	info, err := os.Stat(filepath.Join(w.dir, train.MetricsFile))
	if err != nil || info.Size() == w.size {
		return p, false
	}
	records, err := train.ReadMetrics(w.dir)
	if err != nil || len(records) == 0 { // a line is just being written
		return p, false
	}
	w.size = info.Size()
	if w.steps == 0 {
		w.steps = recipeSteps(filepath.Join(w.dir, recipeFile))
	}
	p = jobs.Trained{Steps: w.steps, Left: -1}
	for _, r := range records {
		p.Step = max(p.Step, r.Step)
		if r.Score != nil {
			p.Scores = append(p.Scores, jobs.Score{Step: r.Step, Value: *r.Score})
			continue
		}
		p.Losses = append(p.Losses, jobs.Loss{
			Step: r.Step, Total: r.Loss, Classifier: r.Losses["classifier"], Box: r.Losses["box"], Objectness: r.Losses["objectness"], RPNBox: r.Losses["rpn_box"],
		})
	}
	last := records[len(records)-1]
	if w.steps > 0 && last.Step > 0 {
		p.Left = time.Duration(last.Seconds / float64(last.Step) * float64(w.steps-last.Step) * float64(time.Second))
	}
	return p, true
}

// recipeSteps is how many steps a run's recipe has; 0 if that is not known yet.
func recipeSteps(file string) int {
	var r struct{ Schedule struct{ Steps int } }
	text, err := os.ReadFile(file)
	if err != nil || yaml.Unmarshal(text, &r) != nil {
		return 0
	}
	return r.Schedule.Steps
}
