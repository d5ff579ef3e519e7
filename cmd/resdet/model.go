package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/pflag"

	"resdet"
	"resdet/internal/fetch"
)

// modelFlags choose a model and how it runs; every command that runs one has
// them.
type modelFlags struct {
	path      string
	threads   int
	workers   int // calls at a time; 0: one
	device    string
	precision string
	shortSide int       // of the network's input; 0: the model's
	notes     io.Writer // nil: trials of bench --tune are not looked for
}

func (m *modelFlags) add(f *pflag.FlagSet, s streams) {
	f.StringVarP(&m.path, "model", "m", "", "model file (default: the one built in)")
	m.addRun(f, s)
}

// addRun adds the flags that say how a model runs, not which.
func (m *modelFlags) addRun(f *pflag.FlagSet, s streams) {
	m.notes = s.err
	f.IntVar(&m.threads, "threads", 0, "threads of the network (default: all that the process may use)")
	f.StringVar(&m.device, "device", "", "cpu (oneDNN) or ref (plain Go); default: the faster one that is there")
	f.StringVar(&m.precision, "precision", cmp.Or(m.precision, "f32"), "arithmetic of the network: f32, bf16, int8 (of a model that resdet quantize made) or auto (bf16 where the CPU has AMX)")
}

// addWorkers adds the flag of commands that can keep several workers busy.
func (m *modelFlags) addWorkers(f *pflag.FlagSet) {
	f.IntVar(&m.workers, "workers", 1, "detections at a time, each on an equal share of the threads; they share the weights")
}

// options are the flags', and what trials on this machine chose.
func (m modelFlags) options() resdet.Options {
	o := resdet.Options{Threads: m.threads, Workers: m.workers, Device: m.device, ShortSide: m.shortSide, Precision: resdet.Precision(m.precision)}
	if m.notes == nil {
		return o
	}
	dir, err := trialsDir()
	if err == nil {
		o.Choices, err = resdet.ReadChoices(dir, o)
	}
	if err != nil {
		fmt.Fprintf(m.notes, "resdet: note: layers are computed as the rule says: %v\n", err)
	}
	return o
}

// trialsDir is where bench --tune keeps what it found.
func trialsDir() (string, error) {
	dir, err := fetch.CacheDir()
	return filepath.Join(dir, "trials"), err
}

// open opens the model that the flags name.
func (m modelFlags) open() (*resdet.Detector, error) { return m.openPath(m.path) }

// openPath opens a model file, or the built-in model if path is empty.
func (m modelFlags) openPath(path string) (*resdet.Detector, error) {
	m.path = path
	return m.openWith(m.options())
}

// openWith opens the model with other options than the flags'.
func (m modelFlags) openWith(o resdet.Options) (*resdet.Detector, error) {
	switch o.Precision {
	case "", resdet.Auto, resdet.F32, resdet.BF16, resdet.Int8:
	default:
		return nil, usagef("--precision %q is none of f32, bf16, int8, auto", o.Precision)
	}
	if m.threads < 0 {
		return nil, usagef("--threads %d is negative", m.threads)
	}
	if m.workers < 0 || m.workers > m.threadCount() {
		return nil, usagef("--workers %d: with %s give 1 to %d", m.workers, plural(m.threadCount(), "thread"), m.threadCount())
	}
	var d *resdet.Detector
	var err error
	if m.path == "" {
		d, err = resdet.OpenDefault(o)
	} else {
		d, err = resdet.Open(m.path, o)
	}
	var lacks *resdet.PrecisionError
	if errors.Is(err, resdet.ErrNotQuantised) || errors.As(err, &lacks) {
		return nil, usageError{err}
	}
	return d, err
}
