package coco

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// COCO's limits between small, medium and large: areas in square pixels.
const (
	smallArea  = 32 * 32
	mediumArea = 96 * 96
)

// sizeNames are COCO's sizes.
var sizeNames = [3]string{"small", "medium", "large"}

func sizeOf(area float64) int {
	switch {
	case area < smallArea:
		return 0
	case area < mediumArea:
		return 1
	}
	return 2
}

// Stats describes a dataset.
type Stats struct {
	Images  int `json:"images"`
	Empty   int `json:"empty"` // images without objects
	Objects int `json:"objects"`
	Small   int `json:"small"` // area below 32²
	Medium  int `json:"medium"`
	Large   int `json:"large"` // area from 96²
	Crowd   int `json:"crowd"`
	// Difficult and Truncated are VOC's flags.
	Difficult int          `json:"difficult"`
	Truncated int          `json:"truncated"`
	Classes   []ClassStats `json:"classes"`

	PerImage    Spread `json:"boxes_per_image"`
	ImageWidth  Spread `json:"image_width"`
	ImageHeight Spread `json:"image_height"`
	BoxSide     Spread `json:"box_side"`    // square root of width × height, original pixels
	BoxAspect   Spread `json:"box_aspect"`  // height over width
	BoxInImage  Spread `json:"box_share"`   // box side over the square root of the image's area
	Sizes       []Size `json:"image_sizes"` // the most frequent, ten at most

	Anchors *Coverage `json:"anchors,omitempty"`
}

// ClassStats counts a class.
type ClassStats struct {
	Class   string `json:"class"`
	ID      int    `json:"id"`
	Objects int    `json:"objects"`
	Images  int    `json:"images"`
	Small   int    `json:"small"`
	Medium  int    `json:"medium"`
	Large   int    `json:"large"`
	Crowd   int    `json:"crowd"`
	// Difficult objects are among Objects, too.
	Difficult int `json:"difficult"`
}

// Size counts images of one size.
type Size struct {
	Width  int `json:"width"`
	Height int `json:"height"`
	Images int `json:"images"`
}

// Spread is how values are distributed; all 0 where there are none.
type Spread struct {
	Min    float64 `json:"min"`
	P5     float64 `json:"p5"`
	Median float64 `json:"median"`
	Mean   float64 `json:"mean"`
	P95    float64 `json:"p95"`
	Max    float64 `json:"max"`
}

func spread(v []float64) Spread {
	if len(v) == 0 {
		return Spread{}
	}
	slices.Sort(v)
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	at := func(q float64) float64 { return v[int(math.Round(q*float64(len(v)-1)))] }
	return Spread{Min: v[0], P5: at(0.05), Median: at(0.5), Mean: sum / float64(len(v)), P95: at(0.95), Max: v[len(v)-1]}
}

// Describe counts what is in a dataset and, with anchors, how well they cover
// its boxes. Crowds are counted, but do not enter the distributions of boxes
// nor the coverage, since nothing is trained on them.
func (d *Dataset) Describe(anchors *Anchors) (Stats, error) {
	var s Stats
	s.Images = len(d.Images)
	s.Classes = make([]ClassStats, len(d.Classes))
	for i, c := range d.Classes {
		s.Classes[i].Class, s.Classes[i].ID = c.Name, c.ID
	}
	var per, widths, heights, sides, aspects, shares []float64
	sizes := map[[2]int]int{}
	lastImage := make([]int, len(d.Classes))
	for i := range d.Images {
		im := &d.Images[i]
		s.Empty += bit(len(im.Objects) == 0)
		per = append(per, float64(len(im.Objects)))
		if im.Width > 0 && im.Height > 0 {
			widths, heights = append(widths, float64(im.Width)), append(heights, float64(im.Height))
			sizes[[2]int{im.Width, im.Height}]++
		}
		for k := range im.Objects {
			o := &im.Objects[k]
			c := &s.Classes[o.Class]
			s.Objects++
			c.Objects++
			if lastImage[o.Class] != i+1 {
				lastImage[o.Class] = i + 1
				c.Images++
			}
			s.Crowd += bit(o.Crowd)
			c.Crowd += bit(o.Crowd)
			s.Difficult += bit(o.Difficult)
			c.Difficult += bit(o.Difficult)
			s.Truncated += bit(o.Truncated)
			switch sizeOf(o.Area) {
			case 0:
				s.Small++
				c.Small++
			case 1:
				s.Medium++
				c.Medium++
			default:
				s.Large++
				c.Large++
			}
			if o.Crowd || !(o.Box.W > 0 && o.Box.H > 0) {
				continue
			}
			side := math.Sqrt(o.Box.Area())
			sides, aspects = append(sides, side), append(aspects, o.Box.H/o.Box.W)
			if im.Width > 0 && im.Height > 0 {
				shares = append(shares, side/math.Sqrt(float64(im.Width)*float64(im.Height)))
			}
		}
	}
	s.PerImage, s.ImageWidth, s.ImageHeight = spread(per), spread(widths), spread(heights)
	s.BoxSide, s.BoxAspect, s.BoxInImage = spread(sides), spread(aspects), spread(shares)
	s.Sizes = []Size{}
	for k, n := range sizes {
		s.Sizes = append(s.Sizes, Size{k[0], k[1], n})
	}
	slices.SortFunc(s.Sizes, func(a, b Size) int {
		return cmp.Or(cmp.Compare(b.Images, a.Images), cmp.Compare(a.Width, b.Width), cmp.Compare(a.Height, b.Height))
	})
	s.Sizes = s.Sizes[:min(len(s.Sizes), 10)]
	if anchors != nil {
		c, err := d.Cover(*anchors)
		if err != nil {
			return s, err
		}
		s.Anchors = &c
	}
	return s, nil
}

