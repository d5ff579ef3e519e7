// Package assign solves the linear assignment problem: which row goes with
// which column so that the total cost is least. The tracker pairs tracks with
// detections by it, the tracking metrics pair objects with predictions.
//
// The method is that of shortest augmenting paths (Jonker and Volgenant 1987)
// for rectangular matrices (Crouse 2016), exact, O(rows² · columns) at worst.
package assign

import "math"

// Min returns for each row the column it is paired with, or −1. All rows or
// all columns, whichever are fewer, are paired, at the least total cost. cost
// is row-major, rows × cols; entries must not be NaN or −Inf. A row that has
// +Inf in every column left to it stays alone.
//
// Among equal totals the choice is that of scipy 1.10's
// linear_sum_assignment, on which the reference tracking metrics are built:
// columns are tried from the last to the first, one that is still free wins
// over one that would have to be taken from another row, and a matrix with
// more rows than columns is solved transposed.
func Min(cost []float64, rows, cols int) []int {
	if rows <= cols {
		return solve(cost, rows, cols)
	}
	flipped := make([]float64, len(cost))
	for r := range rows {
		for c := range cols {
			flipped[c*rows+r] = cost[r*cols+c]
		}
	}
	of := make([]int, rows)
	for r := range of {
		of[r] = -1
	}
	for c, r := range solve(flipped, cols, rows) {
		if r >= 0 {
			of[r] = c
		}
	}
	return of
}

// Within is Min where a row or a column may be left alone at the price of
// limit/2 each: a pair dearer than limit is never made, and a cheap pair is
// given up if the total is less without it. An entry that is NaN is no pair.
func Within(cost []float64, rows, cols int, limit float64) []int {
	// Two left alone cost as much as a pair at the limit, so no entry needs to
	// be dearer than that, and pairs at the clamp are pairs left alone.
	clamped := make([]float64, rows*cols)
	for i, c := range cost[:rows*cols] {
		clamped[i] = limit
		if c < limit {
			clamped[i] = c
		}
	}
	of := Min(clamped, rows, cols)
	for r, c := range of {
		if c >= 0 && !(cost[r*cols+c] <= limit) {
			of[r] = -1
		}
	}
	return of
}

// solve pairs the rows one by one, rows ≤ cols: each finds the cheapest path
// of reduced costs to a free column, and the pairs along it move over.
func solve(cost []float64, rows, cols int) []int {
	u, v := make([]float64, rows), make([]float64, cols) // dual variables
	of, owner := make([]int, rows), make([]int, cols)
	for r := range of {
		of[r] = -1
	}
	for c := range owner {
		owner[c] = -1
	}
	reach := make([]float64, cols) // cheapest path to each column
	from := make([]int, cols)      // the row before it on that path
	left := make([]int, cols)      // columns not on the tree, the first n of it
	seen := make([]int, 0, rows)   // rows on the tree, but for the first

	for start := range rows {
		n := cols
		for c := range cols {
			left[c], reach[c] = cols-1-c, math.Inf(1)
		}
		seen = seen[:0]
		row, end, least := start, -1, 0.0
		for end < 0 {
			next, lowest := -1, math.Inf(1)
			line := cost[row*cols : (row+1)*cols]
			for i, c := range left[:n] {
				if d := least + line[c] - u[row] - v[c]; d < reach[c] {
					reach[c], from[c] = d, row
				}
				if reach[c] < lowest || (reach[c] == lowest && owner[c] < 0) {
					next, lowest = i, reach[c]
				}
			}
			if next < 0 || math.IsInf(lowest, 1) {
				break
			}
			least = lowest
			c := left[next]
			if owner[c] < 0 {
				end = c
			} else {
				row = owner[c]
				seen = append(seen, row)
			}
			n--
			left[next], left[n] = left[n], c
		}
		if end < 0 {
			continue
		}
		u[start] += least
		for _, r := range seen {
			u[r] += least - reach[of[r]]
		}
		for _, c := range left[n:] {
			v[c] -= least - reach[c]
		}
		for c := end; ; {
			r := from[c]
			owner[c] = r
			c, of[r] = of[r], c
			if r == start {
				break
			}
		}
	}
	return of
}
