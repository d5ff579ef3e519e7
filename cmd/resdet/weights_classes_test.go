package main

import (
	"bytes"
	"context"
	"image"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resdet"
	"resdet/internal/fixture"
	"resdet/internal/transform"
)

// importDefault makes a model of the built-in one's weights with other flags.
func importDefault(t *testing.T, args ...string) *resdet.Detector {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "scripts", "default-model.json"))
	if err != nil {
		t.Fatal(err)
	}
	// The same without its classes, which the arguments give.
	_, rest, _ := strings.Cut(string(text), "\n  ],\n")
	config, out := filepath.Join(dir, "config.json"), filepath.Join(dir, "model.safetensors")
	if err := os.WriteFile(config, []byte(`{"arch":"resnet50-fpn",`+rest), 0o644); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	args = append([]string{"weights", "import", filepath.Join(fixture.Root(), "internal", "zoo", "default.safetensors"), "--config", config, "--out", out}, args...)
	if code := run(args, nil, &bytes.Buffer{}, &errs); code != exitOK {
		t.Fatalf("import: %d, %s", code, errs.String())
	}
	d, err := resdet.Open(out, resdet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func road(t *testing.T) image.Image {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(fixture.Root(), "testdata", "road.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := transform.Decode(bytes.NewReader(b), transform.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// mappedTolerance is rounding: another width of the head's last matrix changes
// the order of summation.
const mappedTolerance = 1e-3

// A head whose rows were moved by name finds what the original finds.
func TestMappedHeadDetectsTheSame(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the whole network three times")
	}
	original, err := resdet.OpenDefault(resdet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer original.Close()
	img := road(t)
	want, err := original.Detect(context.Background(), img)
	if err != nil || len(want) < 5 {
		t.Fatalf("%d detections, %v", len(want), err)
	}
	ours := original.Config().Classes

	t.Run("all classes by COCO's names, backwards", func(t *testing.T) {
		coco := map[string]string{"aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle",
			"pottedplant": "potted plant", "sofa": "couch", "tvmonitor": "tv"}
		var names []string
		for _, c := range slices.Backward(ours) {
			if other, ok := coco[c.Name]; ok {
				names = append(names, other)
			} else {
				names = append(names, c.Name)
			}
		}
		got, err := importDefault(t, "--classes", strings.Join(names, ",")).Detect(context.Background(), img)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d detections, %v; want %d", len(got), err, len(want))
		}
		for i, w := range want {
			g := got[i]
			if g.Class != len(ours)-1-w.Class || math.Abs(float64(g.Score-w.Score)) > mappedTolerance || distance(g.Box, w.Box) > mappedTolerance {
				t.Errorf("detection %d is %+v, want %+v of class %d", i, g, w, len(ours)-1-w.Class)
			}
		}
	})

	// Scores rise where other classes no longer compete; the boxes are those that
	// the original has for these classes before any is suppressed.
	t.Run("two classes and a new one", func(t *testing.T) {
		s := original.Settings()
		s.Score, s.NMS, s.Max = 0, 1, 100_000
		all, err := original.DetectBatch(context.Background(), []image.Image{img}, s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := importDefault(t, "--classes", "unicorn,tv,car", "--partial").Detect(context.Background(), img)
		if err != nil {
			t.Fatal(err)
		}
		cars := 0
		for _, g := range got {
			name := []string{"unicorn", "tvmonitor", "car"}[g.Class]
			if g.Class == 0 {
				continue
			}
			cars += g.Class / 2
			if !slices.ContainsFunc(all[0].Detections, func(d resdet.Detection) bool {
				return ours[d.Class].Name == name && distance(d.Box, g.Box) <= mappedTolerance && d.Score <= g.Score+mappedTolerance
			}) {
				t.Errorf("%s %+v is none of the original's", name, g)
			}
		}
		if cars < 2 {
			t.Errorf("%d cars among %+v", cars, got)
		}
	})
}

func distance(a, b resdet.Box) float64 {
	d := func(x, y float32) float64 { return math.Abs(float64(x - y)) }
	return max(d(a.X0, b.X0), d(a.Y0, b.Y0), d(a.X1, b.X1), d(a.Y1, b.Y1))
}
