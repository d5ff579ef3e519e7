package checkpoint

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"resdet/internal/nd"
)

// TestFullDisk saves where only 64 KiB fit: the previous checkpoint stays, and
// nothing else does.
func TestFullDisk(t *testing.T) {
	const name = "RESDET_TEST_FULL_DISK"
	if path := os.Getenv(name); path != "" {
		signal.Ignore(syscall.SIGXFSZ) // writes beyond the limit then fail, as on a full disk
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}); err != nil {
			t.Fatal(err)
		}
		s, arrays := example()
		s.Step = 99
		arrays = append(arrays, Array{"large", nd.Shape{1 << 20}, make([]float32, 1<<20)})
		err := Save(path, s, arrays)
		if err == nil || !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), path) {
			t.Fatalf("error %v, want one about %s", err, path)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
	s, arrays := example()
	if err := Save(path, s, arrays); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$")
	cmd.Env = append(os.Environ(), name+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, _, err := Load(path)
	if err != nil || got.Step != s.Step {
		t.Errorf("the previous checkpoint: step %d, %v", got.Step, err)
	}
	if files, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
	if files, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.safetensors.*")); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}
