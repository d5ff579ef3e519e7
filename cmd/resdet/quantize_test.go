package main

import (
	"errors"
	"slices"
	"testing"
)

func TestFewest(t *testing.T) {
	for most := range 20 {
		for want := range most + 2 {
			var asked []int
			n, found, err := fewest(most, func(n int) (bool, error) {
				if slices.Contains(asked, n) || n > most {
					t.Errorf("of %d: asked for %d after %v", most, n, asked)
				}
				asked = append(asked, n)
				return n >= want, nil
			})
			if err != nil || found != (want <= most) || found && n != want {
				t.Errorf("of %d: %d, %v, %v; want %d", most, n, found, err, want)
			}
			if len(asked) > 10 {
				t.Errorf("of %d: %d questions", most, len(asked))
			}
		}
	}
	broken := errors.New("broken")
	if _, _, err := fewest(4, func(n int) (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestSpread(t *testing.T) {
	all := []int{0, 1, 2, 3, 4, 5, 6}
	for n, want := range [][]int{all, {0}, {0, 3}, {0, 2, 4}, 7: all, 9: all} {
		if got := spread(all, n); want != nil && !slices.Equal(got, want) {
			t.Errorf("%d: %v, want %v", n, got, want)
		}
	}
}
