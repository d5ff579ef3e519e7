package data

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"resdet/coco"
	"resdet/internal/det"
	"resdet/internal/transform"
)

// makeSet writes photos, each with one bright object on a dark ground; every
// third photo is higher than wide, every fifth has no object.
func makeSet(t testing.TB, n int) *coco.Dataset {
	t.Helper()
	dir := t.TempDir()
	d := &coco.Dataset{Path: "made", Classes: coco.NamedClasses([]string{"thing", "other"})}
	for i := range n {
		w, h := 60+i%7, 40
		if i%3 == 0 {
			w, h = h, w
		}
		img := image.NewRGBA(image.Rect(0, 0, w, h))
		draw.Draw(img, img.Rect, image.NewUniform(color.RGBA{20, 30, 40, 255}), image.Point{}, draw.Src)
		im := coco.Image{ID: fmt.Sprint(i), File: fmt.Sprintf("%03d.png", i), Width: w, Height: h}
		im.Path = filepath.Join(dir, im.File)
		if i%5 != 0 {
			b := coco.Box{X: 4, Y: 6, W: 16, H: 20}
			draw.Draw(img, image.Rect(4, 6, 20, 26), image.NewUniform(color.RGBA{250, 240, 230, 255}), image.Point{}, draw.Src)
			im.Objects = []coco.Object{{ID: int64(i), Class: i % 2, Box: b, Area: b.Area()}}
		}
		f, err := os.Create(im.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, img); err != nil {
			t.Fatal(err)
		}
		f.Close()
		d.Images = append(d.Images, im)
	}
	return d
}

// exactly compares pixels at once; number by number takes a minute under the
// race detector.
var exactly = cmp.Comparer(slices.Equal[[]float32])

func smallTransform() transform.Config {
	c := transform.DefaultConfig()
	c.ShortSide, c.LongSide, c.PadMultiple = 48, 80, 16
	return c
}

// wild is every change at once.
func wild() Config {
	c := DefaultConfig()
	c.Augment = Augment{Flip: 0.5, ShortSides: []int{32, 48, 64}, Scale: [2]float64{0.8, 1.25}, Brightness: 0.3, Contrast: 0.3, Saturation: 0.5, Hue: 0.1}
	return c
}

// take returns the next n batches, copied.
func take(t testing.TB, l *Loader, n int) []*Batch {
	t.Helper()
	var out []*Batch
	for range n {
		b, err := l.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		c := *b
		p := *b.Pixels
		p.Data = slices.Clone(p.Data)
		c.Pixels = &p
		out = append(out, &c)
		l.Recycle(b)
	}
	return out
}

