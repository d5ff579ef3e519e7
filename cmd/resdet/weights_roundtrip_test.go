package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resdet"
	"resdet/internal/formula"
	"resdet/internal/weights"
)

// resdetCommand runs a command line that must succeed.
func resdetCommand(t *testing.T, args ...string) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(args, nil, &out, &errs); code != exitOK {
		t.Fatalf("resdet %s: %d, %s", strings.Join(args, " "), code, errs.String())
	}
}

// Import, export, import: the same model to the last bit.
func TestRoundTrips(t *testing.T) {
	if testing.Short() {
		t.Skip("writes whole networks")
	}
	const narrow = `{"backbone":{"fpn":{"channels":32}},"roi":{"hidden":64}}`
	for _, tt := range []struct{ name, arch, config string }{
		{"pyramid", "resnet18-fpn", narrow},
		{"res5", "resnet18-c4", `{"backbone":{"norm_eps":0,"ceil_pool":true},"transform":{"channel_order":"BGR","scale":1,"std":[1,1,1]}}`},
		{"vgg16", "vgg16", `{"roi":{"hidden":64,"pool":{"kind":"max"}}}`},
		{"background last", "resnet18-fpn", strings.Replace(narrow, `"hidden"`, `"background_last":true,"hidden"`, 1)},
		{"pyramid of three", "resnet34-fpn", `{"backbone":{"fpn":{"stages":[2,3,4],"channels":32}},"roi":{"hidden":64},"rpn":{"anchors":{"sizes":[[32],[64],[128],[256]]}}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file := func(name string) string { return filepath.Join(dir, name) }
			if err := os.WriteFile(file("config.json"), []byte(tt.config), 0o644); err != nil {
				t.Fatal(err)
			}
			cfg, err := resdet.NewConfig(tt.arch, resdet.IndexedClasses("a", "b", "c"))
			if err == nil {
				err = cfg.Merge([]byte(tt.config))
			}
			if err != nil {
				t.Fatal(err)
			}
			specs, err := cfg.Params()
			if err != nil {
				t.Fatal(err)
			}
			if err := weights.Save(file("checkpoint"), []byte("null"), specs, formula.Params{Basic: true}, weights.F32); err != nil {
				t.Fatal(err)
			}
			imported := func(from, config, to string) {
				resdetCommand(t, "weights", "import", file(from), "--arch", tt.arch, "--config", file(config), "--classes", "a,b,c", "--file-classes", "a,b,c",
					"--family", "torchvision-detector", "--out", file(to))
			}
			exported := func(from, to string) {
				resdetCommand(t, "weights", "export", file(from), "--format", "safetensors", "--out", file(to))
			}
			imported("checkpoint", "config.json", "first")
			exported("first", "exported")
			from, to := "first", "second"
			if cfg.ROI.BackgroundLast { // what is exported has it first: it is that file which comes back
				if err := os.WriteFile(file("config.json"), []byte(narrow), 0o644); err != nil {
					t.Fatal(err)
				}
				from, to = "exported", "again"
			}
			imported("exported", "config.json", "second")
			exported("second", "again")
			first, err := os.ReadFile(file(from))
			if err != nil {
				t.Fatal(err)
			}
			second, err := os.ReadFile(file(to))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first, second) {
				t.Error("the models differ")
			}
		})
	}
}
