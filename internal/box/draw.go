package box

import "math/rand/v2"

// Draw returns n of the given indices, drawn without replacement, or all of
// them in their order where there are no more: the samplers of training. It
// reorders the slice and returns a part of it; without a choice to make it
// draws nothing from rng.
func Draw(of []int, n int, rng *rand.Rand) []int {
	if len(of) <= n {
		return of
	}
	for i := range n {
		j := i + rng.IntN(len(of)-i)
		of[i], of[j] = of[j], of[i]
	}
	return of[:n]
}
