package assign

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// best is the least cost of pairing all of the fewer side, by trying all.
func best(cost []float64, rows, cols int, price float64) float64 {
	used := make([]bool, cols)
	var try func(r, unpaired int) float64
	try = func(r, unpaired int) float64 {
		if r == rows {
			free := 0
			for _, u := range used {
				if !u {
					free++
				}
			}
			if math.IsInf(price, 1) { // as many pairs as there can be
				if unpaired > max(0, rows-cols) {
					return math.Inf(1)
				}
				return 0
			}
			return price / 2 * float64(unpaired+free)
		}
		least := try(r+1, unpaired+1)
		for c := range cols {
			if used[c] || !(cost[r*cols+c] <= price) {
				continue
			}
			used[c] = true
			least = min(least, cost[r*cols+c]+try(r+1, unpaired))
			used[c] = false
		}
		return least
	}
	return try(0, 0)
}

// total is what an assignment costs; it fails the test if a column is paired
// twice.
func total(t *testing.T, of []int, cost []float64, rows, cols int, price float64) float64 {
	t.Helper()
	if len(of) != rows {
		t.Fatalf("%d rows, want %d", len(of), rows)
	}
	sum, alone, seen := 0.0, rows+cols, map[int]bool{}
	for r, c := range of {
		if c < 0 {
			continue
		}
		if seen[c] {
			t.Fatalf("column %d twice in %v", c, of)
		}
		seen[c] = true
		sum += cost[r*cols+c]
		alone -= 2
	}
	if math.IsInf(price, 1) {
		if want := min(rows, cols); len(seen) != want {
			t.Fatalf("%d pairs, want %d", len(seen), want)
		}
		return sum
	}
	return sum + price/2*float64(alone)
}

func TestOptimum(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		rows, cols := 1+rng.IntN(5), 1+rng.IntN(5)
		cost := make([]float64, rows*cols)
		for i := range cost {
			cost[i] = rng.Float64()
			if rng.IntN(3) == 0 {
				cost[i] = float64(rng.IntN(4)) / 4 // equal totals
			}
		}
		for _, price := range []float64{math.Inf(1), 0.2, 0.5, 0.8} {
			of := Within(cost, rows, cols, price)
			if math.IsInf(price, 1) {
				of = Min(cost, rows, cols)
			}
			got, want := total(t, of, cost, rows, cols, price), best(cost, rows, cols, price)
			if !(math.Abs(got-want) < 1e-12) {
				t.Fatalf("%d×%d %v, limit %v: %v costs %v, the optimum is %v", rows, cols, cost, price, of, got, want)
			}
			for r, c := range of {
				if c >= 0 && cost[r*cols+c] > price {
					t.Fatalf("pair at %v above the limit %v", cost[r*cols+c], price)
				}
			}
		}
	}
}

// TestTies pins the choice between equal totals; the expected values are those
// of scipy.optimize.linear_sum_assignment 1.10.1.
func TestTies(t *testing.T) {
	for _, c := range []struct {
		name       string
		cost       []float64
		rows, cols int
		want       []int
	}{
		{"constant", []float64{1, 1, 1, 1, 1, 1, 1, 1, 1}, 3, 3, []int{0, 1, 2}},
		{"wide", []float64{0, 0, 0, 0, 0, 0}, 2, 3, []int{0, 1}},
		{"tall", []float64{0, 0, 0, 0, 0, 0}, 3, 2, []int{0, 1, -1}},
		{"two for one", []float64{0.25, 0.25, 3}, 1, 3, []int{0}},
		{"one for two", []float64{0.25, 0.25}, 2, 1, []int{0, -1}},
	} {
		if got := Min(c.cost, c.rows, c.cols); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestLimit(t *testing.T) {
	// A cheap pair (0.1) is given up where the two it blocks cost less together.
	if got := Within([]float64{0.1, 0.3, 0.3, math.Inf(1)}, 2, 2, 0.8); !slices.Equal(got, []int{1, 0}) {
		t.Errorf("%v, want 0.3 + 0.3 over 0.1 + 0.4 + 0.4", got)
	}
	if got := Within([]float64{0.1, 0.6, 0.6, math.Inf(1)}, 2, 2, 0.8); !slices.Equal(got, []int{0, -1}) {
		t.Errorf("%v, want 0.1 + 0.4 + 0.4 over 0.6 + 0.6", got)
	}
	if got := Within([]float64{0.5, math.NaN()}, 1, 2, 0.5); !slices.Equal(got, []int{0}) {
		t.Errorf("%v: a pair at the limit may be made, NaN may not", got)
	}
	if got := Min([]float64{math.Inf(1), math.Inf(1), 0, 1}, 2, 2); !slices.Equal(got, []int{-1, 0}) {
		t.Errorf("%v, want the row of infinities alone", got)
	}
	if got := Min(nil, 3, 0); !slices.Equal(got, []int{-1, -1, -1}) {
		t.Errorf("no columns: %v", got)
	}
	if got := Min(nil, 0, 3); len(got) != 0 {
		t.Errorf("no rows: %v", got)
	}
}
