package report

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"html/template"
	"image"
	"image/color"
	"image/jpeg"
	"math"

	"golang.org/x/image/draw"

	"resdet/eval"
)

type gallery struct {
	Title, Stamp string
	Boxes        bool // whether there are detections in the pictures
	Pictures     []picture
}

type picture struct {
	Src              template.URL // empty if there is no photo
	Why, Title, Text string
}

// Colours of the boxes; the page's legend has them too.
var (
	detectionColour = color.RGBA{0xff, 0x9f, 0x1c, 0xff}
	truthColour     = color.RGBA{0x2e, 0xc4, 0xb6, 0xff}
)

// galleries shows the worst mistakes as cropped pictures.
func galleries(r *eval.Result, open Opener) []gallery {
	stamp := fmt.Sprintf("%s, IoU 0.50, all areas; %%s; crowd: %s; difficult: %s", r.Protocol, r.Settings.Crowd, r.Settings.Difficult)
	wrong := gallery{Title: "False positives with the highest scores", Boxes: true, Stamp: fmt.Sprintf(stamp, "by score")}
	for _, m := range r.FalsePositives(galleryPictures) {
		p := crop(m, open)
		p.Title = fmt.Sprintf("%s %.2f", r.Classes[m.Detection.Class].Name, m.Detection.Score) + p.Title
		switch {
		case m.IoU < 0.01:
			p.Text = "overlaps no object · " + p.Text
		default:
			p.Text = fmt.Sprintf("IoU %.2f with a %s · %s", m.IoU, r.Classes[m.Truth.Class].Name, p.Text)
		}
		wrong.Pictures = append(wrong.Pictures, p)
	}
	missed := gallery{Title: "Missed objects", Stamp: fmt.Sprintf(stamp, "the largest first")}
	for _, m := range r.Misses(galleryPictures) {
		p := crop(m, open)
		p.Title = r.Classes[m.Truth.Class].Name + p.Title
		p.Text = fmt.Sprintf("%.0f × %.0f · %s", m.Truth.Box.W, m.Truth.Box.H, p.Text)
		missed.Pictures = append(missed.Pictures, p)
	}
	var out []gallery
	for _, g := range []gallery{wrong, missed} {
		if len(g.Pictures) > 0 {
			out = append(out, g)
		}
	}
	return out
}

// crop cuts the mistake out of its photo, with a margin, and draws the boxes.
// Text is the photo's name.
func crop(m eval.Mistake, open Opener) picture {
	photo, err := open(m.Image)
	p := picture{Text: photo.Name}
	if err != nil || photo.Image == nil {
		p.Why = "the photo is not there"
		if err != nil {
			p.Why = "the photo cannot be read: " + err.Error()
		}
		return p
	}
	x0, y0, x1, y1 := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	grow := func(b eval.Box) {
		x0, y0, x1, y1 = min(x0, b.X), min(y0, b.Y), max(x1, b.X+b.W), max(y1, b.Y+b.H)
	}
	if m.Detection != nil {
		grow(m.Detection.Box)
	}
	if m.Truth != nil {
		grow(m.Truth.Box)
	}
	const least, margin, target = 48, 0.25, 360 // pixels, share, pixels
	dx, dy := max(margin*(x1-x0), (least-(x1-x0))/2), max(margin*(y1-y0), (least-(y1-y0))/2)
	bounds := photo.Image.Bounds()
	clip := func(v float64, most int) int { return int(math.Round(min(max(v, 0), float64(most)))) }
	area := image.Rect(clip(x0-dx, bounds.Dx()), clip(y0-dy, bounds.Dy()), clip(x1+dx, bounds.Dx()), clip(y1+dy, bounds.Dy()))
	if area.Empty() {
		p.Why = "the box lies outside the photo"
		return p
	}
	scale := min(float64(target)/float64(max(area.Dx(), area.Dy())), 4)
	out := image.NewRGBA(image.Rect(0, 0, max(1, int(float64(area.Dx())*scale)), max(1, int(float64(area.Dy())*scale))))
	draw.BiLinear.Scale(out, out.Bounds(), photo.Image, area.Add(bounds.Min), draw.Src, nil)
	if m.Truth != nil {
		frame(out, m.Truth.Box, area.Min, scale, truthColour)
	}
	if m.Detection != nil {
		frame(out, m.Detection.Box, area.Min, scale, detectionColour)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, out, &jpeg.Options{Quality: 78}); err != nil {
		p.Why = err.Error()
		return p
	}
	p.Src = template.URL("data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(b.Bytes()))
	return p
}

// frame draws a box of the photo, 3 pixels wide in the picture.
func frame(out *image.RGBA, b eval.Box, origin image.Point, scale float64, c color.RGBA) {
	at := func(v float64, o int) int { return int(math.Round(min(max((v-float64(o))*scale, -1e6), 1e6))) }
	r := image.Rect(at(b.X, origin.X), at(b.Y, origin.Y), at(b.X+b.W, origin.X), at(b.Y+b.H, origin.Y))
	const thick = 3
	for _, edge := range []image.Rectangle{
		{r.Min, image.Pt(r.Max.X, r.Min.Y+thick)}, {image.Pt(r.Min.X, r.Max.Y-thick), r.Max},
		{r.Min, image.Pt(r.Min.X+thick, r.Max.Y)}, {image.Pt(r.Max.X-thick, r.Min.Y), r.Max},
	} {
		draw.Draw(out, edge, image.NewUniform(c), image.Point{}, draw.Src)
	}
}
