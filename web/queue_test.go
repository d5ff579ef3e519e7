package web

import (
	"context"
	"errors"
	"image"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func testQueue(f Detector, change func(*Config)) *queue {
	cfg := testConfig()
	if change != nil {
		change(&cfg)
	}
	m := fakeModel("a", &fake{})
	m.Detector = f
	return newQueue(m, cfg, make(chan struct{}, 1), func(string, []*task, Timing) {})
}

// recorder notes the sizes of the batches and the widths of their pictures,
// each of which takes a second.
type recorder struct {
	batches [][]int
}

func (r *recorder) Detect(ctx context.Context, images []image.Image, s Settings) ([][]Detection, Timing, error) {
	var widths []int
	for _, img := range images {
		widths = append(widths, img.Bounds().Dx())
	}
	r.batches = append(r.batches, widths)
	select {
	case <-time.After(time.Second):
		return make([][]Detection, len(images)), Timing{}, nil
	case <-ctx.Done():
		return nil, Timing{}, ctx.Err()
	}
}

// The queue takes as many as it may and refuses the next, with a time that
// follows from its length and pace.
func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testQueue(&recorder{}, func(c *Config) { c.Queue = 3 })
		defer q.close()
		if _, err := q.detect(t.Context(), interactive, gradient(8, 8), Settings{}); err != nil {
			t.Fatal(err)
		}
		if err := q.reserve(3); err != nil {
			t.Fatal(err)
		}
		err := q.reserve(1)
		var f *failure
		if !errors.As(err, &f) || f.status != 429 || f.wait != 3*time.Second {
			t.Errorf("%+v, want 429 after 3 s", f)
		}
		q.unreserve(1)
		if err := q.full(); err != nil {
			t.Error(err)
		}
	})
}

// Pictures of one shape and setting that wait go together, others do not, and
// none waits longer for company than it may.
func TestQueueBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		q := testQueue(r, func(c *Config) { c.Batch, c.BatchWait = 3, 5*time.Millisecond })
		defer q.close()
		var group sync.WaitGroup
		put := func(width int, s Settings) {
			group.Go(func() {
				if _, err := q.detect(t.Context(), interactive, gradient(width, width), s); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		start := time.Now()
		put(100, Settings{}) // alone: nobody comes within 5 ms
		time.Sleep(10 * time.Millisecond)
		put(101, Settings{}) // these wait while it runs
		put(300, Settings{Only: []int{1}})
		put(102, Settings{})
		put(103, Settings{})
		put(104, Settings{})
		group.Wait()
		if took := time.Since(start); took > 4100*time.Millisecond {
			t.Errorf("four batches of a second took %v", took)
		}
		want := [][]int{{100}, {101, 102, 103}, {300}, {104}}
		if len(r.batches) != len(want) {
			t.Fatalf("batches %v, want %v", r.batches, want)
		}
		for i := range want {
			if len(r.batches[i]) != len(want[i]) || r.batches[i][0] != want[i][0] {
				t.Errorf("batches %v, want %v", r.batches, want)
			}
		}
	})
}

// counter is a model whose calls take a second, and that notes how many ran at
// a time.
type counter struct{ running, most atomic.Int64 }

func (c *counter) Detect(_ context.Context, images []image.Image, _ Settings) ([][]Detection, Timing, error) {
	n := c.running.Add(1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	time.Sleep(time.Second)
	c.running.Add(-1)
	return make([][]Detection, len(images)), Timing{}, nil
}

// A model's workers share its line: no picture waits while one of them is idle.
func TestQueueWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := &counter{}, fakeModel("a", &fake{})
		m.Detector, m.Workers = c, 3
		q := newQueue(m, testConfig(), make(chan struct{}, 3), func(string, []*task, Timing) {})
		defer q.close()
		start := time.Now()
		var group sync.WaitGroup
		for range 7 {
			group.Go(func() {
				if _, err := q.detect(t.Context(), interactive, gradient(8, 8), Settings{}); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if took := time.Since(start); took != 3*time.Second || c.most.Load() != 3 {
			t.Errorf("seven pictures of a second took %v on three workers, %d at a time", took, c.most.Load())
		}
	})
}

// Requests go before cameras and jobs, but not for ever.
func TestQueuePriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		q := testQueue(r, nil)
		defer q.close()
		var group sync.WaitGroup
		put := func(width int, p priority) {
			group.Go(func() {
				if _, err := q.detect(t.Context(), p, gradient(width, 1), Settings{}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		put(1, interactive) // runs
		put(3, background)
		for range 12 {
			put(2, interactive)
		}
		group.Wait()
		at := -1
		for i, b := range r.batches {
			if b[0] == 3 {
				at = i
			}
		}
		if at != patience+1 {
			t.Errorf("the job's picture was number %d, want %d: %v", at, patience+1, r.batches)
		}
	})
}

// Who goes away leaves the line, and stops the network where it ran for nobody
// else.
func TestQueueCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		q := testQueue(r, nil)
		defer q.close()
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				if _, err := q.detect(ctx, interactive, gradient(8, 8), Settings{}); !errors.Is(err, context.Canceled) {
					t.Errorf("error %v", err)
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		cancel()
		group.Wait()
		if took := time.Since(start); took != 500*time.Millisecond || len(r.batches) != 1 {
			t.Errorf("after %v, %d pictures began", took, len(r.batches))
		}
		// The line is free again.
		if _, err := q.detect(t.Context(), interactive, gradient(8, 8), Settings{}); err != nil {
			t.Error(err)
		}
	})
}

// A batch goes on for those who stay.
func TestQueueCancelOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testQueue(&recorder{}, func(c *Config) { c.Batch, c.BatchWait = 2, 100*time.Millisecond })
		defer q.close()
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := q.detect(ctx, interactive, gradient(8, 8), Settings{}); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		})
		group.Go(func() {
			if _, err := q.detect(t.Context(), interactive, gradient(8, 8), Settings{}); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(500 * time.Millisecond)
		cancel()
		group.Wait()
	})
}

// broken panics, or answers with too few lists.
type broken struct{ panics bool }

func (b broken) Detect(context.Context, []image.Image, Settings) ([][]Detection, Timing, error) {
	if b.panics {
		panic("a bug")
	}
	return nil, Timing{}, nil
}

// A detector's bug is an error of its requests and nothing more.
func TestQueueBugs(t *testing.T) {
	for _, b := range []broken{{true}, {false}} {
		q := testQueue(b, nil)
		for range 2 {
			if _, err := q.detect(t.Context(), interactive, gradient(8, 8), Settings{}); err == nil || asFailure(err).status != 500 {
				t.Errorf("%+v: error %v", b, err)
			}
		}
		q.close()
	}
}
