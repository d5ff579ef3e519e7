package train

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"resdet/internal/train/events"
)

// Names of a run's files in its folder.
const (
	CheckpointFile = "checkpoint.safetensors"
	MetricsFile    = "metrics.jsonl"
	EventsFile     = "events.out.tfevents.1.resdet"
)

// Figure is a named number of an evaluation.
type Figure struct {
	Name  string
	Value float64
}

// Record is a line of metrics.jsonl: the means over the steps since the last
// one, or an evaluation.
type Record struct {
	Step  int     `json:"step"`  // how many were made
	Epoch float64 `json:"epoch"` // how often the images were seen
	// Of training:
	Loss            float64            `json:"loss,omitempty"`
	Losses          map[string]float64 `json:"losses,omitempty"`
	Rate            float64            `json:"rate,omitempty"`
	GradientNorm    float64            `json:"gradient_norm,omitempty"`
	ImagesPerSecond float64            `json:"images_per_second,omitempty"`
	MemoryMB        float64            `json:"memory_mb,omitempty"`
	Seconds         float64            `json:"seconds"` // since the run began, pauses left out
	// Of an evaluation:
	Score   *float64           `json:"score,omitempty"`
	Figures map[string]float64 `json:"figures,omitempty"`
}

// logs are the files that grow during a run.
type logs struct {
	dir    string
	files  map[string]*os.File
	events *events.Writer
}

// openLogs opens a run's logs in its folder and cuts off what was written
// after the sizes that a checkpoint names; without one they are begun anew.
func openLogs(dir string, sizes map[string]int64) (*logs, error) {
	l := &logs{dir: dir, files: map[string]*os.File{}}
	for _, name := range []string{MetricsFile, EventsFile} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("train: %w", err)
		}
		l.files[name] = f
		size := sizes[name]
		if info, err := f.Stat(); err == nil && info.Size() < size {
			size = info.Size() // somebody shortened it: that is no reason not to go on
		}
		if err = f.Truncate(size); err == nil {
			_, err = f.Seek(size, io.SeekStart)
		}
		if name == EventsFile && err == nil {
			l.events = events.NewWriter(f)
			if size == 0 {
				err = l.events.Begin(wall())
			}
		}
		if err != nil {
			l.close()
			return nil, fmt.Errorf("train: %w", err)
		}
	}
	return l, nil
}

// wall is the time in seconds since 1970.
func wall() float64 { return float64(time.Now().UnixMicro()) / 1e6 }

// sizes returns how long the files are.
func (l *logs) sizes() (map[string]int64, error) {
	out := map[string]int64{}
	for name, f := range l.files {
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
		out[name] = at
	}
	return out, nil
}

// write appends a record to both files.
func (l *logs) write(r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("train: %s: %w", MetricsFile, err)
	}
	if _, err := l.files[MetricsFile].Write(append(line, '\n')); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	var scalars []events.Scalar
	add := func(tag string, v float64) { scalars = append(scalars, events.Scalar{Tag: tag, Value: v}) }
	if r.Score != nil {
		add("score", *r.Score)
		for name, v := range r.Figures {
			add("evaluation/"+name, v)
		}
	} else {
		add("loss/total", r.Loss)
		for name, v := range r.Losses {
			add("loss/"+name, v)
		}
		add("rate", r.Rate)
		add("gradient_norm", r.GradientNorm)
		add("images_per_second", r.ImagesPerSecond)
		add("memory_mb", r.MemoryMB)
	}
	return l.events.Write(wall(), int64(r.Step), scalars...)
}

func (l *logs) close() {
	for _, f := range l.files {
		f.Close()
	}
}

// ReadMetrics returns the records of a run's folder.
func ReadMetrics(dir string) ([]Record, error) {
	f, err := os.Open(filepath.Join(dir, MetricsFile))
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	defer f.Close()
	var out []Record
	for d := json.NewDecoder(f); d.More(); {
		var r Record
		if err := d.Decode(&r); err != nil {
			return nil, fmt.Errorf("train: %s: line %d: %w", f.Name(), len(out)+1, err)
		}
		out = append(out, r)
	}
	return out, nil
}
