package transform

import (
	"bufio"
	"cmp"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"resdet/internal/box"
	"resdet/internal/det"
)

// Draw returns a copy of img, opaque and with its corner at the origin, on
// which the detections are boxed and labelled with their class's name and score.
// Boxes are in original pixels of img; each class has its colour; classes
// beyond names are numbered, and an empty name means no label. A surer
// detection lies over a less sure one.
func Draw(img image.Image, dets []det.Detection, names []string) *image.RGBA {
	copied := opaque(img) // where all is opaque, NRGBA and RGBA are one
	out := &image.RGBA{Pix: copied.Pix, Stride: copied.Stride, Rect: copied.Rect}

	sorted := slices.Clone(dets)
	slices.SortStableFunc(sorted, func(a, b det.Detection) int { return cmp.Compare(b.Score, a.Score) })
	marks := make([]Mark, len(sorted))
	for i, d := range sorted {
		marks[i] = Mark{d.Box, label(d, names), Colour(d.Class)}
	}
	DrawMarks(out, marks)
	return out
}

// Mark is a box to be drawn, in pixels of the picture, with its label's text
// (none if empty).
type Mark struct {
	Box    box.Box
	Text   string
	Colour color.RGBA
}

// DrawMarks draws marks on out itself, which must be opaque with its corner at
// the origin. The first ones lie over the others. Lines and letters grow with
// the picture, and labels stay inside it and clear of each other where there is
// room. Boxes that are not finite are left out.
func DrawMarks(out *image.RGBA, marks []Mark) {
	marks = slices.DeleteFunc(slices.Clone(marks), func(m Mark) bool { return !m.Box.Finite() })
	side := math.Sqrt(float64(out.Rect.Dx()) * float64(out.Rect.Dy()))
	line := max(1, int(side/340+0.5)) // 1 at 64×48, 2 at 640×480, 3 at 1280×720, 20 at 8000×6000
	boxes := make([]image.Rectangle, len(marks))
	texts := make([]string, len(marks))
	for i, m := range marks {
		b := m.Box.Clip(float32(out.Rect.Dx()), float32(out.Rect.Dy()))
		boxes[i] = image.Rect(round(b.X0), round(b.Y0), round(b.X1), round(b.Y1))
		texts[i] = m.Text
	}
	for i := range slices.Backward(marks) {
		frame(out, boxes[i], line, marks[i].Colour)
	}
	plates := layout(texts, boxes, out.Rect, max(9, side/54)) // letters of 9 pixels are the smallest that read well
	for i := range slices.Backward(marks) {
		plates[i].draw(out, marks[i].Colour)
	}
}

func label(d det.Detection, names []string) string {
	if d.Class >= 0 && d.Class < len(names) {
		if names[d.Class] == "" {
			return ""
		}
		return fmt.Sprintf("%s %.2f", names[d.Class], d.Score)
	}
	return fmt.Sprintf("class %d %.2f", d.Class, d.Score)
}

func round(v float32) int { return int(math.Floor(float64(v) + 0.5)) }

// Colour returns a class's colour, the same in every picture: hues a golden
// angle apart, so that any few neighbouring classes differ, in three
// lightnesses of Oklab, so that equal hues come far apart.
func Colour(class int) color.RGBA {
	hue := math.Mod(0.08+float64(class)*0.61803398875, 1) * 2 * math.Pi
	lightness := [3]float64{0.72, 0.62, 0.82}[((class%3)+3)%3]
	a, b := 0.17*math.Cos(hue), 0.17*math.Sin(hue)
	// Oklab to linear sRGB (Ottosson 2020).
	l := cube(lightness + 0.3963377774*a + 0.2158037573*b)
	m := cube(lightness - 0.1055613458*a - 0.0638541728*b)
	s := cube(lightness - 0.0894841775*a - 1.2914855480*b)
	return color.RGBA{
		gamma(4.0767416621*l - 3.3077115913*m + 0.2309699292*s),
		gamma(-1.2684380046*l + 2.6097574011*m - 0.3413193965*s),
		gamma(-0.0041960863*l - 0.7034186147*m + 1.7076147010*s),
		255,
	}
}

func cube(v float64) float64 { return v * v * v }

// gamma encodes a linear value as an 8-bit sRGB level.
func gamma(v float64) uint8 {
	v = min(1, max(0, v))
	if v <= 0.0031308 {
		return uint8(255*12.92*v + 0.5)
	}
	return uint8(255*(1.055*math.Pow(v, 1/2.4)-0.055) + 0.5)
}

// ink is black or white, whichever reads better on the colour.
func ink(on color.RGBA) color.RGBA {
	if 299*int(on.R)+587*int(on.G)+114*int(on.B) > 128*1000 {
		return color.RGBA{0, 0, 0, 255}
	}
	return color.RGBA{255, 255, 255, 255}
}

// frame draws a box's outline, its outer edge on the box, between thin dark
// lines that set it off from a ground of its own colour.
func frame(out *image.RGBA, box image.Rectangle, line int, c color.RGBA) {
	shade := image.NewUniform(color.RGBA{0, 0, 0, 110})
	halo := (line + 2) / 4
	outline(out, box.Inset(-halo), halo, shade)
	outline(out, box, line, image.NewUniform(c))
	outline(out, box.Inset(line), halo, shade)
}

func outline(out *image.RGBA, r image.Rectangle, width int, c image.Image) {
	width = min(width, (r.Dx()+1)/2, (r.Dy()+1)/2) // a tiny box is filled
	if width <= 0 {
		return
	}
	inner := r.Inset(width)
	for _, side := range []image.Rectangle{
		{r.Min, image.Pt(r.Max.X, r.Min.Y+width)},
		{image.Pt(r.Min.X, r.Max.Y-width), r.Max},
		image.Rect(r.Min.X, r.Min.Y+width, r.Min.X+width, r.Max.Y-width),
		image.Rect(r.Max.X-width, r.Min.Y+width, r.Max.X, r.Max.Y-width),
	} {
		if !inner.Empty() || side.Dy() == width {
			draw.Draw(out, side, c, image.Point{}, draw.Over)
		}
	}
}

