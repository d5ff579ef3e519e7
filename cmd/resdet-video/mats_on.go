//go:build opencv && cgo && matprofile

package main

import "gocv.io/x/gocv"

// openMats is how many matrices are open beyond those known to be.
func openMats(known int) int { return gocv.MatProfile.Count() - known }
