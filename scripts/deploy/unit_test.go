package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// systemd finds nothing wrong with the unit, once what it starts is there.
func TestUnit(t *testing.T) {
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze (Debian's systemd) is not installed")
	}
	text, err := os.ReadFile("systemd/resdet.service")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	check := func(text string) (string, error) {
		path := filepath.Join(t.TempDir(), "resdet.service")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(verify, "verify", "--recursive-errors=no", path).CombinedOutput()
		return string(out), err
	}
	unit := strings.Replace(string(text), "/usr/local/bin/resdet ", self+" ", 1)
	if unit == string(text) {
		t.Fatal("the unit does not start /usr/local/bin/resdet")
	}
	if out, err := check(unit); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := check(unit + "\n[Service]\nMispelt=yes\n"); err == nil && !strings.Contains(out, "Mispelt") {
		t.Error("a misspelt setting was not noticed: the check above shows nothing")
	}
}
