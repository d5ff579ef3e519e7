package deploy

import (
	"os"
	"os/exec"
	"testing"
)

// The image's steps run in Debian folders of their own, and what comes out
// serves as an ordinary user. It takes some minutes and a gigabyte.
func TestImage(t *testing.T) {
	if os.Getenv("RESDET_THOROUGH") == "" {
		t.Skip("takes minutes: set RESDET_THOROUGH=1")
	}
	if os.Getuid() != 0 {
		t.Skip("chroot wants root")
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		t.Skip("debootstrap is not installed")
	}
	cmd := exec.Command("./try-image", t.TempDir())
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}
