package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"resdet/internal/fixture"
	"resdet/internal/video"
)

// servedJob is a job as the server tells it.
type servedJob struct {
	ID, State, Kind string
	Progress        struct{ Done, Total int }
	Error           *struct{ Code, Message string }
	Links           struct{ Results, Annotated, Stream string }
	Training        *struct {
		Model, Phase   string
		Losses, Scores []struct{ Step int }
	}
}

func (s *serving) job(t *testing.T, method, path string, body []byte) (j servedJob) {
	t.Helper()
	r, err := http.NewRequest(method, s.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&j); err != nil || res.StatusCode > 202 {
		t.Fatalf("%s %s: %d %v", method, path, res.StatusCode, err)
	}
	return j
}

func done(j servedJob) bool { return j.State != "queued" && j.State != "running" }

// until asks for a job until it is as wanted.
func (s *serving) until(t *testing.T, id string, want func(servedJob) bool) servedJob {
	t.Helper()
	for end := time.Now().Add(4 * time.Minute); time.Now().Before(end); {
		if j := s.job(t, "GET", "/v1/jobs/"+id, nil); want(j) {
			return j
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the job stays %+v: %s", s.job(t, "GET", "/v1/jobs/"+id, nil), s.logs)
	return servedJob{}
}

func (s *serving) file(t *testing.T, path string) []byte {
	t.Helper()
	res, err := http.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%s: %d %v", path, res.StatusCode, err)
	}
	return b
}

// helpers are the processes of the helper program that run now.
func helpers(t *testing.T, program string) (pids []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && target == program {
			pids = append(pids, filepath.Base(filepath.Dir(l)))
		}
	}
	return pids
}

// TestVideoJobs: jobs of a real video, read and written by the real helper. The
// server is killed at random moments while one runs; in the end it has given
// what a run in peace gives, and no helper is left. Cancelling ends the helpers
// at once.
func TestVideoJobs(t *testing.T) {
	helper := videoHelper(t)
	if helper == missingHelper || runtime.GOOS != "linux" {
		t.Skip("needs OpenCV")
	}
	clip, err := os.ReadFile(fixture.Shared(t, "data", "video", "car-detection.mp4"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(video.HelperEnv, helper)
	const path = "/v1/jobs?name=road.mp4&every=40&annotate=true&score=0.3" // ten of 377 frames
	dir := t.TempDir()

	s := startServe(t, "--state-dir", dir)
	peace := s.until(t, s.job(t, "POST", path, clip).ID, done)
	if peace.State != "done" || peace.Kind != "video" || peace.Progress.Done != 10 {
		t.Fatalf("%+v %v", peace, peace.Error)
	}
	want := s.file(t, peace.Links.Results)
	if n := bytes.Count(want, []byte("\n")); n != 10 || bytes.Count(want, []byte(`"class":"car"`)) < 2 {
		t.Fatalf("%d lines: %s", n, want)
	}
	if frames := framesOf(t, helper, s.file(t, peace.Links.Annotated)); frames != 10 {
		t.Errorf("the annotated video has %d frames", frames)
	}

	job := s.job(t, "POST", path, clip)
	interrupted := 0
	for range 5 {
		s.until(t, job.ID, func(j servedJob) bool { return j.State != "queued" })
		time.Sleep(time.Duration(rand.IntN(800)) * time.Millisecond)
		if s.job(t, "GET", "/v1/jobs/"+job.ID, nil).State == "running" {
			interrupted++
		}
		s.end(t, syscall.SIGKILL)
		s = startServe(t, "--state-dir", dir)
	}
	after := s.until(t, job.ID, done)
	if after.State != "done" || interrupted == 0 {
		t.Fatalf("interrupted %d times: %+v %v", interrupted, after, after.Error)
	}
	if got := s.file(t, after.Links.Results); !bytes.Equal(got, want) {
		t.Errorf("after %d kills there are %d lines, which differ from those of a run in peace", interrupted, bytes.Count(got, []byte("\n")))
	}
	if frames := framesOf(t, helper, s.file(t, after.Links.Annotated)); frames != 10 {
		t.Errorf("after %d kills the annotated video has %d frames", interrupted, frames)
	}
	t.Logf("killed %d times while it ran: the same %d lines", interrupted, bytes.Count(want, []byte("\n")))

	// The running video can be watched, and cancelled.
	job = s.job(t, "POST", strings.Replace(path, "every=40", "every=1", 1), clip)
	s.until(t, job.ID, func(j servedJob) bool { return j.Links.Stream != "" && j.Progress.Done > 0 })
	if n := len(helpers(t, helper)); n != 2 { // one reads, one writes
		t.Errorf("%d helpers run", n)
	}
	res, err := http.Get(s.url + "/v1/jobs/" + job.ID + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 4096)
	if _, err := io.ReadFull(res.Body, head); err != nil || !bytes.Contains(head, []byte("image/jpeg")) || !bytes.Contains(head, []byte("\xff\xd8\xff")) {
		t.Errorf("the stream: %v %.200q", err, head)
	}
	begin := time.Now()
	if j := s.job(t, "DELETE", "/v1/jobs/"+job.ID, nil); j.State != "cancelled" {
		t.Errorf("%+v", j)
	}
	for len(helpers(t, helper)) > 0 && time.Since(begin) < time.Minute {
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("cancelled: the helpers were gone after %v", time.Since(begin).Round(10*time.Millisecond))
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Errorf("the stream's end: %v", err)
	}
	res.Body.Close()
	if code := s.end(t, syscall.SIGTERM); code != exitTerminated {
		t.Errorf("exit code %d: %s", code, s.logs)
	}
	if left := helpers(t, helper); len(left) > 0 {
		t.Errorf("helpers are left: %v", left)
	}
}

// framesOf counts the frames of a video.
func framesOf(t *testing.T, helper string, data []byte) int {
	t.Helper()
	name := filepath.Join(t.TempDir(), fmt.Sprint(rand.Int(), ".mp4"))
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	o := video.DefaultOptions()
	o.Helper = helper
	s, err := video.Open(context.Background(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	for {
		f, err := s.Next(context.Background())
		if err == io.EOF {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Release()
		n++
	}
}
