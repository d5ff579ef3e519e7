//go:build !linux

package main

// resetPeak and peakMB know something on Linux only.
func resetPeak() {}

func peakMB() float64 { return 0 }
