package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"resdet/internal/video"
)

// videoProgress shows a run's progress on a terminal: how far, how fast, each
// stage's own rate, and when it will be done. What is written to it appears
// above the bar.
type videoProgress struct {
	err   io.Writer
	quiet bool

	mu   sync.Mutex
	all  *mpb.Progress
	bar  *mpb.Bar
	quit chan struct{}
	done sync.WaitGroup
}

func newVideoProgress(errw io.Writer, quiet bool) *videoProgress {
	return &videoProgress{err: errw, quiet: quiet}
}

// Write prints a line of the log.
func (v *videoProgress) Write(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.all != nil {
		return v.all.Write(b)
	}
	return v.err.Write(b)
}

// watch shows p until stop.
func (v *videoProgress) watch(p *video.Pipeline, cfg video.Config) {
	if v.quiet || !isTerminal(v.err) {
		return
	}
	total := cfg.Length(p.Stats().Source)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = mpb.New(mpb.WithOutput(v.err), mpb.WithWidth(32), mpb.WithRefreshRate(200*time.Millisecond))
	live := decor.Any(func(decor.Statistics) string { return stageRates(p.Stats()) })
	if total > 0 {
		v.bar = v.all.AddBar(total.Milliseconds(), mpb.PrependDecorators(decor.Percentage()), mpb.AppendDecorators(
			decor.Any(func(decor.Statistics) string { return "ETA " + eta(p.Stats(), cfg.Start, total) }), live))
	} else {
		v.bar = v.all.New(0, mpb.SpinnerStyle(), mpb.AppendDecorators(live))
	}
	v.quit = make(chan struct{})
	v.done.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				v.bar.SetCurrent(min((p.Stats().Position - cfg.Start).Milliseconds(), total.Milliseconds()-1))
			case <-v.quit:
				return
			}
		}
	})
}

// eta is the time that is left, as text.
func eta(s video.Stats, start, total time.Duration) string {
	left, ok := s.Left(start, total)
	if !ok {
		return "?"
	}
	return left.Round(time.Second).String()
}

// stageRates is the run's rate and each stage's own, in frames per second.
func stageRates(s video.Stats) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %.1f/s", float64(s.Done)/max(s.Elapsed.Seconds(), 1e-3))
	for _, stage := range s.Stages {
		if stage.Frames > 0 && stage.FPS() > 0 {
			fmt.Fprintf(&b, "  %s %s", stage.Name, rate(stage.FPS()))
		}
	}
	if s.Dropped > 0 {
		fmt.Fprintf(&b, "  dropped %d", s.Dropped)
	}
	if s.Source.Live {
		fmt.Fprintf(&b, "  age %v", s.Age.Round(10*time.Millisecond))
	}
	return b.String()
}

// rate is a number of frames per second; beyond a thousand a stage is free.
func rate(fps float64) string {
	switch {
	case fps < 10:
		return fmt.Sprintf("%.1f", fps)
	case fps < 1000:
		return fmt.Sprintf("%.0f", fps)
	}
	return ">1000"
}

// stop removes the bar.
func (v *videoProgress) stop() {
	v.mu.Lock()
	all := v.all
	v.mu.Unlock()
	if all == nil {
		return
	}
	close(v.quit)
	v.done.Wait()
	v.bar.Abort(true)
	all.Wait()
	v.mu.Lock()
	v.all = nil
	v.mu.Unlock()
}

// summary is what stays of a run on the terminal.
func summary(s video.Stats) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %v", plural(int(s.Done), "frame"), s.Elapsed.Round(10*time.Millisecond))
	for _, c := range []struct {
		n    int64
		what string
	}{{s.Detected, "looked at"}, {s.Skipped, "skipped"}, {s.Dropped, "dropped"}, {s.Damaged, "damaged"}, {int64(s.Reconnects), "times reconnected"}} {
		if c.n > 0 {
			fmt.Fprintf(&b, ", %d %s", c.n, c.what)
		}
	}
	if s.Done > 0 {
		fmt.Fprintf(&b, ";%s", stageRates(s))
	}
	if s.Source.Live {
		fmt.Fprintf(&b, "; oldest frame shown %v", s.MaxAge.Round(10*time.Millisecond))
	}
	return b.String()
}
