package web

import (
	"context"
	"fmt"
	"image"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// priority says who waits for whom in a queue.
type priority int

const (
	interactive priority = iota // a request, reserved before its pictures are decoded
	live                        // a camera's newest frame
	background                  // a job's next frames
	priorities
)

// patience is how many pictures of a higher priority may pass one of a lower
// one: jobs go on under load, at a ninth of the rate.
const patience = 8

// task is a picture that waits for its detections.
type task struct {
	ctx      context.Context
	img      image.Image
	settings Settings
	shape    [2]int // height and width of the network's input
	queued   time.Time
	waited   time.Duration // in the queue
	done     chan struct{} // closed when found and err are there
	found    found
	err      error
}

// found is what came out for one picture.
type found struct {
	detections []Detection
	timing     Timing        // of the batch that the picture was in
	waited     time.Duration // in the queue
}

// queue is the line before one model. A goroutine for each of the model's
// workers takes from it and runs the model, in batches of pictures of one shape
// and one setting.
type queue struct {
	model     Model
	cfg       Config
	turns     chan struct{} // shared with the other models
	observe   func(model string, batch []*task, t Timing)
	stop      chan struct{}
	runners   sync.WaitGroup
	wake      chan struct{} // capacity 1: something was put in line
	closeOnce sync.Once

	mu       sync.Mutex
	waiting  [priorities][]*task
	passed   int           // pictures that overtook one of a lower priority
	reserved int           // places of requests: decoding, waiting or under way
	pace     time.Duration // per picture, a moving average
}

func newQueue(m Model, cfg Config, turns chan struct{}, observe func(string, []*task, Timing)) *queue {
	q := &queue{
		model: m, cfg: cfg, turns: turns, observe: observe,
		stop: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	for range max(1, m.Workers) {
		q.runners.Go(q.run)
	}
	return q
}

// close ends the queue's goroutines. Nobody may be waiting.
func (q *queue) close() {
	q.closeOnce.Do(func() { close(q.stop) })
	q.runners.Wait()
}

// full refuses a request before its body is read, if there is no place for it.
func (q *queue) full() error {
	if err := q.reserve(1); err != nil {
		return err
	}
	q.unreserve(1)
	return nil
}

// reserve takes n places for a request's pictures, or says when to come again.
func (q *queue) reserve(n int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.reserved+n > q.cfg.Queue {
		return failf(429, "overloaded", "%d pictures wait for the model %s already", q.reserved, q.model.Name).after(q.pace * time.Duration(q.reserved))
	}
	q.reserved += n
	return nil
}

func (q *queue) unreserve(n int) {
	q.mu.Lock()
	q.reserved -= n
	q.mu.Unlock()
}

// length is how many places are taken.
func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reserved
}

// detect waits in line with a picture and returns what is found in it. When ctx
// ends it leaves the line, or stops the network where nobody else waits for it;
// the picture is not in use any more when detect returns.
func (q *queue) detect(ctx context.Context, p priority, img image.Image, s Settings) (found, error) {
	size := img.Bounds().Size()
	_, shape := q.model.Info.Transform.Plan(size.X, size.Y)
	t := &task{ctx: ctx, img: img, settings: s, shape: [2]int{shape[2], shape[3]}, queued: time.Now(), done: make(chan struct{})}
	q.mu.Lock()
	q.waiting[p] = append(q.waiting[p], t)
	q.mu.Unlock()
	q.rouse()
	select {
	case <-t.done:
	case <-ctx.Done():
		if q.leave(p, t) {
			return found{}, context.Cause(ctx)
		}
		<-t.done // it is under way, and ends at the next step of the network
	}
	return t.found, t.err
}

// leave takes a task out of the line, if it is still in it.
func (q *queue) leave(p priority, t *task) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting[p], t)
	if i < 0 {
		return false
	}
	q.waiting[p] = slices.Delete(q.waiting[p], i, i+1)
	return true
}

// rouse wakes a worker that waits for pictures.
func (q *queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default: // woken already
	}
}

func (q *queue) run() {
	for {
		select {
		case <-q.stop:
			return
		case <-q.wake:
		}
		for q.any() {
			q.turns <- struct{}{}
			q.dropEnded()
			if batch := q.next(); len(batch) > 0 { // who waited may have left
				if q.any() {
					q.rouse() // another worker: one call of rouse may stand for many pictures
				}
				q.runBatch(batch)
			}
			<-q.turns
		}
	}
}

