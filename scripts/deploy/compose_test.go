package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// What the compose file mounts and builds is there, and Prometheus asks the
// port that the server listens on.
func TestCompose(t *testing.T) {
	const dir = "compose"
	text, err := os.ReadFile(filepath.Join(dir, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Build   struct{ Context, Dockerfile string }
			Image   string
			Volumes []string
		}
		Volumes map[string]any
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for name, s := range file.Services {
		if s.Build.Context != "" {
			path := filepath.Join(dir, s.Build.Context, s.Build.Dockerfile)
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(source, ".") {
				if _, err := os.Stat(filepath.Join(dir, source)); err != nil && source != "./models" {
					t.Errorf("%s mounts what is not there: %v", name, err)
				}
			} else if _, ok := file.Volumes[source]; !ok {
				t.Errorf("%s: the volume %q is not declared", name, source)
			}
		}
	}
	scrape, err := os.ReadFile(filepath.Join(dir, "prometheus.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var prometheus struct {
		Scrape []struct {
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(scrape, &prometheus); err != nil {
		t.Fatal(err)
	}
	if got := prometheus.Scrape[0].Static[0].Targets[0]; got != "resdet:8080" {
		t.Errorf("Prometheus asks %q", got)
	}
}