// plate is a label: text on a filled rectangle.
type plate struct {
	text   string
	face   font.Face
	size   image.Point
	origin image.Point // the text's baseline within the plate
	at     image.Rectangle
}

// layout places a label of size pixels at each box, the first ones best.
func layout(texts []string, boxes []image.Rectangle, picture image.Rectangle, size float64) []plate {
	faces := faces{}
	plates := make([]plate, len(texts))
	taken := make([]image.Rectangle, 0, len(texts))
	for i := range plates {
		plates[i] = newPlate(texts[i], size, picture.Dx(), faces)
		plates[i].place(boxes[i], picture, taken)
		if texts[i] != "" {
			taken = append(taken, plates[i].at)
		}
	}
	return plates
}

// faces holds the letters of one picture by their size.
type faces map[float64]font.Face

var bold = sync.OnceValue(func() *opentype.Font {
	f, err := opentype.Parse(gobold.TTF)
	if err != nil {
		panic(err) // the font is part of the program
	}
	return f
})

func (f faces) of(size float64) font.Face {
	if f[size] == nil {
		face, err := opentype.NewFace(bold(), &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
		if err != nil {
			panic(err) // never: opentype reports none
		}
		f[size] = face
	}
	return f[size]
}

// newPlate measures text at size pixels. Where it is wider than the picture the
// letters shrink to seven pixels at least, then the text is cut.
func newPlate(text string, size float64, width int, faces faces) plate {
	const smallest = 7
	measure := func() int { return font.MeasureString(faces.of(size), text).Ceil() + 2*padding(size) }
	across := measure()
	for across > width && size > smallest {
		size = max(smallest, size*0.9)
		across = measure()
	}
	for across > width && text != "" {
		_, n := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-n]
		across = measure()
	}
	pad, m := padding(size), faces.of(size).Metrics()
	return plate{
		text:   text,
		face:   faces.of(size),
		size:   image.Pt(across, m.Ascent.Ceil()+m.Descent.Ceil()+pad/2),
		origin: image.Pt(pad, m.Ascent.Ceil()+pad/4),
	}
}

func padding(size float64) int { return max(1, int(size/4)) }

// place chooses where the plate stands: on top of its box if it can, else
// inside, below, or further down within it; the first place that is free, or
// the one that covers the least of other labels.
func (p *plate) place(box, picture image.Rectangle, taken []image.Rectangle) {
	var candidates []image.Point
	for _, y := range []int{box.Min.Y - p.size.Y, box.Min.Y, box.Max.Y, box.Max.Y - p.size.Y} {
		candidates = append(candidates, image.Pt(box.Min.X, y), image.Pt(box.Max.X-p.size.X, y))
	}
	for y := box.Min.Y + p.size.Y; y+p.size.Y <= box.Max.Y; y += p.size.Y {
		candidates = append(candidates, image.Pt(box.Min.X, y), image.Pt(box.Max.X-p.size.X, y))
	}
	least := math.MaxInt
	for _, c := range candidates {
		at := within(image.Rectangle{c, c.Add(p.size)}, picture)
		covered := 0
		for _, t := range taken {
			s := at.Intersect(t)
			covered += s.Dx() * s.Dy()
		}
		if at.Min != c { // moved to stay inside: only if nothing better is free
			covered = covered*2 + 1
		}
		if covered < least {
			least, p.at = covered, at
		}
		if covered == 0 {
			return
		}
	}
}

// within moves r inside the picture; its top left counts if it is larger.
func within(r, picture image.Rectangle) image.Rectangle {
	d := image.Pt(min(0, picture.Max.X-r.Max.X), min(0, picture.Max.Y-r.Max.Y))
	r = r.Add(d)
	return r.Add(image.Pt(max(0, picture.Min.X-r.Min.X), max(0, picture.Min.Y-r.Min.Y)))
}

func (p *plate) draw(out *image.RGBA, c color.RGBA) {
	if p.text == "" {
		return
	}
	draw.Draw(out, p.at, image.NewUniform(c), image.Point{}, draw.Src)
	at := p.at.Min.Add(p.origin)
	d := font.Drawer{Dst: out, Src: image.NewUniform(ink(c)), Face: p.face, Dot: fixed.P(at.X, at.Y)}
	d.DrawString(p.text)
}

// Save writes img to a file in the format that its extension says, as [Encode]
// does. A file that could not be written whole is removed.
func Save(path string, img image.Image) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("transform: %w", err)
	}
	defer func() {
		if closed := f.Close(); err == nil && closed != nil {
			err = fmt.Errorf("transform: %w", closed)
		}
		if err != nil {
			os.Remove(path)
		}
	}()
	w := bufio.NewWriter(f)
	if err := Encode(w, path, img); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("transform: %w", err)
	}
	return nil
}

// Encode writes img in the format that the name's extension says: .jpg and
// .jpeg (quality 92) or .png.
func Encode(w io.Writer, name string, img image.Image) error {
	var err error
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".jpg", ".jpeg":
		err = jpeg.Encode(w, img, &jpeg.Options{Quality: 92})
	case ".png":
		err = png.Encode(w, img)
	default:
		return fmt.Errorf("transform: %s: pictures are written as .jpg, .jpeg or .png, not %q", name, ext)
	}
	if err != nil {
		return fmt.Errorf("transform: %s: %w", name, err)
	}
	return nil
}
