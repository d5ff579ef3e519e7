//go:build cgo && linux && amd64 && !noonednn

package cpu_test

import (
	"fmt"
	"os"
	"testing"

	"resdet/internal/onednn"
)

// TestMain fails if the tests leave native memory behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if handles, bytes := onednn.Live(); handles != 0 || bytes != 0 {
		fmt.Fprintf(os.Stderr, "%d native objects and %d bytes are left: build with -tags leakcheck to see whose\n", handles, bytes)
		code = 1
	}
	os.Exit(code)
}
