package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"resdet/internal/train"
	"resdet/web/jobs"
)

// tinyRecipe trains a network that takes milliseconds, from nothing.
const tinyRecipe = `arch: resnet18-fpn
init: none
model:
  transform: {min_size: 64, max_size: 96, size_divisible: 16}
  backbone: {fpn: {stages: [2, 3], channels: 16}}
  rpn:
    anchors: {sizes: [[16], [32], [64]], ratios: [0.5, 1, 2]}
    pre_nms: 50
    post_nms: 20
  roi: {hidden: 32, score: 0.001}
losses: {pre_nms: 100, post_nms: 40, regions: {batch: 16}, anchors: {batch: 32}}
frozen_stages: 1
schedule: {rate: 0.01, steps: 4, kind: constant, decay: [], warmup: {steps: 0}}
`

// resdetIn runs the command in a folder.
func resdetIn(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Args[0], cmd.Dir = "resdet", dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("resdet %v: %v\n%s", args, err, out)
	}
}

// zipOf is an archive of a folder, with its name.
func zipOf(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(filepath.Dir(dir), p)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		w, err := z.Create(filepath.ToSlash(name))
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// trainers are the processes that train in a folder.
func trainers(t *testing.T, dir string) (pids []int) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		text, _ := os.ReadFile(l) // it may have ended
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(l))); err == nil && bytes.Contains(text, []byte("--out\x00"+dir)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A data set is posted to a server, which dies twice while it trains: the model
// is that of `resdet train` in peace, bit for bit, and is served at once beside
// the one that it started from.
func TestServeTrains(t *testing.T) {
	if testing.Short() {
		t.Skip("trains a network")
	}
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		t.Skip("looks at processes in /proc")
	}
	dir, state := t.TempDir(), t.TempDir()
	work := filepath.Join(dir, "training")
	photos := filepath.Join(dir, "shapes")
	if err := writePhotos(photos, 8); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tiny.yaml"), []byte(tinyRecipe), 0o600); err != nil {
		t.Fatal(err)
	}
	resdetIn(t, dir, "train", "--quiet", "--data", "voc:shapes", "--val-data", "none", "--out", "first", "--config", "tiny.yaml")
	tiny := filepath.Join(dir, "tiny.safetensors")
	if err := os.Rename(filepath.Join(dir, "first", modelFile), tiny); err != nil {
		t.Fatal(err)
	}
	serve := func() *serving { return startServe(t, "--model", tiny, "--state-dir", state, "--train-dir", work) }
	s := serve()

	// What data check finds is why a job fails.
	wrong := filepath.Join(dir, "wrong")
	if err := writePhotos(wrong, 4); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(wrong, "Annotations", "001.xml")
	text, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), "<xmax>")
	_, after, _ := strings.Cut(string(text), "</xmax>")
	if err := os.WriteFile(note, []byte(before+"<xmax>4000</xmax>"+after), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := s.until(t, s.job(t, "POST", "/v1/jobs?kind=train", zipOf(t, wrong)).ID, done)
	if bad.State != "failed" || bad.Error == nil || bad.Error.Code != "bad_input" || !strings.Contains(bad.Error.Message, "001.xml") || !strings.Contains(bad.Error.Message, "object 0") {
		t.Fatalf("%+v %+v", bad, bad.Error)
	}
	if strings.Contains(bad.Error.Message, dir) {
		t.Errorf("the message names folders of the server: %s", bad.Error.Message)
	}

	job := s.job(t, "POST", "/v1/jobs?kind=train&name=shapes&steps=30", zipOf(t, photos))
	if job.Kind != "train" || job.Training == nil || job.Training.Model != "shapes" {
		t.Fatalf("%+v", job)
	}
	photo, err := os.ReadFile(filepath.Join(photos, "JPEGImages", "001.png"))
	if err != nil {
		t.Fatal(err)
	}
	for _, saved := range []bool{false, true} { // on its first steps, and behind a checkpoint
		s.until(t, job.ID, func(j servedJob) bool {
			if j.Error != nil {
				t.Fatalf("%+v", j.Error)
			}
			if there, _ := filepath.Glob(filepath.Join(work, "runs", "*", "run", train.CheckpointFile)); saved && len(there) == 0 {
				return done(j)
			}
			return done(j) || j.Training.Phase == string(jobs.Fitting) && len(trainers(t, work)) == 1
		})
		for _, pid := range trainers(t, work) { // the kernel counts from 20 down
			if p, err := syscall.Getpriority(syscall.PRIO_PROCESS, pid); err == nil && runtime.GOOS == "linux" && p != 20-19 {
				t.Errorf("the training's priority is %d", 20-p)
			}
		}
		if status, body, err := s.detect(photo); err != nil || status != 200 {
			t.Errorf("a request beside the training: %d %v %s", status, err, body)
		}
		s.end(t, syscall.SIGKILL)
		s.await(t, "the training to end with its server", func() bool { return len(trainers(t, work)) == 0 })
		s = serve()
	}
	end := s.until(t, job.ID, done)
	if end.State != "done" || end.Progress.Done != 30 || len(end.Training.Losses) == 0 || len(end.Training.Scores) == 0 {
		t.Fatalf("%+v %+v\n%s", end, end.Error, s.logs)
	}
	if lines := s.file(t, end.Links.Results); bytes.Count(lines, []byte("\n")) < 7 || !bytes.Contains(lines, []byte(`"score"`)) {
		t.Errorf("its log: %s", lines)
	}

	// In peace, in another folder.
	if err := os.WriteFile(filepath.Join(dir, "options.yaml"), []byte(trainEvery), 0o600); err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(dir, "in", "shapes")
	if err := os.MkdirAll(inner, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(photos, filepath.Join(inner, "shapes")); err != nil {
		t.Fatal(err)
	}
	resdetIn(t, filepath.Join(dir, "in"), "train", "--quiet", "--data", "voc:shapes/shapes", "--out", "peace", "--init", tiny, "--config", "../options.yaml", "--steps", "30", "--no-check")
	want, err := os.ReadFile(filepath.Join(dir, "in", "peace", modelFile))
	if err != nil {
		t.Fatal(err)
	}
	models, err := jobs.TrainedModels(work)
	if err != nil || len(models) != 1 {
		t.Fatalf("%v %v", models, err)
	}
	if got, err := os.ReadFile(models["shapes"]); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the model differs from that of a run in peace (%v; %d and %d bytes)", err, len(got), len(want))
	}

	post := func(path string) (int, string) {
		res, err := http.Post(s.url+path, "image/png", bytes.NewReader(photo))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var b bytes.Buffer
		b.ReadFrom(res.Body)
		return res.StatusCode, b.String()
	}
	var served struct{ Models []struct{ Name string } }
	if err := json.Unmarshal(s.file(t, "/v1/models"), &served); err != nil || len(served.Models) != 2 || served.Models[0].Name != "tiny" || served.Models[1].Name != "shapes" {
		t.Errorf("%v %+v", err, served)
	}
	if status, body := post("/v1/detect?model=shapes&score=0"); status != 200 || !strings.Contains(body, `"model":"shapes"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, body := post("/v1/compare?a=tiny&b=shapes&score=0"); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	// Opened anew it is still there.
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.await(t, "the models to be opened anew", func() bool { return strings.Count(s.logs.String(), "model is ready") == 4 })
	if status, body := post("/v1/detect?model=shapes&score=0"); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	// Cancelled while it trains, the process ends, and nothing stays.
	job = s.job(t, "POST", "/v1/jobs?kind=train&model=shapes&steps=5000", zipOf(t, filepath.Join(inner, "shapes")))
	s.until(t, job.ID, func(j servedJob) bool { return done(j) || len(trainers(t, work)) == 1 })
	if j := s.job(t, "DELETE", "/v1/jobs/"+job.ID, nil); j.State != "cancelled" {
		t.Errorf("%+v", j)
	}
	s.await(t, "the training to end with its job", func() bool { return len(trainers(t, work)) == 0 })
	// The model goes with its job.
	r, err := http.NewRequest("DELETE", s.url+"/v1/jobs/"+end.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil || res.StatusCode != 204 {
		t.Fatalf("%v %v", err, res)
	}
	res.Body.Close()
	if status, body := post("/v1/detect?model=shapes"); status != 404 {
		t.Errorf("%d %s", status, body)
	}
	if models, err := jobs.TrainedModels(work); err != nil || len(models) > 0 {
		t.Errorf("%v %v", models, err)
	}
	if code := s.end(t, syscall.SIGTERM); code != exitTerminated {
		t.Errorf("exit code %d: %s", code, s.logs)
	}
}

// What an archive holds is told by its files, and what cannot be told is said.
func TestFindDataSet(t *testing.T) {
	for _, c := range []struct {
		files      string
		train, val string
		err        string
	}{
		{"Annotations/a.xml JPEGImages/a.jpg", "voc:set", "", ""},
		{"x/a.xml x/a.jpg", "voc:set/x", "", ""},
		{"VOCdevkit/VOC2007/Annotations/a.xml VOCdevkit/VOC2007/ImageSets/Main/train.txt VOCdevkit/VOC2007/ImageSets/Main/val.txt",
			"voc:set/VOCdevkit/VOC2007,split=train", "voc:set/VOCdevkit/VOC2007,split=val", ""},
		{"train/a.xml valid/b.xml", "voc:set/train", "voc:set/valid", ""},
		{"one/a.xml two/b.xml", "", "", "there are 2 folders of XML (set/one, set/two)"},
		{"all.json images/a.jpg", "coco:set/all.json", "", ""},
		{"annotations/instances_train.json annotations/instances_val.json", "coco:set/annotations/instances_train.json", "coco:set/annotations/instances_val.json", ""},
		{"a.json b.json", "", "", "there are 2 JSON files"},
		{"data.yaml images/a.jpg labels/a.txt", "yolo:set/data.yaml,split=train,within=set", "yolo:set/data.yaml,split=val,within=set", ""},
		{"a.yaml b.yaml", "", "", "there are 2 YAML files"},
		{"images,split=x/all.json", "", "", "commas"},
		{"x,images=/Annotations/a.xml", "", "", "commas"},
	} {
		set := filepath.Join(t.TempDir(), "set")
		for _, f := range strings.Fields(c.files) {
			name := filepath.Join(set, filepath.FromSlash(f))
			if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte("train: images\nval: images\n"), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		got, err := findDataSet(set)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", c.files, err, c.err)
			}
			continue
		}
		if err != nil || got.train != c.train || got.val != c.val || got.dir != filepath.Dir(set) {
			t.Errorf("%s: %+v %v", c.files, got, err)
		}
	}
}
