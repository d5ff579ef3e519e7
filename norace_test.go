//go:build !race

package resdet

const raceEnabled = false