// Anchors are a detector's reference boxes as far as coverage depends on
// them: at every cell of every level all sizes in all ratios, on an image
// scaled to ShortSide, or less where LongSide would be exceeded.
type Anchors struct {
	Levels    []AnchorLevel `json:"levels"`
	Ratios    []float64     `json:"ratios"` // height over width
	ShortSide int           `json:"min_size"`
	LongSide  int           `json:"max_size"`
}

// AnchorLevel is one feature map.
type AnchorLevel struct {
	Stride int       `json:"stride"` // network pixels per cell
	Sizes  []float64 `json:"sizes"`  // square roots of the areas, network pixels
}

// Validate reports what cannot be anchors.
func (a Anchors) Validate() error {
	n := 0
	for i, l := range a.Levels {
		if l.Stride < 1 || l.Stride > 1<<16 {
			return fmt.Errorf("coco: anchors: level %d: stride %d is not in 1…65536", i, l.Stride)
		}
		for _, s := range l.Sizes {
			if !(s > 0 && s < 1e6) {
				return fmt.Errorf("coco: anchors: level %d: size %v is not in (0, 1e6)", i, s)
			}
		}
		n += len(l.Sizes) * len(a.Ratios)
	}
	for _, r := range a.Ratios {
		if !(r > 0 && r < 1e3) {
			return fmt.Errorf("coco: anchors: ratio %v is not in (0, 1000)", r)
		}
	}
	switch {
	case n == 0 || n > 10_000:
		return fmt.Errorf("coco: anchors: %d shapes, not 1 to 10000", n)
	case a.ShortSide < 1 || a.LongSide < a.ShortSide:
		return errors.New("coco: anchors: min_size and max_size must be positive and in this order")
	}
	return nil
}

// Coverage is how well anchors cover boxes: the best overlap of each box with
// any anchor. Boxes whose best is below the RPN's positive threshold (0.7) are
// trained by their best anchor only; below 0.5 an anchor has far to go.
type Coverage struct {
	Anchors Anchors    `json:"anchors"`
	Rows    []CoverRow `json:"by_size"` // all, small, medium, large
}

// CoverRow is the coverage of the boxes of one of COCO's sizes.
type CoverRow struct {
	Size    string   `json:"size"`
	Objects int      `json:"objects"`
	Mean    *float64 `json:"mean_iou"` // of the best overlaps; nil without objects
	At50    *float64 `json:"recall50"` // share of boxes with an overlap of at least 0.5
	At70    *float64 `json:"recall70"`
}

// Cover measures how well anchors cover the dataset's boxes. Images without a
// size are left out. As torchvision's, anchors stand at multiples of the
// stride and may reach beyond the image.
func (d *Dataset) Cover(a Anchors) (Coverage, error) {
	if err := a.Validate(); err != nil {
		return Coverage{}, err
	}
	var n, at50, at70 [4]int
	var sum [4]float64
	for i := range d.Images {
		im := &d.Images[i]
		if im.Width <= 0 || im.Height <= 0 {
			continue
		}
		w, h := float64(im.Width), float64(im.Height)
		scale := min(float64(a.ShortSide)/min(w, h), float64(a.LongSide)/max(w, h))
		for k := range im.Objects {
			o := &im.Objects[k]
			if o.Crowd || !(o.Box.W > 0 && o.Box.H > 0) {
				continue
			}
			best := a.best(Box{o.Box.X * scale, o.Box.Y * scale, o.Box.W * scale, o.Box.H * scale}, w*scale, h*scale)
			for _, row := range [2]int{0, 1 + sizeOf(o.Area)} {
				n[row]++
				sum[row] += best
				at50[row] += bit(best >= 0.5)
				at70[row] += bit(best >= 0.7)
			}
		}
	}
	c := Coverage{Anchors: a}
	for row, name := range append([]string{"all"}, sizeNames[:]...) {
		r := CoverRow{Size: name, Objects: n[row]}
		if n[row] > 0 {
			share := func(v float64) *float64 { v /= float64(n[row]); return &v }
			r.Mean, r.At50, r.At70 = share(sum[row]), share(float64(at50[row])), share(float64(at70[row]))
		}
		c.Rows = append(c.Rows, r)
	}
	return c, nil
}

// best returns the greatest overlap of a box in network pixels with any
// anchor. The overlap with one shape falls with the distance of the centres
// along each axis, so only the nearest cell counts.
func (a Anchors) best(b Box, width, height float64) float64 {
	cx, cy := b.X+b.W/2, b.Y+b.H/2
	best := 0.0
	for _, l := range a.Levels {
		stride := float64(l.Stride)
		dx := cx - nearest(cx, stride, width)
		dy := cy - nearest(cy, stride, height)
		for _, ratio := range a.Ratios {
			r := math.Sqrt(ratio)
			for _, size := range l.Sizes {
				w, h := size/r, size*r
				iw := min(b.W/2, dx+w/2) - max(-b.W/2, dx-w/2)
				ih := min(b.H/2, dy+h/2) - max(-b.H/2, dy-h/2)
				if iw <= 0 || ih <= 0 {
					continue
				}
				in := iw * ih
				best = max(best, in/(b.W*b.H+w*h-in))
			}
		}
	}
	return best
}

// nearest is the multiple of the stride nearest to v among those of the
// image's cells.
func nearest(v, stride, side float64) float64 {
	last := math.Ceil(side/stride) - 1
	return stride * min(max(math.Round(v/stride), 0), max(last, 0))
}
