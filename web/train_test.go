package web

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resdet/web/jobs"
)

// fakeTrainer trains in three steps, each of which takes a value from hold if
// that is not nil.
type fakeTrainer struct {
	server *Server
	hold   chan struct{}
	fault  *jobs.Fault
	wanted jobs.Training // by the last Train
}

func (f *fakeTrainer) Check(context.Context, string, jobs.Training) error {
	if f.fault != nil {
		return f.fault
	}
	return nil
}

func (f *fakeTrainer) Train(ctx context.Context, data, run, start string, t jobs.Training, tell func(jobs.Trained) error) (string, error) {
	f.wanted = t
	p := jobs.Trained{Steps: 3, Left: time.Second}
	for p.Step < 3 {
		if f.hold != nil {
			select {
			case <-f.hold:
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		p.Step++
		p.Losses = append(p.Losses, jobs.Loss{Step: p.Step, Total: 1, Classifier: 0.25, Box: 0.25, Objectness: 0.25, RPNBox: 0.25})
		p.Scores = []jobs.Score{{Step: 1, Value: 0.5}}
		if err := tell(p); err != nil {
			return "", err
		}
	}
	model := filepath.Join(run, "m")
	if err := os.MkdirAll(run, 0o700); err != nil {
		return "", err
	}
	return model, os.WriteFile(model, []byte(start), 0o600)
}

func (f *fakeTrainer) Serve(name, file string) error {
	return f.server.AddModel(fakeModel(name, &fake{shift: 2}))
}

func (f *fakeTrainer) Withdraw(name string) { f.server.RemoveModel(name) }

// trainingConfig is jobsConfig with that trainer, whose server is set when it
// is there.
func trainingConfig(t testing.TB) (Config, *fakeTrainer) {
	c := jobsConfig(t)
	f := &fakeTrainer{}
	c.Trainer, c.TrainDir = f, t.TempDir()
	return c, f
}

func newTrainingServer(t testing.TB) (url string, f *fakeTrainer) {
	c, f := trainingConfig(t)
	s, h, _ := newTestServer(t, c)
	f.server = s
	return h.URL, f
}

// dataset is a zip archive with a picture and an annotation.
func dataset(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, data := range map[string][]byte{"a.jpg": picture(t, 20, 10), "a.xml": []byte("<annotation/>")} {
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes()
}

// A training tells how far it is, with its curve, and its model is served at
// once and as long as its job is there; requests go on meanwhile.
func TestTraining(t *testing.T) {
	url, f := newTrainingServer(t)
	f.hold = make(chan struct{})
	kind, body := fileForm(t, dataset(t), "file")
	j := accepted(t, url, "?kind=train&model=b&name=cars&steps=3&rate=0.001&seed=9&lenient=true", kind, body)
	if j.Kind != "train" || j.Model != "b" || j.Name != "road.y4m" || j.Training == nil || j.Training.Model != "cars" {
		t.Fatalf("%+v %+v", j, j.Training)
	}
	f.hold <- struct{}{}
	now := state(t, url, j.ID)
	for end := time.Now().Add(time.Minute); now.Progress.Done == 0 && time.Now().Before(end); now = state(t, url, j.ID) {
		time.Sleep(time.Millisecond)
	}
	if now.Training.Phase != jobs.Fitting || now.Progress.Total != 3 || len(now.Training.Losses) != 1 || len(now.Training.Scores) != 1 || now.Progress.ETA == nil {
		t.Errorf("%+v %+v", now, now.Training)
	}
	if want := (jobs.Training{Name: "cars", Steps: 3, Rate: 0.001, Seed: 9, Lenient: true}); f.wanted != want {
		t.Errorf("the trainer was asked for %+v", f.wanted)
	}
	if status, _, answer := call(t, "POST", url+"/v1/detect", "image/jpeg", picture(t, 20, 10)); status != 200 {
		t.Errorf("%d %s", status, answer)
	}
	var list jobsBody
	if _, _, answer := call(t, "GET", url+"/v1/jobs", "", nil); json.Unmarshal(answer, &list) != nil || !list.Trains || list.Jobs[0].Training == nil || list.Jobs[0].Training.Losses != nil {
		t.Errorf("%+v", list)
	}
	if _, _, m := call(t, "GET", url+"/metrics", "", nil); !strings.Contains(string(m), `resdet_jobs{kind="train",state="running"} 1`) || !strings.Contains(string(m), "resdet_training_progress 0.33") {
		t.Error("the metrics do not tell of the training")
	}
	if status, _, _ := call(t, "POST", url+"/v1/detect?model=cars", "image/jpeg", picture(t, 20, 10)); status != 404 {
		t.Errorf("status %d before the model is there", status)
	}
	close(f.hold)
	end, _ := follow(t, url, j.ID)
	if end.State != "done" || end.Progress.Fraction != 1 || len(end.Training.Losses) != 3 || end.Training.Phase != "" {
		t.Fatalf("%+v %+v %v", end, end.Training, end.Error)
	}
	if status, _, answer := call(t, "POST", url+"/v1/compare?a=b&b=cars", "image/jpeg", picture(t, 20, 10)); status != 200 || !bytes.Contains(answer, []byte(`"model":"cars"`)) {
		t.Errorf("%d %s", status, answer)
	}
	var models modelsBody
	if _, _, answer := call(t, "GET", url+"/v1/models", "", nil); json.Unmarshal(answer, &models) != nil || len(models.Models) != 3 || models.Models[2].Name != "cars" || models.Models[2].Default {
		t.Errorf("%+v", models)
	}
	if status, _, answer := call(t, "GET", url+end.Links.Results, "", nil); status != 200 || bytes.Count(answer, []byte("\n")) != 4 {
		t.Errorf("%d %s", status, answer)
	}
	if status, header, answer := call(t, "GET", url+"/v1/jobs/"+j.ID+"/annotated", "", nil); status != 409 || failed(t, header, answer) != "not_ready" {
		t.Errorf("%d %s", status, answer)
	}
	if status, _, _ := call(t, "DELETE", url+"/v1/jobs/"+j.ID, "", nil); status != 204 {
		t.Errorf("status %d", status)
	}
	if status, _, _ := call(t, "POST", url+"/v1/detect?model=cars", "image/jpeg", picture(t, 20, 10)); status != 404 {
		t.Errorf("status %d after the job was removed", status)
	}
}

func TestTrainingErrors(t *testing.T) {
	url, f := newTrainingServer(t)
	for _, c := range []struct {
		query string
		kind  string
		body  []byte
		want  int
		code  string
	}{
		{"?kind=test", "", dataset(t), 400, "bad_parameter"},
		{"?kind=train&every=2", "", dataset(t), 400, "bad_parameter"},
		{"?kind=train&steps=0", "", dataset(t), 400, "bad_parameter"},
		{"?kind=train&steps=many", "", dataset(t), 400, "bad_parameter"},
		{"?kind=train&rate=2", "", dataset(t), 400, "bad_parameter"},
		{"?kind=train&rate=NaN", "", dataset(t), 400, "bad_parameter"},
		{"?kind=train&lenient=1", "", dataset(t), 400, "bad_parameter"},
		{"?steps=3", "", dataset(t), 400, "bad_parameter"},
		{"?kind=train&name=..%2F..%2Fx", "", dataset(t), 400, "bad_request"},
		{"?kind=train&name=a", "", dataset(t), 400, "bad_request"}, // which is served
		{"?kind=train&model=none", "", dataset(t), 404, "unknown_model"},
		{"?kind=train", "application/json", []byte(`{"url":"https://x.example/a.zip"}`), 400, "bad_request"},
		{"?kind=train", "", photos(t, 1), 422, "bad_input"},
		{"?kind=train", "", film(1), 415, "unsupported"},
		{"?kind=train", "", []byte("text, text"), 415, "unsupported"},
		{"?kind=train", "", nil, 422, "bad_input"},
	} {
		status, header, answer := call(t, "POST", url+"/v1/jobs"+c.query, c.kind, c.body)
		if code := failed(t, header, answer); status != c.want || code != c.code {
			t.Errorf("%s: %d %s", c.query, status, answer)
		}
	}
	f.fault = &jobs.Fault{Code: jobs.BadInput, Message: "x/a.xml: object 0: upside down"}
	if end, _ := follow(t, url, accepted(t, url, "?kind=train", "", dataset(t)).ID); end.State != "failed" || end.Error == nil || *end.Error != *f.fault {
		t.Errorf("%+v %v", end, end.Error)
	}
	_, without, _ := newTestServer(t, jobsConfig(t))
	if status, header, answer := call(t, "POST", without.URL+"/v1/jobs?kind=train", "", dataset(t)); status != 501 || failed(t, header, answer) != "no_training" {
		t.Errorf("%d %s", status, answer)
	}
	c, _ := trainingConfig(t)
	c.StateDir = ""
	if err := c.Validate(); err == nil {
		t.Error("trainings without a folder for jobs are not possible, and nobody says so")
	}
}

// What is answered of a training is what the document says.
func TestDocumentedTraining(t *testing.T) {
	_, router := document(t)
	url, f := newTrainingServer(t)
	client := &http.Client{Transport: &conforming{t, router, map[string]bool{}}}
	ask := func(method, path string, body []byte, want int) (j jobBody) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body != nil {
			r.Header.Set("Content-Type", "application/zip")
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != want {
			t.Errorf("%s %s: status %d, want %d (%v)", method, path, res.StatusCode, want, err)
		}
		_ = json.Unmarshal(answer, &j) // lists and events are none
		return j
	}
	f.hold = make(chan struct{})
	j := ask("POST", "/v1/jobs?kind=train&name=n&steps=3&rate=0.1&seed=2&lenient=true", dataset(t), 202)
	at := "/v1/jobs/" + j.ID
	f.hold <- struct{}{}
	for end := time.Now().Add(time.Minute); ask("GET", at, nil, 200).Progress.Done == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	ask("GET", "/v1/jobs", nil, 200)
	close(f.hold)
	ask("GET", at+"/events", nil, 200)
	ask("GET", at, nil, 200)
	ask("GET", at+"/results", nil, 200)
	ask("GET", "/v1/models", nil, 200)
	ask("GET", "/metrics", nil, 200)
	ask("DELETE", at, nil, 204)
	ask("POST", "/v1/jobs?kind=train", photos(t, 1), 422)
}

// Models come and go beside the others, and are closed when the last request
// to them is answered.
func TestAddedModels(t *testing.T) {
	cfg := testConfig()
	cfg.Turns = 2 // both of the name x compute
	s, h, _ := newTestServer(t, cfg)
	x := &fake{hold: make(chan struct{})}
	if err := s.AddModel(fakeModel("x", x)); err != nil {
		t.Fatal(err)
	}
	bad := fakeModel("y", nil)
	bad.Detector = nil
	if err := s.AddModel(bad); err == nil {
		t.Error("a model without a detector is served")
	}
	answered := make(chan int)
	go func() {
		status, _, _ := call(t, "POST", h.URL+"/v1/detect?model=x", "image/jpeg", picture(t, 20, 10))
		answered <- status
	}()
	for end := time.Now().Add(time.Minute); x.calls.Load() == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	again := &fake{}
	if err := s.AddModel(fakeModel("x", again)); err != nil { // while the request runs
		t.Fatal(err)
	}
	if status, _, _ := call(t, "POST", h.URL+"/v1/detect?model=x", "image/jpeg", picture(t, 20, 10)); status != 200 || again.calls.Load() != 1 || x.closed.Load() != 0 {
		t.Errorf("status %d, %d calls, closed %d times", status, again.calls.Load(), x.closed.Load())
	}
	s.RemoveModel("x")
	s.RemoveModel("none")
	if status, _, _ := call(t, "POST", h.URL+"/v1/detect?model=x", "image/jpeg", picture(t, 20, 10)); status != 404 || again.closed.Load() != 1 {
		t.Errorf("status %d, closed %d times", status, again.closed.Load())
	}
	close(x.hold)
	if status := <-answered; status != 200 {
		t.Errorf("status %d of a request whose model was replaced", status)
	}
	for end := time.Now().Add(time.Minute); x.closed.Load() == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := x.closed.Load(); n != 1 {
		t.Errorf("closed %d times", n)
	}
}
