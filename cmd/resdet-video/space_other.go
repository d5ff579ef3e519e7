//go:build opencv && cgo && !linux

package main

// freeSpace is known on Linux only; elsewhere a full disk shows at the end.
func freeSpace(string) (bytes uint64, known bool) { return 0, false }
