//go:build opencv && cgo

package main

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// freeSpace returns the bytes left where the file lies.
func freeSpace(file string) (bytes uint64, known bool) {
	var s unix.Statfs_t
	if unix.Statfs(filepath.Dir(file), &s) != nil {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}
