// Package outside uses resdet as another module does: whatever the public
// packages export can be named here, although much of it is defined in
// internal packages.
package outside

import (
	"bytes"
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
	"resdet/coco"
	"resdet/eval"
	"resdet/eval/report"
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

	_ coco.Dataset
	_ coco.Image
	_ coco.Object
	_ coco.Class
	_ coco.Box
	_ coco.Spec
	_ coco.Format
	_ coco.ClassMap
	_ coco.Fault
	_ coco.Kind
	_ coco.FaultError
	_ coco.SyntaxError
	_ coco.MismatchError
	_ coco.Result
	_ coco.Detection
	_ coco.Resolved
	_ coco.Index
	_ coco.Line
	_ coco.CheckConfig
	_ coco.Report
	_ coco.Fixed
	_ coco.ConvertConfig
	_ coco.Conversion
	_ coco.PhotoMode
	_ coco.Stats
	_ coco.ClassStats
	_ coco.Size
	_ coco.Spread
	_ coco.Anchors
	_ coco.AnchorLevel
	_ coco.Coverage
	_ coco.CoverRow

	_ eval.Config
	_ eval.Protocol
	_ eval.Class
	_ eval.Box
	_ eval.Truth
	_ eval.Detection
	_ eval.Image
	_ eval.Strays
	_ eval.Result
	_ eval.Settings
	_ eval.Metrics
	_ eval.Metric
	_ eval.Value
	_ eval.ClassResult
	_ eval.SizeResult
	_ eval.Curve
	_ eval.Row
	_ eval.Mistake
	_ eval.Causes
	_ eval.Cause
	_ eval.Confusion
	_ eval.ProposalRecall
	_ eval.Found
	_ eval.Photo
	_ eval.CompareConfig
	_ eval.Comparison
	_ eval.Gain
	_ eval.Interval
	_ eval.Costs
	_ eval.ModelRun
	_ eval.Paper
	_ eval.PaperRow
	_ eval.MismatchError
	_ eval.MOTRow
	_ eval.MOTOptions
	_ eval.MOTResult
	_ eval.HOTAResult
	_ *eval.Evaluator
	_ eval.Detector = detector{}
	_ eval.Proposer = detector{}

	_ report.Photo
	_ report.Opener
)

// params serves a model's parameters from somewhere else.
type params struct{}

func (params) Param(key string, shape resdet.Shape) ([]float32, error) {
	return make([]float32, shape.Len()), nil
}

// detector finds nothing; it is here to be evaluated.
type detector struct{}

func (detector) Detect(context.Context, image.Image) ([]eval.Found, error) { return nil, nil }

func (detector) DetectProposals(context.Context, image.Image) ([]eval.Found, []eval.Box, error) {
	return nil, nil, nil
}

// A data set is evaluated and reported with public names alone.
func TestEvaluate(t *testing.T) {
	data := &coco.Dataset{
		Classes: coco.NamedClasses([]string{"dog"}),
		Images:  []coco.Image{{ID: "7", Width: 100, Height: 100, Objects: []coco.Object{{Box: coco.Box{X: 10, Y: 10, W: 50, H: 50}, Area: 2500}}}},
	}
	found, err := data.Resolve([]coco.Result{{Image: "7", Class: "dog", Score: 0.9, Box: coco.BoxFromCorners(10, 10, 60, 60)}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := eval.DefaultConfig()
	cfg.Classes = []eval.Class{{Name: data.Classes[0].Name, ID: data.Classes[0].ID}}
	e, err := eval.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	object, d := data.Images[0].Objects[0], found.Detections[0]
	truths := []eval.Truth{{ID: 1, Box: eval.Box(object.Box), Area: object.Area}}
	if err := e.Add(0, truths, []eval.Detection{{Class: d.Class, Score: d.Score, Box: eval.Box(d.Box)}}); err != nil {
		t.Fatal(err)
	}
	r, err := e.Result()
	if err != nil {
		t.Fatal(err)
	}
	if ap := r.Metrics.Get("AP"); !(ap > 0.999999) { // pycocotools adds an epsilon
		t.Errorf("AP %v of a perfect detection", ap)
	}
	var page bytes.Buffer
	if err := report.Eval(&page, r, nil); err != nil || page.Len() == 0 {
		t.Errorf("a report of %d bytes, error %v", page.Len(), err)
	}
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
