package resdet_test

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rules hold the direction of imports: who may import a package, and why
// nobody else. A name that ends with /... covers what lies below.
var rules = []struct {
	imports string
	only    []string
	why     string
}{
	{"C", []string{"resdet/internal/onednn"}, "cgo stays behind one thin shim"},
	{"gorgonia.org/gorgonia", []string{"resdet/internal/train/..."}, "gorgonia trains; inference must not carry it"},
	{"github.com/gin-gonic/gin", []string{"resdet/web/..."}, "gin serves; a library user must not carry it"},
	{"gocv.io/x/gocv", []string{"resdet/cmd/resdet-video"}, "OpenCV lives in the helper process"},
	{"resdet/internal/zoo", []string{"resdet"}, "the linker leaves the default model out of programs that do not open it"},
	{"resdet/internal/onednn", []string{"resdet/internal/device/cpu"}, "oneDNN is one device among others"},
	{"resdet/internal/fetch", []string{"resdet/cmd/..."}, "only a command goes to the network for weights"},
	{"resdet/internal/onnx", []string{"resdet"}, "a detector is exported whole"},
	{"resdet/internal/fixture", []string{"resdet/internal/device/devicetest"}, "reference data is for tests"},
	{"resdet", []string{"resdet/cmd/..."}, "web, eval and coco declare the interfaces they need"},
	{"github.com/spf13/cobra", []string{"resdet/cmd/..."}, "flags are the command's"},
}

// onlyImports lists packages whose imports are limited to std and these.
var onlyImports = map[string][]string{
	"resdet/internal/nd":      nil,
	"resdet/internal/box":     nil,
	"resdet/internal/det":     {"resdet/internal/box"},
	"resdet/internal/nn":      {"resdet/internal/nd"},
	"resdet/internal/device":  {"resdet/internal/nd", "resdet/internal/nn"},
	"resdet/backbone":         {"resdet/internal/nn"},
	"resdet/internal/onednn":  {"C", "resdet/internal/nd", "resdet/internal/nn"},
	"resdet/internal/formula": {"resdet/internal/nd"},
}

type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func TestImports(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Standard", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]listed{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
		for _, r := range rules {
			if slices.Contains(p.Imports, r.imports) && p.ImportPath != r.imports && !slices.ContainsFunc(r.only, func(o string) bool { return covers(o, p.ImportPath) }) {
				t.Errorf("%s imports %s, which only %v may: %s", p.ImportPath, r.imports, r.only, r.why)
			}
		}
	}
	for path, allowed := range onlyImports {
		p, ok := packages[path]
		if !ok {
			t.Errorf("%s does not exist: mend the rule", path)
		}
		for _, i := range p.Imports {
			if (strings.Contains(i, ".") || strings.HasPrefix(i, "resdet") || i == "C") && !slices.Contains(allowed, i) {
				t.Errorf("%s imports %s; it may import std and %v", path, i, allowed)
			}
		}
	}
}

func covers(rule, path string) bool {
	base, below := strings.CutSuffix(rule, "/...")
	return path == base || below && strings.HasPrefix(path, base+"/")
}
