package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"resdet/coco"
	"resdet/internal/train/data"
)

// trainData is what a run is trained and scored on.
type trainData struct {
	train, val       *coco.Dataset // val: nil if there is none
	trainArg, valArg string        // for people
	specs            []coco.Spec   // what they were read from
}

// noValidation is --val-data of somebody who wants none.
const noValidation = "none"

// loadTrainData reads the training set and the validation set, or splits one
// off: a fifth of the images, drawn by seed.
func loadTrainData(ctx context.Context, arg, valArg string, classes []string, seed uint64) (*trainData, error) {
	spec, err := coco.ParseSpec(arg)
	if err != nil {
		return nil, usageError{err}
	}
	spec.Classes = classes
	t := &trainData{trainArg: arg, valArg: valArg, specs: []coco.Spec{spec}}
	if t.train, err = coco.Load(ctx, spec); err != nil {
		return nil, err
	}
	if len(t.train.Images) == 0 || t.train.Objects() == 0 {
		return nil, fmt.Errorf("%s: %s with %s: there is nothing to train on", arg, plural(len(t.train.Images), "image"), plural(t.train.Objects(), "object"))
	}
	switch valArg {
	case noValidation:
	case "":
		if err := t.split(seed); err != nil {
			return nil, err
		}
	default:
		if err := t.loadValidation(ctx, valArg); err != nil {
			return nil, err
		}
	}
	if t.val != nil && t.val.Objects() == 0 {
		return nil, nothingToScore(t.valArg, t.val)
	}
	for _, d := range []*coco.Dataset{t.train, t.val} {
		if d == nil {
			continue
		}
		if err := d.Validate(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func nothingToScore(arg string, d *coco.Dataset) error {
	return fmt.Errorf("%s: no objects in %s: nothing can be scored on them", arg, plural(len(d.Images), "image"))
}

// split takes a fifth of the images for validation, in their order.
func (t *trainData) split(seed uint64) error {
	n := len(t.train.Images)
	if n < 2 {
		return hintError{fmt.Errorf("%s: a single image cannot be split into training and validation", t.trainArg), "give --val-data SPEC, or --val-data none"}
	}
	held := make([]bool, n)
	for _, i := range rand.New(rand.NewPCG(seed, 0)).Perm(n)[:max(1, (n+2)/5)] {
		held[i] = true
	}
	whole := *t.train
	train, val := whole, whole
	train.Images, val.Images = nil, nil
	for i, im := range whole.Images {
		if held[i] {
			val.Images = append(val.Images, im)
		} else {
			train.Images = append(train.Images, im)
		}
	}
	t.train, t.val = &train, &val
	t.valArg = fmt.Sprintf("%s (%d images held out by seed %d)", t.trainArg, len(val.Images), seed)
	if train.Objects() == 0 {
		return hintError{fmt.Errorf("%s: no objects are left to train on when %d of %d images are held out", t.trainArg, len(val.Images), n), "give --val-data SPEC, or --val-data none"}
	}
	return nil
}

// loadValidation reads the validation set with the training set's classes. It
// may lack some of them but must have no others.
func (t *trainData) loadValidation(ctx context.Context, arg string) error {
	spec, err := coco.ParseSpec(arg)
	if err != nil {
		return usageError{err}
	}
	if t.specs[0].Classes == nil { // otherwise others are left out on purpose
		own, err := coco.Load(ctx, spec)
		if err != nil {
			return err
		}
		if own.Objects() == 0 {
			return nothingToScore(arg, own)
		}
		var unknown []string
		for _, c := range own.Classes {
			if !slices.ContainsFunc(t.train.Classes, func(k coco.Class) bool { return k.Name == c.Name }) {
				unknown = append(unknown, c.Name)
			}
		}
		if len(unknown) > 0 {
			return hintError{
				fmt.Errorf("%s has classes that %s has not: %s", arg, t.trainArg, strings.Join(unknown, ", ")),
				"train and validate on the same classes; --classes NAME,… leaves the others out of both",
			}
		}
	}
	for _, c := range t.train.Classes {
		spec.Classes = append(spec.Classes, c.Name)
	}
	t.specs = append(t.specs, spec)
	t.val, err = coco.Load(ctx, spec)
	return err
}

// fingerprint identifies images, objects and classes, wherever they lie.
func (t *trainData) fingerprint() string {
	h := sha256.New()
	e := json.NewEncoder(h)
	for _, d := range []*coco.Dataset{t.train, t.val} {
		if d == nil {
			continue
		}
		_ = e.Encode(d.Classes) // a hash takes everything
		for i := range d.Images {
			im := &d.Images[i]
			fmt.Fprintf(h, "%q %d %d\n", im.File, im.Width, im.Height)
			for _, o := range im.Objects {
				fmt.Fprintf(h, "%d %v %v %v\n", o.Class, o.Box.Corners(), o.Crowd, o.Difficult)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// maxFindings is how many are printed; resdet data check lists all.
const maxFindings = 20

// unreadable are the photos of a run that cannot be read, by image id: those of
// each data set that it was read from.
type unreadable []map[string]bool

// check looks at photos and annotations as `data check` does. What it finds is
// printed; photos that cannot be read end the run, or are returned to be left
// out.
func (t *trainData) check(ctx context.Context, s streams, corrupt string, quiet bool) (unreadable, error) {
	var broken []string
	var out unreadable
	for _, spec := range t.specs {
		bar := &stepper{s: s, what: "photos checked", quiet: quiet}
		r, err := coco.Check(ctx, coco.CheckConfig{Spec: spec, Step: bar.step})
		bar.stop()
		if err != nil {
			return nil, err
		}
		ids := map[string]bool{}
		for i, f := range r.Faults {
			if i < maxFindings && !quiet {
				fmt.Fprintf(s.err, "%v\n", f)
			}
			switch f.Kind {
			case coco.BadImage, coco.MissingImage, coco.UnsupportedFormat:
				broken = append(broken, fmt.Sprintf("%s: %s", f.File, f.Message))
				ids[f.Image] = true
			}
		}
		out = append(out, ids)
		if n := len(r.Faults); n > 0 && !quiet {
			fmt.Fprintf(s.err, "resdet: %s: %s; resdet data check --data %s lists them with what to do\n", spec, plural(n, "finding"), spec)
		}
	}
	if len(broken) > 0 && corrupt == data.Stop {
		return nil, hintError{
			fmt.Errorf("%s cannot be read: %s", plural(len(broken), "photo"), strings.Join(broken[:min(3, len(broken))], "; ")),
			"repair or remove them (resdet data check --fix DIR writes a copy without them), or set data.corrupt: skip",
		}
	}
	if len(broken) > 0 && !quiet {
		fmt.Fprintf(s.err, "resdet: left out, for they cannot be read: %s\n", plural(len(broken), "photo"))
	}
	return out, nil
}

// leaveOut takes photos out of training and validation.
func (t *trainData) leaveOut(broken unreadable) error {
	for i, ids := range broken {
		of := []*coco.Dataset{t.train, t.val} // a set that was split
		if len(broken) == 2 {
			of = of[i : i+1]
		}
		for _, d := range of {
			if d != nil {
				d.Images = slices.DeleteFunc(d.Images, func(im coco.Image) bool { return ids[im.ID] })
			}
		}
	}
	if t.train.Objects() == 0 {
		return errors.New("no photo with an object that can be read is left to train on")
	}
	if t.val != nil && t.val.Objects() == 0 {
		return errors.New("no photo with an object that can be read is left to score on")
	}
	return nil
}
