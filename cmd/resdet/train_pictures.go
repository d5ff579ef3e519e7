package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"resdet/eval"
	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/train/data"
	"resdet/internal/transform"
)

// pictured is how many pictures a run writes of each kind.
const pictured = 16

// preview writes augmented images with their boxes, as the network would see
// them first.
func (t *training) preview(ctx context.Context) error {
	dir := filepath.Join(t.o.out, "preview")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	l := data.NewLoader(t.set, t.plan.recipe.Data, t.plan.cfg.Transform, t.plan.recipe.Seed, data.Position{})
	defer l.Close()
	n := 0
	for n < pictured {
		b, err := l.Next(ctx)
		if err != nil {
			return err
		}
		h, w := b.Pixels.Shape[2], b.Pixels.Shape[3]
		for i, v := range b.Views {
			if n == pictured {
				break
			}
			img := t.plan.cfg.Transform.Picture(b.Pixels.Data[3*i*h*w:][:3*h*w], w, v.ScaledWidth, v.ScaledHeight)
			marks := make([]transform.Mark, len(b.Truths[i]))
			for j, o := range b.Truths[i] {
				marks[j] = transform.Mark{Box: o.Box, Text: t.plan.cfg.Classes[o.Class].Name, Colour: transform.Colour(o.Class)}
				if o.Ignore {
					marks[j].Text += " (ignored)"
				}
			}
			transform.DrawMarks(img, marks)
			if err := transform.Save(filepath.Join(dir, fmt.Sprintf("%02d.jpg", n)), img); err != nil {
				return err
			}
			n++
		}
		l.Recycle(b)
	}
	fmt.Fprintf(t.s.out, "%s: %s as the network sees them\n", dir, plural(n, "image"))
	return nil
}

// sure is the least score of a detection that is drawn.
const sure = 0.5

// pictures draws what was found on images of the validation set, spread over
// it evenly.
func (t *training) pictures(r *eval.Result) error {
	dir := filepath.Join(t.o.out, "validation")
	if err := os.RemoveAll(dir); err != nil { // of an earlier end of this run
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	var names []string
	for _, c := range t.val.data.Classes {
		names = append(names, c.Name)
	}
	n := min(pictured, len(r.Images))
	for i := range n {
		im := r.Images[i*len(r.Images)/n]
		photo, err := t.val.open(im)
		if err != nil || photo.Image == nil {
			continue // the report says so
		}
		var dets []det.Detection
		for _, d := range im.Detections {
			if d.Score >= sure {
				dets = append(dets, det.Detection{Class: d.Class, Score: float32(d.Score), Box: box.Box{
					X0: float32(d.Box.X), Y0: float32(d.Box.Y), X1: float32(d.Box.X + d.Box.W), Y1: float32(d.Box.Y + d.Box.H),
				}})
			}
		}
		name := stem(photo.Name) + ".jpg"
		if err := transform.Save(filepath.Join(dir, name), transform.Draw(photo.Image, dets, names)); err != nil {
			return err
		}
	}
	return nil
}
