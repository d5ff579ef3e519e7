package deploy

import (
	"context"
	"image"
	"image/png"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"resdet"
	"resdet/web"
)

// nothing is a detector that finds nothing.
type nothing struct{}

func (nothing) Detect(_ context.Context, images []image.Image, _ web.Settings) ([][]web.Detection, web.Timing, error) {
	return make([][]web.Detection, len(images)), web.Timing{Compile: 1}, nil
}

// exposed returns the names of the server's series after it has detected and
// refused something.
func exposed(t *testing.T) []string {
	t.Helper()
	server, err := web.New(web.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	cfg, err := resdet.NewConfig("resnet18-fpn", resdet.IndexedClasses("thing"))
	if err != nil {
		t.Fatal(err)
	}
	model := web.Model{Name: "m", Detector: nothing{}, Close: func() error { return nil },
		Info: web.Info{Arch: cfg.Arch, Classes: []web.Class{{ID: 1, Name: "thing"}}, Transform: cfg.Transform}}
	if err := server.SetModels(model); err != nil {
		t.Fatal(err)
	}
	get := httptest.NewServer(server.Handler())
	defer get.Close()
	var photo strings.Builder
	if err := png.Encode(&photo, image.NewGray(image.Rect(0, 0, 32, 32))); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{photo.String(), "not a picture"} {
		res, err := http.Post(get.URL+"/v1/detect", "image/png", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	res, err := http.Get(get.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if name, _, ok := strings.Cut(line, " "); ok && name != "#" {
			name, _, _ = strings.Cut(name, "{")
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
