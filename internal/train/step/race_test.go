//go:build race

package step_test

// raceEnabled: the race detector makes the full-size networks of the parity
// cases take minutes; the concurrency they have is tested on small ones.
const raceEnabled = true