func newSet(t testing.TB, d *coco.Dataset, cfg Config) *Set {
	t.Helper()
	s, err := NewSet(d, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWorkersDoNotChangeTheResult(t *testing.T) {
	d := makeSet(t, 13)
	batches := map[int][]*Batch{}
	for _, workers := range []int{1, 4} {
		cfg := wild()
		cfg.Workers = workers
		l := NewLoader(newSet(t, d, cfg), cfg, smallTransform(), 42, Position{})
		batches[workers] = take(t, l, 20)
		l.Close()
	}
	if diff := cmp.Diff(batches[1], batches[4], exactly); diff != "" {
		t.Errorf("one worker and four differ:\n%.2000s", diff)
	}
}

func TestPositionIsRestored(t *testing.T) {
	d := makeSet(t, 13)
	cfg := wild()
	set := newSet(t, d, cfg)
	whole := NewLoader(set, cfg, smallTransform(), 42, Position{})
	defer whole.Close()
	want := take(t, whole, 20)
	for _, at := range []int{1, 6, 7, 13} {
		l := NewLoader(set, cfg, smallTransform(), 42, Position{})
		take(t, l, at)
		from := l.Position()
		l.Close()
		l = NewLoader(set, cfg, smallTransform(), 42, from)
		if diff := cmp.Diff(want[at:at+5], take(t, l, 5), exactly); diff != "" {
			t.Errorf("from batch %d (%+v):\n%.2000s", at, from, diff)
		}
		l.Close()
	}
}

func TestSeedsAndEpochsDiffer(t *testing.T) {
	d := makeSet(t, 12)
	cfg := wild()
	set := newSet(t, d, cfg)
	perEpoch := NewSampler(set, cfg.Batch, 1).Batches()
	names := func(seed uint64, epoch int) (out []string) {
		l := NewLoader(set, cfg, smallTransform(), seed, Position{Epoch: epoch})
		defer l.Close()
		for _, b := range take(t, l, perEpoch) {
			out = append(out, b.Names...)
		}
		return out
	}
	if slices.Equal(names(1, 0), names(2, 0)) {
		t.Error("two seeds give one order")
	}
	if slices.Equal(names(1, 0), names(1, 1)) {
		t.Error("two epochs have one order")
	}
	seeds := map[uint64]bool{}
	l := NewLoader(set, cfg, smallTransform(), 1, Position{})
	defer l.Close()
	for _, b := range take(t, l, 3*perEpoch) {
		if seeds[b.Seed] {
			t.Error("two batches have one seed")
		}
		seeds[b.Seed] = true
	}
}

func TestSampler(t *testing.T) {
	for _, n := range []int{1, 2, 7, 40} {
		for _, batch := range []int{1, 2, 3, 8} {
			set := &Set{images: make([]entry, n)}
			for i := range n {
				set.portrait = append(set.portrait, i%3 == 0)
			}
			s := NewSampler(set, batch, 9)
			for epoch := range 3 {
				batches := s.Epoch(epoch)
				if len(batches) != s.Batches() {
					t.Fatalf("%d images by %d: %d batches, want %d", n, batch, len(batches), s.Batches())
				}
				seen := map[int]bool{}
				for _, b := range batches {
					if len(b) != batch {
						t.Fatalf("a batch of %d images, want %d", len(b), batch)
					}
					for _, i := range b {
						seen[i] = true
						if set.portrait[i] != set.portrait[b[0]] {
							t.Fatalf("batch %v mixes wide and high images", b)
						}
					}
				}
				if len(seen) != n {
					t.Fatalf("%d images by %d: an epoch has %d of them", n, batch, len(seen))
				}
			}
		}
	}
}

// TestTruthsLieOnTheirObjects looks at pixels: within its box an object is
// bright, around it all is dark, however the image was changed.
func TestTruthsLieOnTheirObjects(t *testing.T) {
	d := makeSet(t, 15)
	cfg := wild()
	tc := smallTransform()
	l := NewLoader(newSet(t, d, cfg), cfg, tc, 5, Position{})
	defer l.Close()
	objects, flipped := 0, 0
	for _, b := range take(t, l, 40) {
		h, w := b.Pixels.Shape[2], b.Pixels.Shape[3]
		for n, truths := range b.Truths {
			green := b.Pixels.Data[(3*n+1)*h*w:][:h*w]
			v := b.Views[n]
			for y := range h {
				for x := range w {
					if (x >= v.ScaledWidth || y >= v.ScaledHeight) && green[y*w+x] != 0 {
						t.Fatalf("%s: padding at %d,%d is %v", b.Names[n], x, y, green[y*w+x])
					}
				}
			}
			for _, o := range truths {
				objects++
				if o.Box.X0 > float32(v.ScaledWidth)/2 {
					flipped++
				}
				at := func(x, y float32) float32 { return green[int(y)*w+int(x)] }
				cx, cy := (o.Box.X0+o.Box.X1)/2, (o.Box.Y0+o.Box.Y1)/2
				const in = 2.5
				for _, p := range [][4]float32{
					{o.Box.X0 + in, cy, o.Box.X0 - in, cy}, {o.Box.X1 - in, cy, o.Box.X1 + in, cy},
					{cx, o.Box.Y0 + in, cx, o.Box.Y0 - in}, {cx, o.Box.Y1 - in, cx, o.Box.Y1 + in},
				} {
					if inside, outside := at(p[0], p[1]), at(p[2], p[3]); inside < outside+1 {
						t.Fatalf("%s: %+v: %v within, %v beyond the edge", b.Names[n], o.Box, inside, outside)
					}
				}
			}
		}
	}
	if objects < 30 || flipped < 5 || flipped > objects-5 {
		t.Errorf("%d of %d objects are on the right", flipped, objects)
	}
}

// TestUnchangedIsInference compares with what a detector would be given.
func TestUnchangedIsInference(t *testing.T) {
	d := makeSet(t, 3)
	cfg := DefaultConfig()
	cfg.Augment.Flip, cfg.Batch = 0, 1
	tc := smallTransform()
	l := NewLoader(newSet(t, d, cfg), cfg, tc, 1, Position{})
	defer l.Close()
	for _, b := range take(t, l, 3) {
		img, err := readPhoto(d.Images[slices.IndexFunc(d.Images, func(im coco.Image) bool { return im.File == b.Names[0] })].Path)
		if err != nil {
			t.Fatal(err)
		}
		view, shape := tc.Plan(img.Bounds().Dx(), img.Bounds().Dy())
		want := make([]float32, shape.Len())
		if err := tc.Write(want, shape[2], shape[3], img, view, transform.NewScratch(1)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(want, b.Pixels.Data) || !shape.Equal(b.Pixels.Shape) || view != b.Views[0] {
			t.Errorf("%s differs from what inference sees", b.Names[0])
		}
	}
}

func TestCorrupt(t *testing.T) {
	d := makeSet(t, 6)
	if err := os.WriteFile(d.Images[1].Path, []byte("\xff\xd8\xff broken"), 0o666); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	l := NewLoader(newSet(t, d, cfg), cfg, smallTransform(), 1, Position{})
	var err error
	for range 5 {
		if _, err = l.Next(context.Background()); err != nil {
			break
		}
	}
	l.Close()
	if err == nil || !strings.Contains(err.Error(), "001.png") {
		t.Errorf("error %v, want one that names 001.png", err)
	}

	cfg.Corrupt = Skip
	l = NewLoader(newSet(t, d, cfg), cfg, smallTransform(), 1, Position{})
	defer l.Close()
	skipped := 0
	for _, b := range take(t, l, 5) {
		skipped += len(b.Skipped)
		if len(b.Names) != 2 || slices.Contains(b.Names, "001.png") {
			t.Errorf("batch of %v", b.Names)
		}
	}
	if skipped == 0 {
		t.Error("nobody was told of the broken photo")
	}

	for _, im := range d.Images {
		os.Remove(im.Path)
	}
	gone := NewLoader(newSet(t, d, cfg), cfg, smallTransform(), 1, Position{})
	defer gone.Close()
	if _, err := gone.Next(context.Background()); err == nil {
		t.Error("a batch of photos that are not there")
	}
}

func TestNewSet(t *testing.T) {
	b := coco.Box{X: 1, Y: 1, W: 5, H: 5}
	d := &coco.Dataset{Path: "made", Images: []coco.Image{
		{File: "plain", Path: "p", Objects: []coco.Object{{Box: b}}},
		{File: "crowd", Path: "p", Objects: []coco.Object{{Box: b, Crowd: true}}},
		{File: "difficult", Path: "p", Objects: []coco.Object{{Box: b, Difficult: true}, {Box: b, Class: 1}}},
		{File: "empty", Path: "p"},
	}}
	count := func(cfg Config) (images, objects, ignored int) {
		s := newSet(t, d, cfg)
		for _, im := range s.images {
			for _, o := range im.objects {
				if o.ignore {
					ignored++
				} else {
					objects++
				}
			}
		}
		return s.Len(), objects, ignored
	}
	for _, c := range []struct {
		difficult, crowd, empty  string
		images, objects, ignored int
	}{
		{Use, Drop, Keep, 4, 3, 0},
		{Drop, Drop, Keep, 4, 2, 0},
		{Ignore, Ignore, Keep, 4, 2, 2},
		{Drop, Ignore, Skip, 2, 2, 0},
	} {
		cfg := DefaultConfig()
		cfg.Difficult, cfg.Crowd, cfg.Empty = c.difficult, c.crowd, c.empty
		if images, objects, ignored := count(cfg); images != c.images || objects != c.objects || ignored != c.ignored {
			t.Errorf("%s %s %s: %d images, %d objects, %d ignored; want %d, %d, %d", c.difficult, c.crowd, c.empty, images, objects, ignored, c.images, c.objects, c.ignored)
		}
	}
	for name, bad := range map[string]*coco.Dataset{
		"no image":  {Path: "made"},
		"no object": {Path: "made", Images: []coco.Image{{File: "a", Path: "p"}}},
		"no photo":  {Path: "made", Images: []coco.Image{{File: "a", Objects: []coco.Object{{Box: b}}}}},
	} {
		if _, err := NewSet(bad, DefaultConfig()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestColour compares with the changes made one after the other on one pixel
// grid of levels that none of them drives out of 0…255.
func TestColour(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, order := range []transform.Order{transform.RGB, transform.BGR} {
		tc := smallTransform()
		tc.Order = order
		const w, h, stride = 5, 4, 8
		levels := [3][]float64{make([]float64, w*h), make([]float64, w*h), make([]float64, w*h)}
		planes := make([]float32, 3*h*stride)
		at := func(c, i int) *float32 {
			if order == transform.BGR {
				c = 2 - c
			}
			return &planes[c*h*stride+i/w*stride+i%w]
		}
		norm := func(c int) (gain, bias float64) {
			if order == transform.BGR {
				c = 2 - c
			}
			return tc.Scale / float64(tc.Std[c]), float64(tc.Mean[c]) / float64(tc.Std[c])
		}
		for c := range 3 {
			gain, bias := norm(c)
			for i := range levels[c] {
				levels[c][i] = 100 + 40*r.Float64()
				*at(c, i) = float32(levels[c][i]*gain - bias)
			}
		}
		const brightness, contrast, saturation = 1.1, 0.8, 1.3
		newColour(brightness, contrast, saturation, 0).apply(planes, w, h, stride, tc)
		grey := func(i int) float64 { return luma[0]*levels[0][i] + luma[1]*levels[1][i] + luma[2]*levels[2][i] }
		var mean float64
		for i := range w * h {
			mean += brightness * grey(i) / (w * h)
		}
		for c := range 3 {
			for i := range levels[c] {
				levels[c][i] = contrast*brightness*levels[c][i] + (1-contrast)*mean
			}
		}
		for i := range w * h {
			g := grey(i)
			for c := range 3 {
				want := saturation*levels[c][i] + (1-saturation)*g
				gain, bias := norm(c)
				if got := (float64(*at(c, i)) + bias) / gain; math.Abs(got-want) > 1e-3 {
					t.Fatalf("%s: channel %d: level %v, want %v", order, c, got, want)
				}
			}
		}
	}
}

func TestHue(t *testing.T) {
	turn := func(h float64, rgb [3]float64) (out [3]float64) {
		m := newColour(1, 1, 1, h).matrix
		for i := range 3 {
			out[i] = m[i][0]*rgb[0] + m[i][1]*rgb[1] + m[i][2]*rgb[2]
		}
		return out
	}
	near := func(a, b [3]float64, tolerance float64) bool {
		return math.Abs(a[0]-b[0])+math.Abs(a[1]-b[1])+math.Abs(a[2]-b[2]) < tolerance
	}
	if got := turn(0, [3]float64{10, 90, 200}); !near(got, [3]float64{10, 90, 200}, 1e-9) {
		t.Errorf("no turn changes the colour to %v", got)
	}
	if got := turn(0.3, [3]float64{77, 77, 77}); !near(got, [3]float64{77, 77, 77}, 1e-6) {
		t.Errorf("grey becomes %v", got)
	}
	back := turn(-0.2, turn(0.2, [3]float64{10, 90, 200}))
	if !near(back, [3]float64{10, 90, 200}, 1) { // the constants have three decimals
		t.Errorf("there and back gives %v", back)
	}
	if got := turn(1.0/3, [3]float64{200, 0, 0}); got[1] < got[0] || got[1] < got[2] {
		t.Errorf("red a third of a turn on is %v, want mostly green", got)
	}
}

func TestTruthsAreCutToTheImage(t *testing.T) {
	v := det.View{Width: 100, Height: 50, ScaledWidth: 200, ScaledHeight: 100}
	got := truths([]object{
		{Box: coco.Box{X: -10, Y: 10, W: 30, H: 100}, class: 1},
		{Box: coco.Box{X: 120, Y: 10, W: 30, H: 10}},
		{Box: coco.Box{X: math.NaN(), Y: 10, W: 30, H: 10}},
	}, v, true)
	want := []det.Truth{{Class: 1}}
	want[0].Box.X0, want[0].Box.Y0, want[0].Box.X1, want[0].Box.Y1 = 160, 20, 200, 100
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"batch":      func(c *Config) { c.Batch = 0 },
		"workers":    func(c *Config) { c.Workers = 0 },
		"difficult":  func(c *Config) { c.Difficult = "maybe" },
		"crowd":      func(c *Config) { c.Crowd = Use },
		"empty":      func(c *Config) { c.Empty = "" },
		"corrupt":    func(c *Config) { c.Corrupt = "yes" },
		"flip":       func(c *Config) { c.Augment.Flip = 2 },
		"sides":      func(c *Config) { c.Augment.ShortSides = []int{0} },
		"scale":      func(c *Config) { c.Augment.Scale = [2]float64{2, 1} },
		"hue":        func(c *Config) { c.Augment.Hue = 0.6 },
		"brightness": func(c *Config) { c.Augment.Brightness = math.NaN() },
	} {
		c := DefaultConfig()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}
