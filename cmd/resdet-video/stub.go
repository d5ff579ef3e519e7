//go:build !opencv || !cgo

// Command resdet-video owns OpenCV for resdet. This one was built without it.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "resdet-video was built without OpenCV: run scripts/build, or build it with scripts/build-video")
	os.Exit(1)
}
