package eval

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// add adds all images from as many goroutines as there are cores.
func (s sample) add(e *Evaluator) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(s.Images)); i = next.Add(1) - 1 {
				id := s.Images[i]
				if err := e.Add(id, s.Truths[id], s.Dets[id]); err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

func BenchmarkVOCTestSize(b *testing.B) {
	s := vocTest.make(1)
	b.Logf("%d images, %d objects, %d detections", len(s.Images), len(flatten(s.Truths)), len(flatten(s.Dets)))
	for _, p := range []Protocol{COCO, VOC07} {
		b.Run(string(p), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				cfg := DefaultConfig()
				cfg.Protocol, cfg.Classes = p, s.Classes
				e, err := New(cfg)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.add(e); err != nil {
					b.Fatal(err)
				}
				if _, err := e.Result(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("causes and confusion", func(b *testing.B) {
		r := s.evaluate(b, COCO)
		for b.Loop() {
			causes(r.cfg, r.Images)
			confusion(r.cfg, r.Images)
		}
	})
}

func BenchmarkBootstrap10000(b *testing.B) {
	s := vocTest.make(1)
	x, y := s.evaluate(b, COCO), vocTest.pair(1, 2).evaluate(b, COCO)
	for name, areas := range map[string]int{"AP and classes": 1, "with sizes": numAreas} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := bootstrap(context.Background(), x, y, CompareConfig{Samples: 10000, Seed: 1}, areas); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
