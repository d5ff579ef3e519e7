package web

import (
	"context"
	"errors"
	"fmt"
	"image"
	"slices"
	"sync"
	"time"

	"resdet/internal/det"
	"resdet/internal/transform"
	"resdet/roihead"
)

// Names of other packages' types that stand in this one's signatures.
type (
	// Detection is an object found: Class indexes [Info.Classes], Box is in
	// pixels of the picture, best scores come first.
	Detection = det.Detection
	// Settings are the thresholds of a request; Only indexes [Info.Classes].
	Settings = roihead.Settings
	// Transform says how a picture becomes the network's input, and so which
	// pictures have one shape there.
	Transform = transform.Config
)

// Detector is what a server needs of a network. The server calls it from as
// many goroutines at a time as the model has workers.
type Detector interface {
	// Detect finds the objects of pictures that have one shape for the network,
	// each list best first. It returns ctx's error when ctx ends first, and may
	// not keep the pictures.
	Detect(ctx context.Context, images []image.Image, s Settings) ([][]Detection, Timing, error)
}

// Timing says where the time of a Detect call went.
type Timing struct{ Compile, Transform, Stage1, Proposals, Stage2, Post, Total time.Duration }

// Model is a detector with what people want to know of it.
type Model struct {
	// Name is how requests ask for it.
	Name string
	Info Info
	// Settings are the model's own thresholds.
	Settings Settings
	Detector Detector
	// Workers is how many calls of Detector may run at a time; 0: one.
	Workers int
	// Close releases the model; the server calls it once, when the model has
	// been replaced and its last request is answered, or the server ends.
	Close func() error
}

// Info describes a model.
type Info struct {
	Arch      string
	Classes   []Class
	Transform Transform
	Precision string // arithmetic of the network: "f32", "bf16", "int8"
	// Source, License and Data say where the weights come from, whom to credit,
	// and what they were trained on; Scores are results as reported, by name.
	Source, License, Data string
	Scores                map[string]float64
}

// Class is what a detector finds.
type Class struct {
	ID   int    `json:"id"` // in the data that the model was trained on
	Name string `json:"name"`
}

// maxWorkers bounds the goroutines before a model.
const maxWorkers = 1024

func (m Model) validate() error {
	switch {
	case m.Name == "" || len(m.Name) > 255:
		return fmt.Errorf("web: a model's name %q: it must have 1 to 255 bytes", m.Name)
	case m.Detector == nil:
		return fmt.Errorf("web: model %s has no detector", m.Name)
	case m.Workers < 0 || m.Workers > maxWorkers:
		return fmt.Errorf("web: model %s has %d workers: give 0 to %d", m.Name, m.Workers, maxWorkers)
	case len(m.Info.Classes) == 0:
		return fmt.Errorf("web: model %s has no classes", m.Name)
	}
	return m.Info.Transform.Validate()
}

// served is a model with its queue. It lives from SetModels until it has been
// replaced and the last user has released it.
type served struct {
	Model
	queue *queue

	set  *modelSet
	refs int // guarded by set.mu; the set itself holds one
}

// release ends a use that [modelSet.acquire] began.
func (m *served) release() { m.set.release(m) }

// modelSet holds the models that are served now, in the order given; the first
// is the default one.
type modelSet struct {
	newQueue func(Model) *queue
	failed   func(error) // told of a model that could not be closed

	mu      sync.Mutex
	models  []*served
	closing sync.WaitGroup // models that are replaced but still used
}

// acquire returns a model that stays open until it is released; the empty name
// is the default model's.
func (s *modelSet) acquire(name string) (*served, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.models {
		if name == "" || m.Name == name {
			m.refs++
			return m, nil
		}
	}
	if len(s.models) == 0 {
		return nil, failf(503, "not_ready", "no model is loaded yet").after(time.Second)
	}
	names := make([]string, len(s.models))
	for i, m := range s.models {
		names[i] = m.Name
	}
	return nil, failf(404, "unknown_model", "there is no model %q%s", clip(name), oneOf(name, names))
}

// all acquires every model.
func (s *modelSet) all() []*served {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.models {
		m.refs++
	}
	return append([]*served(nil), s.models...)
}

// replace serves these models from now on. Requests under way keep theirs.
func (s *modelSet) replace(models []Model) error {
	seen := map[string]bool{}
	for _, m := range models {
		if err := m.validate(); err != nil {
			return err
		}
		if seen[m.Name] {
			return fmt.Errorf("web: two models have the name %q", m.Name)
		}
		seen[m.Name] = true
	}
	next := make([]*served, len(models))
	for i, m := range models {
		next[i] = &served{Model: m, queue: s.newQueue(m), set: s, refs: 1}
	}
	s.mu.Lock()
	old := s.models
	s.models = next
	s.closing.Add(len(next)) // until closed
	s.mu.Unlock()
	s.releaseAll(old)
	return nil
}

// put serves a model beside the others, in the place of one of the same name.
func (s *modelSet) put(m Model) error {
	if err := m.validate(); err != nil {
		return err
	}
	next := &served{Model: m, queue: s.newQueue(m), set: s, refs: 1}
	s.mu.Lock()
	s.closing.Add(1)
	old := s.without(m.Name)
	s.models = append(s.models, next)
	s.mu.Unlock()
	s.releaseAll(old)
	return nil
}

// remove does not serve the model of that name any more; requests under way
// keep it.
func (s *modelSet) remove(name string) {
	s.mu.Lock()
	old := s.without(name)
	s.mu.Unlock()
	s.releaseAll(old)
}

// without takes the model of that name out of the set, if it is there. The
// caller holds the lock, and releases what is returned.
func (s *modelSet) without(name string) (taken []*served) {
	s.models = slices.DeleteFunc(slices.Clone(s.models), func(m *served) bool {
		if m.Name == name {
			taken = append(taken, m)
		}
		return m.Name == name
	})
	return taken
}

func (s *modelSet) releaseAll(models []*served) {
	for _, m := range models {
		s.release(m)
	}
}

func (s *modelSet) release(m *served) {
	s.mu.Lock()
	m.refs--
	last := m.refs == 0
	s.mu.Unlock()
	if !last {
		return
	}
	defer s.closing.Done()
	m.queue.close()
	if m.Close != nil {
		if err := m.Close(); err != nil {
			s.failed(errors.Join(fmt.Errorf("web: closing model %s", m.Name), err))
		}
	}
}

// close releases all models and waits until they are closed: the caller has
// ended all requests before.
func (s *modelSet) close() {
	_ = s.replace(nil) // nothing to validate
	s.closing.Wait()
}
