package cpu_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"resdet/internal/device/cpu"
)

var machine = cpu.Machine{CPU: "a CPU", Library: "2.6.3", ISA: "avx512_core", Threads: 2}

// What was tried is read again, on the same machine alone; later trials replace
// earlier ones layer by layer.
func TestChoicesAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trials")
	if got, err := cpu.ReadChoices(dir, machine); err != nil || got.Layers != nil {
		t.Fatalf("%v, %v of an empty folder", got, err)
	}
	write := func(tried map[string]string) string {
		t.Helper()
		path, err := cpu.WriteChoices(dir, machine, tried)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(map[string]string{"a": "gemm", "b": "library", "c": ""})
	path := write(map[string]string{"b": "", "d": "winograd 4"})
	got, err := cpu.ReadChoices(dir, machine)
	if want := map[string]string{"a": "gemm", "d": "winograd 4"}; err != nil || !cmp.Equal(got.Layers, want) {
		t.Errorf("%v, %v, want %v", got.Layers, err, want)
	}
	for _, other := range []cpu.Machine{
		{CPU: "another", Library: "2.6.3", ISA: "avx512_core", Threads: 2}, {CPU: "a CPU", Library: "3", ISA: "avx512_core", Threads: 2},
		{CPU: "a CPU", Library: "2.6.3", ISA: "avx2", Threads: 2}, {CPU: "a CPU", Library: "2.6.3", ISA: "avx512_core", Threads: 1},
	} {
		if got, err := cpu.ReadChoices(dir, other); err != nil || got.Layers != nil {
			t.Errorf("%+v gets %v, %v", other, got, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 || left[0] != path {
		t.Errorf("files %v, %v; want %s alone", left, err, path)
	}
}

// Damaged and foreign files are errors with their names, and are replaced.
func TestBadChoices(t *testing.T) {
	dir := t.TempDir()
	path, err := cpu.WriteChoices(dir, machine, map[string]string{"a": "gemm"})
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	many := make(map[string]string)
	for i := range 4097 {
		many[fmt.Sprint(i)] = "gemm"
	}
	if _, err := cpu.WriteChoices(dir, machine, many); err == nil {
		t.Error("4,097 layers were written")
	}
	change := func(old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	for name, text := range map[string]string{
		"empty":             "",
		"cut off":           string(good[:len(good)/2]),
		"not an object":     "[]",
		"other format":      change(`"format": 1`, `"format": 99`),
		"other machine":     change("a CPU", "no CPU"),
		"unknown algorithm": change("gemm", "magic"),
		"too long":          string(good) + strings.Repeat(" ", 1<<20),
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := cpu.ReadChoices(dir, machine); err == nil || !strings.Contains(err.Error(), path) || got.Layers != nil {
			t.Errorf("%s: %v, error %v", name, got, err)
		}
	}
	if _, err := cpu.WriteChoices(dir, machine, map[string]string{"b": "library"}); err != nil {
		t.Fatal(err)
	}
	if got, err := cpu.ReadChoices(dir, machine); err != nil || !cmp.Equal(got.Layers, map[string]string{"b": "library"}) {
		t.Errorf("%v, %v after the damage", got, err)
	}
}

// The folder is bounded: of too many machines the oldest are forgotten.
func TestChoicesOfManyMachines(t *testing.T) {
	dir := t.TempDir()
	m := machine
	for m.Threads = range 20 {
		path, err := cpu.WriteChoices(dir, m, map[string]string{"a": "gemm"})
		if err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(time.Duration(m.Threads-100) * time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	for m.Threads = range 20 {
		got, err := cpu.ReadChoices(dir, m)
		if there := len(got.Layers) == 1; err != nil || there != (m.Threads >= 4) {
			t.Errorf("machine %d: %v, %v", m.Threads, got.Layers, err)
		}
	}
}

func FuzzReadChoices(f *testing.F) {
	dir := f.TempDir()
	path, err := cpu.WriteChoices(dir, machine, map[string]string{"a": "gemm"})
	if err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":1,"layers":{"a":1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := cpu.ReadChoices(dir, machine)
		if err != nil {
			return
		}
		for layer, name := range got.Layers {
			if name == "" {
				t.Errorf("layer %q has no algorithm", layer)
			}
		}
	})
}
