//go:build unix && cgo && !race

// These tests run the real helper process, which the race detector does not see.

package jobs

import (
	"bytes"
	"image"
	"image/jpeg"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"resdet/internal/fixture"
	"resdet/internal/video/rtsptest"
)

// realHelper builds the helper process, or skips the test.
func realHelper(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/usr/include/opencv4/opencv2/videoio.hpp"); err != nil || testing.Short() {
		t.Skip("needs OpenCV")
	}
	name := filepath.Join(t.TempDir(), "resdet-video")
	if out, err := exec.Command(filepath.Join(fixture.Root(), "scripts", "build-video"), name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return name
}

// TestRTSP: a camera is followed through the relay for as long as it may be; one
// that redirects is not followed to where it leads, although the player would.
func TestRTSP(t *testing.T) {
	helper := realHelper(t)
	var picture bytes.Buffer
	m := image.NewRGBA(image.Rect(0, 0, 64, 48))
	for i := range m.Pix {
		m.Pix[i] = 200
	}
	if err := jpeg.Encode(&picture, m, nil); err != nil {
		t.Fatal(err)
	}
	always := func(int, int) bool { return true }
	camera := rtsptest.New(t, picture.Bytes(), "", always)
	elsewhere := rtsptest.New(t, picture.Bytes(), "", always)
	turncoat := rtsptest.New(t, picture.Bytes(), elsewhere.Address(), always)
	c := testConfig(t)
	c.Hosts, c.LiveTime = []string{"127.0.0.1"}, time.Second
	c.Video.Helper, c.Video.Reconnect = helper, 0
	q := openQueue(t, c, &fake{})
	j, err := q.Submit(t.Context(), Spec{URL: camera.Address(), Annotate: true}, nil, -1)
	if err != nil {
		t.Fatal(err)
	}
	if j = wait(t, q, j.ID, finished); j.State != Done || j.Progress.Done < 5 {
		t.Fatalf("%+v %v", j, j.Fault)
	}
	if lines := resultsOf(t, q, j.ID); len(lines) != j.Progress.Done || lines[0].Width != 64 {
		t.Errorf("%d lines: %+v", len(lines), lines[0])
	}
	if f, _, err := q.AnnotatedFile(j.ID); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	if j, err = q.Submit(t.Context(), Spec{URL: turncoat.Address()}, nil, -1); err != nil {
		t.Fatal(err)
	}
	if j = wait(t, q, j.ID, finished); j.State != Failed || j.Fault.Code != Forbidden || turncoat.Connections.Load() == 0 {
		t.Errorf("%+v %v", j, j.Fault)
	}
	if n := elsewhere.Connections.Load(); n > 0 {
		t.Errorf("%d connections came to where the camera redirects", n)
	}
}
