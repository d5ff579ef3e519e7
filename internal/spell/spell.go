// Package spell guesses which name was meant by one that nobody knows.
package spell

import "slices"

// Nearest returns the known name with the fewest edits from name, "" if even
// that one needs many: more than a third of name's letters and one.
func Nearest(name string, known []string) string {
	const longest = 64 // nobody misspells more, and the time grows with it
	if len(name) > longest {
		return ""
	}
	best, least := "", 2+len(name)/3
	for _, k := range known {
		if d := edits(name, k, least); d < least {
			best, least = k, d
		}
	}
	return best
}

// edits is the Levenshtein distance of a and b, or more than most if it is
// more than most.
func edits(a, b string, most int) int {
	if max(len(a), len(b))-min(len(a), len(b)) > most {
		return most + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
		if slices.Min(row) > most {
			return most + 1
		}
	}
	return row[len(b)]
}