func (q *queue) any() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.waiting {
		if len(w) > 0 {
			return true
		}
	}
	return false
}

// dropEnded takes those out of the line whose clients are gone, before they
// have done so themselves.
func (q *queue) dropEnded() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for p := range q.waiting {
		q.waiting[p] = slices.DeleteFunc(q.waiting[p], func(t *task) bool {
			ended := t.ctx.Err() != nil
			if ended {
				t.err = context.Cause(t.ctx)
				close(t.done)
			}
			return ended
		})
	}
}

// next takes the first picture and those that may go with it.
func (q *queue) next() []*task {
	batch := q.fill(q.head())
	if len(batch) == 0 {
		return nil
	}
	deadline := time.NewTimer(time.Until(batch[0].queued.Add(q.cfg.BatchWait)))
	defer deadline.Stop()
	for len(batch) < q.cfg.Batch {
		select {
		case <-q.wake:
			batch = q.fill(batch)
		case <-deadline.C:
			return batch
		}
	}
	return batch
}

// head takes the picture whose turn it is, if there is one.
func (q *queue) head() []*task {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := -1
	for p := range q.waiting {
		if len(q.waiting[p]) == 0 {
			continue
		}
		if line >= 0 { // p is passed by, unless it was patient long enough
			if q.passed++; q.passed > patience {
				q.passed, line = 0, p
			}
			break
		}
		line = p
	}
	if line < 0 {
		return nil
	}
	t := q.waiting[line][0]
	q.waiting[line] = slices.Delete(q.waiting[line], 0, 1)
	return []*task{t}
}

// fill adds to a batch what may go with its first picture.
func (q *queue) fill(batch []*task) []*task {
	if len(batch) == 0 || q.cfg.Batch == 1 {
		return batch
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for p := range q.waiting {
		q.waiting[p] = slices.DeleteFunc(q.waiting[p], func(t *task) bool {
			joins := len(batch) < q.cfg.Batch && batch[0].goesWith(t)
			if joins {
				batch = append(batch, t)
			}
			return joins
		})
	}
	return batch
}

func (t *task) goesWith(o *task) bool {
	return t.shape == o.shape && t.settings.Score == o.settings.Score && t.settings.NMS == o.settings.NMS &&
		t.settings.Max == o.settings.Max && slices.Equal(t.settings.Only, o.settings.Only)
}

// runBatch runs the network on the batch and tells those who wait.
func (q *queue) runBatch(batch []*task) {
	ctx, cancel := whileAny(batch)
	defer cancel()
	start := time.Now()
	images := make([]image.Image, len(batch))
	for i, t := range batch {
		images[i], t.waited = t.img, start.Sub(t.queued)
	}
	lists, timing, err := q.safely(ctx, images, batch[0].settings)
	took := time.Since(start) / time.Duration(len(batch)*max(1, q.model.Workers))
	q.mu.Lock()
	if q.pace == 0 {
		q.pace = took
	}
	q.pace += (took - q.pace) / 8
	q.mu.Unlock()
	if err == nil {
		q.observe(q.model.Name, batch, timing)
	}
	for i, t := range batch {
		switch {
		case t.ctx.Err() != nil:
			t.err = context.Cause(t.ctx)
		case err != nil:
			t.err = err
		default:
			t.found = found{lists[i], timing, t.waited}
		}
		close(t.done)
	}
}

// safely keeps a panic of the detector, which is a bug, from ending the server.
func (q *queue) safely(ctx context.Context, images []image.Image, s Settings) (lists [][]Detection, t Timing, err error) {
	defer func() {
		if v := recover(); v != nil {
			q.cfg.Log.Error("the detector panicked", "model", q.model.Name, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = fmt.Errorf("web: model %s failed: %v", q.model.Name, v)
		}
	}()
	lists, t, err = q.model.Detector.Detect(ctx, images, s)
	if err == nil && len(lists) != len(images) {
		err = fmt.Errorf("web: model %s gave %d lists of detections for %d pictures", q.model.Name, len(lists), len(images))
	}
	return lists, t, err
}

// whileAny returns a context that ends when all tasks' contexts have ended.
func whileAny(batch []*task) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	left := len(batch)
	stops := make([]func() bool, len(batch))
	for i, t := range batch {
		stops[i] = context.AfterFunc(t.ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel()
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}
