package main

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"resdet"
	"resdet/coco"
	"resdet/internal/weights"
)

// zeros is a file that begins with the head; no byte of the rest is looked at.
type zeros []byte

func (z zeros) ReadAt(b []byte, at int64) (int, error) {
	clear(b)
	if at < int64(len(z)) {
		copy(b, z[at:])
	}
	return len(b), nil
}

// checkpointOf has the parameters of a network, under other names if rename
// says so.
func checkpointOf(t *testing.T, arch string, classes int, rename func(string) string) *weights.Checkpoint {
	t.Helper()
	cfg, err := resdet.NewConfig(arch, indexed(classes))
	if err != nil {
		t.Fatal(err)
	}
	specs, err := cfg.Params()
	if err != nil {
		t.Fatal(err)
	}
	header, at := map[string]any{}, 0
	for _, s := range specs {
		size := 4 * s.Shape.Len()
		header[rename(s.Key)] = map[string]any{"dtype": "F32", "shape": s.Shape, "data_offsets": []int{at, at + size}}
		at += size
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	head := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	c, err := weights.OpenReader("file", io.ReaderAt(zeros(head)), int64(len(head)+at))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func indexed(n int) []resdet.Class {
	var names []string
	for i := range n {
		names = append(names, "c"+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	return resdet.IndexedClasses(names...)
}

// The hint of a checkpoint that does not fit says what would.
func TestFitHint(t *testing.T) {
	same := func(key string) string { return key }
	voc := classesOf(coco.VOCClasses())
	for name, tt := range map[string]struct {
		file, arch string
		rows       int // of the file
		rename     func(string) string
		wanted     []resdet.Class
		want       string
	}{
		"another architecture":            {"resnet18-fpn", "resnet34-fpn", 8, same, indexed(7), "its tensors are those of resnet18-fpn with 7 classes and the background"},
		"another number of classes":       {"resnet18-c4", "resnet18-c4", 8, same, indexed(3), "its tensors are those of resnet18-c4 with 7 classes and the background"},
		"another architecture, for COCO":  {"resnet18-fpn", "resnet34-fpn", 91, same, voc, "its tensors are those of resnet18-fpn for COCO, with a row for every id up to 90: --arch resnet18-fpn --classes-from coco"},
		"other classes of COCO":           {"resnet18-fpn", "resnet18-fpn", 91, same, voc, "--partial carries over the head's rows of classes with the same names"},
		"names of nobody":                 {"resnet18-fpn", "resnet18-fpn", 8, func(key string) string { return "x" + key }, indexed(7), "the names are not known; resdet weights inspect lists them"},
		"a head that no architecture has": {"resnet18-fpn", "resnet18-fpn", 8, func(key string) string { return strings.Replace(key, "fc7", "fc8", 1) }, indexed(7), "--partial takes what fits"},
	} {
		t.Run(name, func(t *testing.T) {
			c := checkpointOf(t, tt.file, tt.rows-1, tt.rename)
			family, err := weights.FamilyOf(c, "")
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := resdet.NewConfig(tt.arch, tt.wanted)
			if err != nil {
				t.Fatal(err)
			}
			report, _, err := matchClasses(c, family, cfg, nil)
			if err != nil || report.Err() == nil {
				t.Fatalf("it fits: %v", err)
			}
			matched, _ := report.Count(weights.Matched)
			if hint := fitHint(c, family, report, matched); !strings.HasPrefix(hint, tt.want) {
				t.Errorf("hint %q, want %q", hint, tt.want)
			}
		})
	}
}
