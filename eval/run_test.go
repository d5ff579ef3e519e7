package eval

import (
	"context"
	"errors"
	"image"
	"slices"
	"strings"
	"testing"

	"resdet/internal/box"
)

// scripted finds the same in every image.
type scripted struct {
	found []Found
	err   error
}

func (s scripted) Detect(context.Context, image.Image) ([]Found, error) { return s.found, s.err }

// proposing is scripted with a first stage.
type proposing struct{ scripted }

func (p proposing) DetectProposals(context.Context, image.Image) ([]Found, []Box, error) {
	return p.found, []Box{box100}, nil
}

func photos(n int, opened *[]int) []Photo {
	var out []Photo
	for i := range n {
		out = append(out, Photo{ID: int64(i), Name: "p.jpg", Truths: []Truth{object(1, box100)}, Open: func() (image.Image, error) {
			*opened = append(*opened, i)
			return image.NewGray(image.Rect(0, 0, 8, 8)), nil
		}})
	}
	return out
}

func TestRun(t *testing.T) {
	found := []Found{
		{Class: 2, Score: 0.9, Box: box.Box{X0: 10, Y0: 10, X1: 110, Y1: 110}},
		{Class: 0, Score: 0.95, Box: box.Box{X0: 10, Y0: 10, X1: 110, Y1: 110}},
	}
	classes := []int{-1, -1, 0} // the detector's third class is the data's first
	for _, d := range []Detector{scripted{found: found}, proposing{scripted{found: found}}} {
		cfg := DefaultConfig()
		cfg.Classes = []Class{{"thing", 1}}
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var opened []int
		steps := 0
		if err := e.Run(context.Background(), d, photos(5, &opened), classes, func() { steps++ }); err != nil {
			t.Fatal(err)
		}
		r, err := e.Result()
		if err != nil {
			t.Fatal(err)
		}
		near(t, "AP", r.Metrics.Get("AP"), 1, 1e-9)
		if !slices.Equal(opened, []int{0, 1, 2, 3, 4}) || steps != 5 || len(r.Images[0].Detections) != 1 {
			t.Errorf("opened %v, %d steps, %d detections", opened, steps, len(r.Images[0].Detections))
		}
		if _, ok := d.(Proposer); ok != (r.ProposalRecall() != nil) {
			t.Errorf("%T: recall of proposals %v", d, r.ProposalRecall())
		}
	}
}

// A detector that finds nothing, or only what the data set does not show, is bad
// and no mistake: it scores 0.
func TestRunFindsNothing(t *testing.T) {
	for name, found := range map[string][]Found{
		"nothing":       nil,
		"another class": {{Class: 1, Score: 0.9, Box: box.Box{X0: 10, Y0: 10, X1: 110, Y1: 110}}},
	} {
		cfg := DefaultConfig()
		cfg.Classes = []Class{{"thing", 1}, {"other", 2}}
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var opened []int
		if err := e.Run(context.Background(), scripted{found: found}, photos(3, &opened), []int{0, 1}, nil); err != nil {
			t.Fatal(err)
		}
		r, err := e.Result()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		near(t, name, r.Metrics.Get("AP"), 0, 0)
	}
}

func TestRunErrors(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		d     Detector
		spoil func(p []Photo)
		want  string
	}{
		"detector": {d: scripted{err: broken}, want: "p.jpg: broken"},
		"photo": {d: scripted{}, want: "p.jpg: broken", spoil: func(p []Photo) {
			p[1].Open = func() (image.Image, error) { return nil, broken }
		}},
		"class": {d: scripted{found: []Found{{Class: 7}}}, want: "p.jpg: the detector found class 7"},
	} {
		cfg := DefaultConfig()
		cfg.Classes = []Class{{"thing", 1}}
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var opened []int
		ps := photos(3, &opened)
		if c.spoil != nil {
			c.spoil(ps)
		}
		if err := e.Run(context.Background(), c.d, ps, []int{0}, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	cfg := DefaultConfig()
	cfg.Classes = []Class{{"thing", 1}}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var opened []int
	err = e.Run(ctx, scripted{}, photos(100, &opened), []int{0}, cancel)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled run returned %v", err)
	}
}
