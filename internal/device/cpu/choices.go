package cpu

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"resdet/internal/replace"
)

// Choices say by which algorithm convolutions are computed where trials on this
// machine found a faster one than the rule's. The zero value is the rule.
// Results differ by the rounding of float32 at most.
type Choices struct {
	// Layers has algorithms by layer, as [device.Trial] names both. A layer that
	// cannot be computed so is left to the rule.
	Layers map[string]string
	// Others is the algorithm of all layers that are not in Layers and can be
	// computed by it: what a trial compiles.
	Others string
}

// of returns what is chosen for a layer, "" if nothing that it can be computed by.
func (c Choices) of(layer string, can []string) string {
	name, ok := c.Layers[layer]
	if !ok {
		name = c.Others
	}
	if !slices.Contains(can, name) {
		return ""
	}
	return name
}

// Machine is what trials hold for.
type Machine struct {
	CPU     string `json:"cpu"`
	Library string `json:"library"`
	ISA     string `json:"isa"` // widest vectors, less what ONEDNN_MAX_CPU_ISA forbids
	Threads int    `json:"threads"`
}

// choicesFile is what is kept of a machine's trials.
type choicesFile struct {
	Format  int               `json:"format"`
	Machine Machine           `json:"machine"`
	Layers  map[string]string `json:"layers"`
}

// choicesFormat is raised with every change of the kernels or of the names of
// layers, for trials of others say nothing about these.
const choicesFormat = 1

// A file and a folder of them are bounded: the layers of some fifty networks,
// the machines (in fact numbers of threads) of one user.
const (
	maxChoices     = 4096
	maxChoiceBytes = 1 << 20
	maxMachines    = 16
)

func (m Machine) file(dir string) (string, error) {
	id, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, fmt.Sprintf("%x.json", sha256.Sum256(id))), nil
}

// ReadChoices returns what [WriteChoices] kept in a folder for a machine: no
// choices if there is no file. A damaged file, or one for another machine or
// version, is an error that names it.
func ReadChoices(dir string, m Machine) (Choices, error) {
	path, err := m.file(dir)
	if err != nil {
		return Choices{}, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Choices{}, nil
	}
	if err != nil {
		return Choices{}, fmt.Errorf("cpu: choices of trials: %w", err)
	}
	if info.Size() > maxChoiceBytes {
		return Choices{}, fmt.Errorf("cpu: choices of trials: %s has %d bytes, more than %d", path, info.Size(), maxChoiceBytes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Choices{}, fmt.Errorf("cpu: choices of trials: %w", err)
	}
	var f choicesFile
	if err := json.Unmarshal(text, &f); err != nil {
		return Choices{}, fmt.Errorf("cpu: choices of trials: %s: %w", path, err)
	}
	switch {
	case f.Format != choicesFormat:
		return Choices{}, fmt.Errorf("cpu: choices of trials: %s has format %d, not %d", path, f.Format, choicesFormat)
	case f.Machine != m:
		return Choices{}, fmt.Errorf("cpu: choices of trials: %s is of another machine, %+v", path, f.Machine)
	case len(f.Layers) > maxChoices:
		return Choices{}, fmt.Errorf("cpu: choices of trials: %s has %d layers, more than %d", path, len(f.Layers), maxChoices)
	}
	for layer, name := range f.Layers {
		if !slices.Contains(Algorithms(), name) {
			return Choices{}, fmt.Errorf("cpu: choices of trials: %s: layer %s: unknown algorithm %q", path, layer, name)
		}
	}
	return Choices{Layers: f.Layers}, nil
}

// WriteChoices adds the results of trials to what the folder has for the
// machine and returns the file's path: tried has all layers that were tried,
// "" where the rule was fastest. What is there and cannot be read is replaced.
// A file that would be too long keeps the new layers alone, and of too many
// files the oldest go.
func WriteChoices(dir string, m Machine, tried map[string]string) (path string, err error) {
	if path, err = m.file(dir); err != nil {
		return "", err
	}
	if len(tried) > maxChoices {
		return "", fmt.Errorf("cpu: choices of trials: %d layers, more than %d", len(tried), maxChoices)
	}
	old, err := ReadChoices(dir, m)
	if err != nil || len(old.Layers)+len(tried) > maxChoices {
		old.Layers = nil
	}
	layers := maps.Clone(tried)
	for layer, name := range old.Layers {
		if _, again := tried[layer]; !again {
			layers[layer] = name
		}
	}
	maps.DeleteFunc(layers, func(_, name string) bool { return name == "" })
	text, err := json.MarshalIndent(choicesFile{choicesFormat, m, layers}, "", "\t")
	if err != nil {
		return "", err
	}
	err = os.MkdirAll(dir, 0o755)
	if err == nil {
		err = replace.File(path, func(w io.Writer) error {
			_, err := w.Write(append(text, '\n'))
			return err
		})
	}
	if err != nil {
		return "", fmt.Errorf("cpu: choices of trials: %w", err)
	}
	return path, dropOldest(dir, path)
}

// dropOldest leaves maxMachines files in the folder, newest among them.
func dropOldest(dir, newest string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) <= maxMachines {
		return err
	}
	age := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil || path == newest {
			return 1<<63 - 1
		}
		return info.ModTime().UnixNano()
	}
	slices.SortFunc(files, func(a, b string) int { return int(min(1, max(-1, age(a)-age(b)))) })
	for _, old := range files[:len(files)-maxMachines] {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Names of algorithms that trials choose from. Our own Winograd's has the
// number of tiles that a thread works on at a time, in groups of 14 (with
// vectors of 256 bits 6).
const (
	library         = "library"
	libraryWinograd = "library winograd"
	ownProducts     = "gemm"
)

// winogradBlocks are the sizes of blocks that are tried, in groups of tiles.
var winogradBlocks = []int{2, 4, 8, 16}

func winogradName(block int) string { return fmt.Sprint("winograd ", block) }

// Algorithms lists all that a convolution may be computed by; no CPU has other ones.
func Algorithms() []string {
	names := []string{library, libraryWinograd, ownProducts}
	for _, block := range winogradBlocks {
		names = append(names, winogradName(block))
	}
	return names
}
