package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"resdet"
)

// modelFlags choose a model and how it runs; every command that runs one has
// them.
type modelFlags struct {
	path      string
	threads   int
	device    string
	precision string
	shortSide int // of the network's input; 0: the model's
}

func (m *modelFlags) add(f *pflag.FlagSet) {
	f.StringVarP(&m.path, "model", "m", "", "model file (default: the one built in)")
	m.addRun(f)
}

// addRun adds the flags that say how a model runs, not which.
func (m *modelFlags) addRun(f *pflag.FlagSet) {
	f.IntVar(&m.threads, "threads", 0, "threads of the network (default: all that the process may use)")
	f.StringVar(&m.device, "device", "", "cpu (oneDNN) or ref (plain Go); default: the faster one that is there")
	f.StringVar(&m.precision, "precision", "f32", "arithmetic of the network: f32")
}

func (m modelFlags) options() resdet.Options {
	return resdet.Options{Threads: m.threads, Device: m.device, ShortSide: m.shortSide}
}

// open opens the model that the flags name.
func (m modelFlags) open() (*resdet.Detector, error) { return m.openPath(m.path) }

// openPath opens a model file, or the built-in model if path is empty.
func (m modelFlags) openPath(path string) (*resdet.Detector, error) {
	if m.precision != "f32" {
		return nil, usageError{fmt.Errorf("--precision %q: this build computes in f32", m.precision)}
	}
	if m.threads < 0 {
		return nil, usagef("--threads %d is negative", m.threads)
	}
	if path == "" {
		return resdet.OpenDefault(m.options())
	}
	return resdet.Open(path, m.options())
}
