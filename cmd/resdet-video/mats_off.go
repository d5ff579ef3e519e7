//go:build opencv && cgo && !matprofile

package main

// openMats is counted under the build tag matprofile only.
func openMats(int) int { return -1 }
