// Package data makes batches of a dataset for training: it decodes photos,
// changes them at random, and writes them as the network takes them, on
// several goroutines, a few batches ahead. Nothing else of the dataset is in
// memory but its annotations.
//
//	coco.Dataset ─ NewSet ▶ Set ─ Sampler ▶ indices ─ Loader: decode ▶ resize ▶ colour ▶ flip ▶ Batch
//
// Everything random about an image follows from the run's seed, the epoch and
// the image's index, and not from which goroutine takes it or when.
//
// Boxes of the dataset are in original pixels, those of a batch in network
// pixels (package det).
package data

import (
	"errors"
	"fmt"
	"slices"

	"resdet/coco"
)

// What can become of objects and images that some data sets mark.
const (
	Use    = "use"    // like any other
	Drop   = "drop"   // as if it were not annotated: it is background
	Ignore = "ignore" // neither object nor background

	Keep = "keep" // train on it
	Skip = "skip" // go on without it
	Stop = "stop" // end with an error
)

// Config says which images and objects are trained on, and how. The zero value
// is not valid; start from [DefaultConfig].
type Config struct {
	// Batch is how many images go through the network together.
	Batch int `json:"batch"`
	// Difficult says what VOC's difficult objects are: use, drop or ignore.
	Difficult string `json:"difficult"`
	// Crowd says what COCO's crowd regions are: drop or ignore.
	Crowd string `json:"crowd"`
	// Empty says whether images without objects are trained on: keep or skip.
	Empty string `json:"empty"`
	// Corrupt says what a photo that cannot be read does: skip or stop.
	Corrupt string  `json:"corrupt"`
	Augment Augment `json:"augment"`
	// Workers decode and transform, each a batch at a time. The result does not
	// depend on it.
	Workers int `json:"workers"`
}

// DefaultConfig is torchvision's: batches of 2 images, flipped half of the
// time; difficult objects used, crowds left out, empty images kept.
func DefaultConfig() Config {
	return Config{Batch: 2, Difficult: Use, Crowd: Drop, Empty: Keep, Corrupt: Stop, Augment: Augment{Flip: 0.5, Scale: [2]float64{1, 1}}, Workers: 2}
}

// Validate reports everything that cannot work.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("data: "+format, args...)) }
	if c.Batch < 1 || c.Batch > 256 {
		bad("batch %d is not in 1…256", c.Batch)
	}
	if c.Workers < 1 || c.Workers > 256 {
		bad("workers %d are not in 1…256", c.Workers)
	}
	for _, f := range []struct {
		name, value string
		allowed     []string
	}{
		{"difficult", c.Difficult, []string{Use, Drop, Ignore}},
		{"crowd", c.Crowd, []string{Drop, Ignore}},
		{"empty", c.Empty, []string{Keep, Skip}},
		{"corrupt", c.Corrupt, []string{Skip, Stop}},
	} {
		if !slices.Contains(f.allowed, f.value) {
			bad("%s is %q, want one of %v", f.name, f.value, f.allowed)
		}
	}
	return errors.Join(append(errs, c.Augment.Validate())...)
}

// Set is what is trained on: the images of a dataset that the configuration
// leaves in it. It does not change and may be shared by goroutines.
type Set struct {
	images   []entry
	portrait []bool // higher than wide
}

// entry is an annotated photo.
type entry struct {
	name, path string
	objects    []object
}

// object has its box in original pixels.
type object struct {
	coco.Box
	class  int
	ignore bool
}

// NewSet takes the images and objects of d that cfg leaves in. Classes are d's.
// It is an error if nothing is left.
func NewSet(d *coco.Dataset, cfg Config) (*Set, error) {
	s := &Set{}
	objects := 0
	for i := range d.Images {
		im := &d.Images[i]
		one := entry{name: im.File, path: im.Path}
		ignored := 0
		for _, o := range im.Objects {
			what := Use
			switch {
			case o.Crowd:
				what = cfg.Crowd
			case o.Difficult:
				what = cfg.Difficult
			}
			if what == Drop {
				continue
			}
			if what == Ignore {
				ignored++
			}
			one.objects = append(one.objects, object{o.Box, o.Class, what == Ignore})
		}
		real := len(one.objects) - ignored
		if real == 0 && cfg.Empty == Skip {
			continue
		}
		if im.Path == "" {
			return nil, fmt.Errorf("data: %s: the photo of %q is not to be found; say where the photos are with images=DIR", d.Path, im.File)
		}
		objects += real
		s.images = append(s.images, one)
		s.portrait = append(s.portrait, im.Height > im.Width) // unknown sizes stand with the others
	}
	switch {
	case len(s.images) == 0:
		return nil, fmt.Errorf("data: %s: no image to train on, of %d in the data set", d.Path, len(d.Images))
	case objects == 0:
		return nil, fmt.Errorf("data: %s: no object to train on in %d images", d.Path, len(s.images))
	}
	return s, nil
}

// Len returns the number of images.
func (s *Set) Len() int { return len(s.images) }
