package eval

import (
	"context"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestOnePairIsCompare(t *testing.T) {
	kind := bootstrapKinds["plain"]
	for _, p := range []Protocol{COCO, VOC07} {
		b, c := kind.pair(3, 3).evaluate(t, p), kind.pair(3, 8).evaluate(t, p)
		cfg := CompareConfig{Samples: 200, Seed: 5}
		want, err := Compare(context.Background(), b, c, cfg)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ComparePairs(context.Background(), []Pair{{"seed 1", b, c}}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got.Covers != coversImages || len(got.Pairs) != 1 || got.Pairs[0].Gain.Gain != want.Gain || got.Pairs[0].CI95 != want.CI95 {
			t.Errorf("%s: pairs %+v, %q", p, got.Pairs, got.Covers)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateNaNs(), cmpopts.IgnoreFields(Comparison{}, "Pairs", "Covers")); diff != "" {
			t.Errorf("%s: one pair is not its comparison:\n%s", p, diff)
		}
	}
}

// TestPairs compares two pairs whose gains are each other's opposite: the mean
// is 0 in every sample of the images, so that all of its interval is the noise
// between the pairs.
func TestPairs(t *testing.T) {
	kind := bootstrapKinds["plain"]
	better := kind
	better.found = 0.9
	b, c := kind.pair(3, 3).evaluate(t, COCO), better.pair(3, 8).evaluate(t, COCO)
	cfg := CompareConfig{Samples: 400, Seed: 5}
	got, err := ComparePairs(context.Background(), []Pair{{"seed 1", b, c}, {"seed 2", c, b}}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	one, two := got.Pairs[0], got.Pairs[1]
	if math.Abs(float64(one.Gain.Gain+two.Gain.Gain)) > 1e-12 || one.Gain.Gain == 0 {
		t.Fatalf("gains %v and %v", one.Gain.Gain, two.Gain.Gain)
	}
	if math.Abs(float64(got.Gain)) > 1e-12 || math.Abs(float64(got.Baseline-got.Candidate)) > 1e-12 {
		t.Errorf("the mean gain is %v", got.Gain)
	}
	g := Value(math.Abs(float64(one.Gain.Gain)))
	if got.CI95.Lo > -g || got.CI95.Hi < g || got.Covers != coversBoth {
		t.Errorf("the interval is %+v, of pairs that gain %v and %v: %s", got.CI95, one.Gain.Gain, two.Gain.Gain, got.Covers)
	}
	for _, g := range append(got.PerClass, got.PerSize...) {
		if g.Gain.Present() && math.Abs(float64(g.Gain)) > 1e-12 {
			t.Errorf("%s%s: mean gain %v", g.Class, g.Size, g.Gain)
		}
	}
}

func TestPairsRefuse(t *testing.T) {
	kind := bootstrapKinds["plain"]
	a, other := kind.make(3).evaluate(t, COCO), kind.make(4).evaluate(t, COCO)
	for name, pairs := range map[string][]Pair{
		"no pair":      nil,
		"other images": {{"seed 1", a, a}, {"seed 2", other, other}},
	} {
		if _, err := ComparePairs(context.Background(), pairs, CompareConfig{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
