package plan_test

import (
	"math/rand/v2"
	"testing"

	"resdet/internal/device/plan"
)

// Spans that are needed at the same time do not overlap, and the arena is
// not much larger than what is needed at once.
func TestPack(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		spans := make([]plan.Span, r.IntN(40))
		for i := range spans {
			first := r.IntN(60)
			spans[i] = plan.Span{Size: r.Int64N(5000), First: first, Last: first + r.IntN(1+r.IntN(20))}
		}
		const align = 64
		offsets, size := plan.Pack(spans, align)
		var most int64
		for step := range 80 {
			var alive int64
			for i, s := range spans {
				if s.First > step || s.Last < step {
					continue
				}
				alive += (s.Size + align - 1) / align * align
				if offsets[i]%align != 0 || offsets[i] < 0 || offsets[i]+s.Size > size {
					t.Fatalf("round %d: span %d at %d of %d", round, i, offsets[i], size)
				}
				for j := range i {
					o := spans[j]
					if o.First <= step && step <= o.Last && offsets[i] < offsets[j]+o.Size && offsets[j] < offsets[i]+s.Size {
						t.Fatalf("round %d: spans %+v at %d and %+v at %d overlap", round, s, offsets[i], o, offsets[j])
					}
				}
			}
			most = max(most, alive)
		}
		if float64(size) > 1.5*float64(most) {
			t.Errorf("round %d: arena of %d for %d alive at once", round, size, most)
		}
	}
}

// A chain of layers takes its two largest neighbours.
func TestPackOfAChain(t *testing.T) {
	spans := []plan.Span{{100, 0, 1}, {800, 1, 2}, {400, 2, 3}, {200, 3, 4}, {100, 4, 5}}
	if _, size := plan.Pack(spans, 4); size != 1200 {
		t.Errorf("arena of %d, want 1200", size)
	}
	if _, size := plan.Pack(nil, 64); size != 0 {
		t.Errorf("arena of %d for nothing", size)
	}
}
