package box

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMatcher(t *testing.T) {
	truths := []Box{{0, 0, 10, 10}, {100, 100, 110, 110}}
	candidates := []Box{
		{0, 0, 10, 10},         // the first object itself
		{0, 0, 10, 5},          // half of it
		{0, 0, 2, 10},          // a fifth of it
		{50, 50, 60, 60},       // nothing
		{100, 100, 110, 104},   // less than half of the second, but its best
		{100, 106, 110, 110},   // as much of it
		{100, 100, 110, 101.5}, // less
		{3, 3, 3, 3},           // no area
	}
	for _, c := range []struct {
		name    string
		matcher Matcher
		truths  []Box
		want    []Match
	}{
		{"rpn", Matcher{Low: 0.3, High: 0.7, LowQuality: true}, truths, []Match{
			{Positive, 0, 1}, {Ignored, 0, 0.5}, {Negative, 0, 0.2}, {Negative, 0, 0},
			{Positive, 1, 0.4}, {Positive, 1, 0.4}, {Negative, 1, 0.15}, {Negative, 0, 0},
		}},
		{"head", Matcher{Low: 0.5, High: 0.5, LowQuality: false}, truths, []Match{
			{Positive, 0, 1}, {Positive, 0, 0.5}, {Negative, 0, 0.2}, {Negative, 0, 0},
			{Negative, 1, 0.4}, {Negative, 1, 0.4}, {Negative, 1, 0.15}, {Negative, 0, 0},
		}},
		{"no objects", Matcher{Low: 0, High: 0, LowQuality: true}, nil, make([]Match, len(candidates))},
		{"an object that nothing touches", Matcher{Low: 0.3, High: 0.7, LowQuality: true}, []Box{truths[0], {500, 500, 510, 510}}, []Match{
			{Positive, 0, 1}, {Positive, 0, 0.5}, {Positive, 0, 0.2}, {Positive, 0, 0},
			{Positive, 0, 0}, {Positive, 0, 0}, {Positive, 0, 0}, {Positive, 0, 0},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := []Match{{Positive, 5, 0.5}}
			got := c.matcher.Match(first, c.truths, candidates)
			if diff := cmp.Diff(append(first, c.want...), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
