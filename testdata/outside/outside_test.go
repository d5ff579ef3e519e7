// Package outside uses resdet as another module does: whatever the public
// packages export can be named here, although much of it is defined in
// internal packages.
package outside

import (
	"context"
	"image"
	_ "image/jpeg"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"resdet"
	"resdet/backbone"
	"resdet/roihead"
	"resdet/rpn"
)

// Every type in an exported signature has a public name.
var (
	_ resdet.Config
	_ resdet.Class
	_ resdet.Transform
	_ resdet.Provenance
	_ resdet.Options
	_ resdet.Settings
	_ resdet.Result
	_ resdet.View
	_ resdet.Detection
	_ resdet.Proposal
	_ resdet.Box
	_ resdet.Profile
	_ resdet.Step
	_ resdet.ParamSpec
	_ resdet.Params = params{}

	_ backbone.Config
	_ backbone.FPN
	_ backbone.Value
	_ *backbone.Builder

	_ rpn.Config
	_ rpn.Anchors
	_ rpn.Grid
	_ rpn.Level
	_ rpn.Box
	_ rpn.View
	_ rpn.Proposal
	_ rpn.Value
	_ *rpn.Builder

	_ roihead.Config
	_ roihead.Pool
	_ roihead.Settings
	_ roihead.View
	_ roihead.Proposal
	_ roihead.Detection
	_ roihead.Value
	_ *roihead.Builder
)

// params serves a model's parameters from somewhere else.
type params struct{}

func (params) Param(key string, shape resdet.Shape) ([]float32, error) {
	return make([]float32, shape.Len()), nil
}

// A detector is shared by goroutines, each with its own context.
func TestDetect(t *testing.T) {
	f, err := os.Open("../road.jpg")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	d, err := resdet.OpenDefault(resdet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()

	var wait sync.WaitGroup
	found := make([][]resdet.Detection, 3)
	for i := range found {
		wait.Go(func() {
			dets, err := d.Detect(context.Background(), img)
			if err != nil {
				t.Error(err)
			}
			found[i] = dets
		})
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	wait.Go(func() {
		if _, err := d.Detect(cancelled, img); err != context.Canceled {
			t.Errorf("error %v of a cancelled context", err)
		}
	})
	wait.Wait()
	for i, dets := range found {
		if len(dets) == 0 || d.Config().Classes[dets[0].Class].Name != "car" {
			t.Fatalf("goroutine %d: no car first in %+v", i, dets)
		}
		if len(dets) != len(found[0]) || dets[0] != found[0][0] {
			t.Errorf("goroutine %d found %+v, goroutine 0 %+v", i, dets[0], found[0][0])
		}
	}
}

// The default model's 50 MB are in programs that open it and in no others.
func TestSize(t *testing.T) {
	dir := t.TempDir()
	size := func(name string) int64 {
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), "./"+name).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	const model = 40 << 20
	if n := size("own"); n > model {
		t.Errorf("a program with its own model has %d MB", n>>20)
	}
	if n := size("builtin"); n < model {
		t.Errorf("a program with the default model has %d MB: the model is not in it", n>>20)
	}
}
