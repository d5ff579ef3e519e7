package data

import (
	"context"
	"fmt"
	"image"
	"os"
	"sync"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/nd"
	"resdet/internal/transform"
)

// Loader gives a run's batches in order, made ahead on several goroutines. It
// is used by one goroutine at a time.
type Loader struct {
	set       *Set
	cfg       Config
	transform transform.Config
	seed      uint64
	sampler   *Sampler

	at     Position // of the next Next
	ready  chan chan result
	cancel context.CancelFunc
	wait   sync.WaitGroup
	free   chan []float32 // pixels to be used again
}

// job is a batch to be made.
type job struct {
	at     Position
	images []int
	done   chan result
}

type result struct {
	batch *Batch
	err   error
}

// NewLoader starts to make batches from a position on. Close ends that.
func NewLoader(set *Set, cfg Config, t transform.Config, seed uint64, from Position) *Loader {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Loader{
		set: set, cfg: cfg, transform: t, seed: seed, sampler: NewSampler(set, cfg.Batch, seed), at: from,
		// With one in every worker's hands and one more that waits, the network
		// finds the next as long as a batch is made in less than its time.
		ready: make(chan chan result, cfg.Workers), cancel: cancel, free: make(chan []float32, cfg.Workers+2),
	}
	jobs := make(chan job)
	for range cfg.Workers {
		l.wait.Go(func() {
			scratch := transform.NewScratch(1)
			for j := range jobs {
				b, err := l.compose(ctx, j, scratch)
				j.done <- result{b, err}
			}
		})
	}
	l.wait.Go(func() {
		defer close(jobs)
		for at := from; ; {
			for _, images := range l.sampler.Epoch(at.Epoch)[at.Batch:] {
				j := job{at: at, images: images, done: make(chan result, 1)}
				select {
				case l.ready <- j.done:
				case <-ctx.Done():
					return
				}
				select {
				case jobs <- j:
				case <-ctx.Done():
					return
				}
				at = l.sampler.Next(at)
			}
		}
	})
	return l
}

// Close ends the goroutines. It is idempotent; Next must not be called after.
func (l *Loader) Close() {
	l.cancel()
	l.wait.Wait()
}

// Position returns where the next batch stands.
func (l *Loader) Position() Position { return l.at }

// Next returns the next batch; without end, epoch after epoch. Its pixels are
// the caller's until it gives them back with Recycle.
func (l *Loader) Next(ctx context.Context) (*Batch, error) {
	var done chan result
	select {
	case done = <-l.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case r := <-done:
		if r.err == nil {
			l.at = l.sampler.Next(l.at)
		}
		return r.batch, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Recycle takes the pixels of a batch that is done with.
func (l *Loader) Recycle(b *Batch) {
	select {
	case l.free <- b.Pixels.Data:
	default:
	}
	b.Pixels = nil
}

// pixels returns a tensor with any content.
func (l *Loader) pixels(shape nd.Shape) *nd.Tensor[float32] {
	select {
	case old := <-l.free:
		if n := shape.Len(); cap(old) >= n {
			return nd.Of(old[:n], shape...)
		}
	default:
	}
	return nd.New[float32](shape...)
}

// compose makes one batch.
func (l *Loader) compose(ctx context.Context, j job, scratch *transform.Scratch) (*Batch, error) {
	b := &Batch{Seed: random(l.seed, j.at.Epoch, streamBatch-j.at.Batch).Uint64()}
	photos := make([]image.Image, len(j.images))
	changes := make([]change, len(j.images))
	for n, i := range j.images {
		img, i, err := l.decode(ctx, b, i)
		if err != nil {
			return nil, err
		}
		photos[n] = img
		changes[n] = l.cfg.Augment.draw(random(l.seed, j.at.Epoch, i), l.transform)
		size := img.Bounds().Size()
		view, _ := changes[n].resize.Plan(size.X, size.Y)
		b.Views = append(b.Views, view)
		b.Names = append(b.Names, l.set.images[i].name)
		b.Truths = append(b.Truths, truths(l.set.images[i].objects, view, changes[n].flip))
	}
	shape := l.transform.BatchShape(b.Views...)
	b.Pixels = l.pixels(shape)
	height, width := shape[2], shape[3]
	for n, c := range changes {
		planes := b.Pixels.Data[n*3*height*width:][:3*height*width]
		view := b.Views[n]
		if err := l.transform.Write(planes, height, width, photos[n], view, scratch); err != nil {
			return nil, fmt.Errorf("data: %s: %w", b.Names[n], err)
		}
		if c.colour != nil {
			c.colour.apply(planes, view.ScaledWidth, view.ScaledHeight, width, l.transform)
		}
		if c.flip {
			mirror(planes, view.ScaledWidth, view.ScaledHeight, width)
		}
	}
	return b, nil
}

// decode reads image i, or, where photos that cannot be read are skipped, the
// next one of its kind that can; it returns which.
func (l *Loader) decode(ctx context.Context, b *Batch, i int) (image.Image, int, error) {
	for tried := 0; ; tried++ {
		img, err := readPhoto(l.set.images[i].path)
		if err == nil {
			return img, i, nil
		}
		err = fmt.Errorf("data: %s: %w", l.set.images[i].path, err)
		if l.cfg.Corrupt == Stop || tried == len(l.set.images) || ctx.Err() != nil {
			return nil, i, err
		}
		b.Skipped = append(b.Skipped, err)
		for kind := l.set.portrait[i]; ; {
			if i = (i + 1) % len(l.set.images); l.set.portrait[i] == kind {
				break
			}
		}
	}
}

func readPhoto(path string) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return transform.Decode(f, transform.DefaultLimits())
}

// truths brings objects to network pixels, cut to the image. What is nothing
// then (dataset checks report such boxes) is left out.
func truths(objects []object, view det.View, flip bool) []det.Truth {
	sx, sy := float32(view.ScaledWidth)/float32(view.Width), float32(view.ScaledHeight)/float32(view.Height)
	width := float32(view.ScaledWidth)
	out := make([]det.Truth, 0, len(objects))
	for _, o := range objects {
		b := box.Box{X0: float32(o.X), Y0: float32(o.Y), X1: float32(o.X1()), Y1: float32(o.Y1())}
		b = b.Clip(float32(view.Width), float32(view.Height)).Scale(sx, sy)
		if flip {
			b.X0, b.X1 = width-b.X1, width-b.X0
		}
		if b.Finite() && b.Width() > 0 && b.Height() > 0 {
			out = append(out, det.Truth{Class: o.class, Box: b, Ignore: o.ignore})
		}
	}
	return out
}
