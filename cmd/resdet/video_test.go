package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"

	"resdet/internal/fixture"
)

// missingHelper stands for the helper process where it is not there.
const missingHelper = "/nonexistent/resdet-video"

// videoHelper builds the helper process of OpenCV, if OpenCV is there. It is the
// same in all builds of resdet: one of them, the fastest, tries it.
func videoHelper(t *testing.T) string {
	_, err := os.Stat("/usr/include/opencv4/opencv2/videoio.hpp")
	if err != nil || testing.Short() || !builtWith("CGO_ENABLED", "1") || builtWith("-race", "true") {
		return missingHelper
	}
	path := filepath.Join(t.TempDir(), "resdet-video")
	if out, err := exec.Command(filepath.Join(fixture.Root(), "scripts", "build-video"), path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func builtWith(key, value string) bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: key, Value: value})
}
