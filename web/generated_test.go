package web

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A client generated from the document that the server serves calls every
// operation (testdata/client, a module of its own: only it needs the
// generator).
func TestGeneratedClient(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	doc, router := document(t)
	cfg, trainer := trainingConfig(t)
	s, err := New(cfg, fakeModel("a", &fake{}), fakeModel("b", &fake{shift: 1}))
	if err != nil {
		t.Fatal(err)
	}
	trainer.server = s
	var mu sync.Mutex
	called := map[string]bool{}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plain := r.Clone(r.Context())
		plain.URL.Host, plain.Host = "", ""
		if route, _, err := router.FindRoute(plain); err == nil {
			mu.Lock()
			called[route.Operation.OperationID] = true
			mu.Unlock()
		}
		s.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.stop(errStopping)
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})

	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "config.yaml", "client_test.go"} {
		b, err := os.ReadFile(filepath.Join("testdata/client", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_, _, served := call(t, "GET", h.URL+"/openapi.json", "", nil)
	if err := os.WriteFile(filepath.Join(dir, "openapi.json"), served, 0o666); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		// Without the folder's name in it the next run finds the same build.
		cmd.Env = append(os.Environ(), "RESDET_URL="+h.URL, "GOPROXY=off", "GOFLAGS=-mod=readonly -trimpath")
		if out, err := cmd.CombinedOutput(); err != nil {
			if strings.Contains(string(out), "GOPROXY=off") {
				t.Skip("the generator's modules are not here: (cd web/testdata/client && go mod download)")
			}
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	run("tool", "oapi-codegen", "-config", "config.yaml", "openapi.json")
	run("test", "-count=1", "-vet=off", ".")
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			if !called[o.OperationID] {
				t.Errorf("%s %s is not called", method, path)
			}
		}
	}
}
