package resdet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resdet/internal/box"
	"resdet/internal/fixture"
	"resdet/internal/transform"
	"resdet/internal/weights"
)

// TestMinival holds a real model on VOC 2007's photos, imported from the
// checkpoint that torchvision trained, against torchvision's detections: those
// above 0.3 are found with a box within 0.5 px and a score within 0.01. All 1,463 agree, since package jpeg decodes as
// libjpeg does (with image/jpeg's rounding 97.0 % did); one in 200 may not,
// for another CPU may sum in another order. It takes every fifth of the 250
// photos (every 25th in plain Go); RESDET_THOROUGH=1 takes all.
func TestMinival(t *testing.T) {
	if fixture.Race || testing.Short() {
		t.Skip("takes a while")
	}
	var want []struct {
		Image   int        `json:"image_id"`
		ClassID int        `json:"category_id"`
		Box     [4]float32 `json:"bbox"` // x, y, width, height
		Score   float32    `json:"score"`
	}
	b, err := os.ReadFile(fixture.Shared(t, "weights", "voc-resnet50-fpn.detections.json"))
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	voc := fixture.Shared(t, "data", "VOCdevkit", "VOC2007")
	list, err := os.ReadFile(filepath.Join(voc, "ImageSets", "Main", "minival.txt"))
	if err != nil {
		t.Fatal(err)
	}
	d := importCheckpoint(t, fixture.Shared(t, "weights", "voc-resnet50-fpn.pth"), "scripts/default-model.json")
	defer d.Close()
	every := 5
	if strings.HasPrefix(d.Device(), "ref") {
		every = 25
	}
	if os.Getenv("RESDET_THOROUGH") != "" {
		every = 1
	}

	total, agreed, photos := 0, 0, 0
	for i, id := range strings.Fields(string(list)) {
		if i%every != 0 {
			continue
		}
		photos++
		var number int
		fmt.Sscan(strings.TrimLeft(id, "0"), &number)
		f, err := os.Open(filepath.Join(voc, "JPEGImages", id+".jpg"))
		if err != nil {
			t.Fatal(err)
		}
		img, err := transform.Decode(f, transform.DefaultLimits())
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		got, err := d.Detect(context.Background(), img)
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		used := make([]bool, len(got))
		for _, w := range want {
			if w.Image != number || w.Score <= 0.3 {
				continue
			}
			total++
			wb := box.Box{X0: w.Box[0], Y0: w.Box[1], X1: w.Box[0] + w.Box[2], Y1: w.Box[1] + w.Box[3]}
			for j, g := range got {
				if !used[j] && d.cfg.Classes[g.Class].ID == w.ClassID && boxDistance(g.Box, wb) <= 0.5 && max(g.Score-w.Score, w.Score-g.Score) <= 0.01 {
					used[j] = true
					agreed++
					break
				}
			}
		}
	}
	t.Logf("%d of %d detections above 0.3 on %d photos agree (%.2f %%)", agreed, total, photos, 100*float64(agreed)/float64(total))
	if total < photos {
		t.Fatalf("only %d detections to compare with", total)
	}
	if float64(agreed) < 0.995*float64(total) {
		t.Errorf("%d of %d agree: less than 99.5 %%", agreed, total)
	}
}

// importCheckpoint prepares a checkpoint's weights as `resdet weights import`
// does, for the network that a configuration file describes.
func importCheckpoint(t *testing.T, path, config string) *Detector {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := NewConfig("resnet50-fpn", IndexedClasses("to be told"))
	if err == nil {
		err = cfg.Merge(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := cfg.Params()
	if err != nil {
		t.Fatal(err)
	}
	c, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	family, err := weights.FamilyOf(c, "")
	if err != nil {
		t.Fatal(err)
	}
	report := weights.Match(c, family, weights.Network{Params: wanted, Ratios: len(cfg.RPN.Anchors.Ratios)})
	if err := report.Err(); err != nil {
		t.Fatal(err)
	}
	d, err := New(cfg, report, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
