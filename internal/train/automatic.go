package train

import (
	"math"
	"slices"

	"resdet/internal/train/schedule"
)

// Facts are what a recipe depends on where nobody chose one.
type Facts struct {
	Images, Objects, Classes int
	// Scratch says that there are no initial weights; Detector that they are a
	// detector's, not only a backbone's.
	Scratch, Detector bool
	// ShortSide is the input's that a detector was trained for.
	ShortSide int
	// Sizes are the smaller sides of the objects, as shares of their images'
	// short sides; ShortSides are those of the images, in pixels.
	Sizes, ShortSides []float64
}

// Automatic returns a recipe for somebody who gave nothing but photos: steps
// of two images; as many as the data ask for, within what two cores do in a
// coffee break (few photos) or overnight (thousands).
func Automatic(k Kind, f Facts) Preset {
	r := DefaultRecipe().ForKind(k)
	r.Losses.Regions.Batch = 128
	r.Losses.PreNMS, r.Losses.PostNMS = 1000, 1000
	r.Schedule.Rate = 0.005
	epoch := max((f.Images+1)/2, 1)
	steps := 0
	switch {
	case f.Scratch:
		steps = clamp(60*epoch, 1000, 200_000)
	case f.Detector:
		steps = clamp(4*epoch, 200, 20_000)
	default: // a backbone: pyramid, RPN and head are new
		steps = clamp(8*epoch, 800, 40_000)
	}
	r.Schedule.Kind, r.Schedule.Steps = schedule.Steps, steps
	r.Schedule.Decay = []int{steps * 7 / 10, steps * 9 / 10}
	r.Schedule.Warmup = schedule.Warmup{Steps: min(200, steps/5), From: 0.01}
	r.Evaluate.Every = (steps + 4) / 5 // the last one is after the last step
	r.Save = clamp(steps/10, 50, 500)
	p := Preset{Recipe: r}
	if p.ShortSide = side(f); f.Detector && p.ShortSide <= f.ShortSide {
		p.ShortSide = 0
	}
	p.LongSide = p.ShortSide * 5 / 3
	return p
}

// side chooses the input's short side so that nine tenths of the objects are
// at least 24 pixels across, which anchors of 32 still match; from 320 to 640,
// and not far beyond what the photos have.
func side(f Facts) int {
	const least, most = 320, 640
	if len(f.Sizes) == 0 {
		return least
	}
	small := quantile(f.Sizes, 0.1)
	want := 24 / max(small, 1e-3)
	limit := min(most, max(least, 1.25*quantile(f.ShortSides, 0.5)))
	return int(math.Round(min(max(want, least), limit)/32)) * 32
}

func quantile(v []float64, q float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[int(q*float64(len(s)-1))]
}

func clamp(v, lo, hi int) int { return min(max(v, lo), hi) }
