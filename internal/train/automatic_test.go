package train

import "testing"

func TestAutomatic(t *testing.T) {
	var last int
	for _, n := range []int{1, 30, 160, 300, 2500, 100_000} {
		for _, f := range []Facts{{Images: n, Detector: true, ShortSide: 320}, {Images: n}, {Images: n, Scratch: true}} {
			p := Automatic(Kind{Pyramid: true}, f)
			if err := p.Validate(); err != nil {
				t.Errorf("%+v: %v", f, err)
			}
			if f.Detector {
				if p.Schedule.Steps < last {
					t.Errorf("%d images: %d steps, fewer than for fewer images", n, p.Schedule.Steps)
				}
				last = p.Schedule.Steps
			}
		}
	}
}

func TestAutomaticSide(t *testing.T) {
	many := func(v float64) []float64 {
		out := make([]float64, 100)
		for i := range out {
			out[i] = v
		}
		return out
	}
	for _, c := range []struct {
		what  string
		facts Facts
		want  int
	}{
		{"large objects", Facts{Sizes: many(0.5), ShortSides: many(480)}, 320},
		{"small objects", Facts{Sizes: many(0.05), ShortSides: many(1080)}, 480},
		{"tiny objects", Facts{Sizes: many(0.005), ShortSides: many(2000)}, 640},
		{"tiny objects in small photos", Facts{Sizes: many(0.005), ShortSides: many(360)}, 448},
		{"nothing known", Facts{}, 320},
		{"a detector that sees enough", Facts{Sizes: many(0.1), ShortSides: many(480), Detector: true, ShortSide: 800}, 0},
		{"a detector that is too coarse", Facts{Sizes: many(0.05), ShortSides: many(1080), Detector: true, ShortSide: 320}, 480},
	} {
		if p := Automatic(Kind{}, c.facts); p.ShortSide != c.want {
			t.Errorf("%s: short side %d, want %d", c.what, p.ShortSide, c.want)
		}
	}
}
