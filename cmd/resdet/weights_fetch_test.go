package main

import (
	"slices"
	"testing"

	"resdet/internal/fetch"
	"resdet/internal/weights"
)

// Every published file can become a model: its architecture, family, classes
// and settings are known to the importer.
func TestPublishedFilesCanBeImported(t *testing.T) {
	for _, p := range fetch.Table {
		var o fetchOptions
		if p.Backbone() {
			o.classes = []string{"cat"}
		}
		in, err := o.importing(p)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := in.configuration(nil, nil)
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		if !slices.Contains(weights.Families(), in.family) {
			t.Errorf("%s: family %q is not known", p.Name, in.family)
		}
		if in.partial != p.Backbone() || cfg.Provenance.Source != p.URL || cfg.Provenance.License != p.License || in.out != p.Name+".safetensors" {
			t.Errorf("%s: %+v, %+v", p.Name, in, cfg.Provenance)
		}
		if want := map[string]int{"coco": 80, "voc": 20, "": 1}[p.Classes]; len(cfg.Classes) != want {
			t.Errorf("%s: %d classes, want %d", p.Name, len(cfg.Classes), want)
		}
	}
	// For other classes the head's own are said, so that rows move by name.
	p, _ := fetch.Find("detectron2-r50-fpn-3x")
	in, err := fetchOptions{importOptions: importOptions{classesFrom: "voc", partial: true}}.importing(p)
	if err != nil || !slices.Equal(in.fileClasses, []string{"coco"}) || in.classesFrom != "voc" {
		t.Errorf("%+v, %v", in, err)
	}
}
