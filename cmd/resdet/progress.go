package main

import (
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how far a long command is, on a terminal only; elsewhere it
// is silent. Errors are printed above the bar.
type progress struct {
	err  io.Writer
	all  *mpb.Progress
	bar  *mpb.Bar
	last time.Time
}

// newProgress starts a bar over n things ("images"), unless there is one only,
// or nobody to see it.
func newProgress(errw io.Writer, what string, n int, quiet bool) *progress {
	p := &progress{err: errw, last: time.Now()}
	if quiet || n < 2 || !isTerminal(errw) {
		return p
	}
	p.all = mpb.New(mpb.WithOutput(errw), mpb.WithWidth(48))
	p.bar = p.all.AddBar(int64(n),
		mpb.PrependDecorators(decor.Name(what+" "), decor.CountersNoUnit("%d / %d")),
		mpb.AppendDecorators(decor.EwmaSpeed(0, "%.1f/s", 30), decor.Name("  ETA "), decor.EwmaETA(decor.ET_STYLE_GO, 30)),
	)
	return p
}

// step counts one thing done.
func (p *progress) step() {
	if p.bar != nil {
		now := time.Now()
		p.bar.EwmaIncrement(now.Sub(p.last))
		p.last = now
	}
}

// printError reports what went wrong with one thing.
func (p *progress) printError(err error) {
	if p.all != nil {
		printError(p.all, err)
		return
	}
	printError(p.err, err)
}

// above returns a writer to out for results that appear while the bar moves:
// on a terminal they go above it, for the bar erases the line that it was on.
func (p *progress) above(out io.Writer) io.Writer {
	if p.all == nil || !isTerminal(out) {
		return out
	}
	return aboveBar{p, out}
}

type aboveBar struct {
	p   *progress
	out io.Writer
}

func (a aboveBar) Write(b []byte) (int, error) {
	if a.p.all == nil { // stopped
		return a.out.Write(b)
	}
	return a.p.all.Write(b)
}

// stop ends the bar where it stands.
func (p *progress) stop() {
	if p.all == nil {
		return
	}
	if !p.bar.Completed() {
		p.bar.Abort(false)
	}
	p.all.Wait()
	p.all, p.bar = nil, nil
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// milliseconds for people and JSON, to the microsecond.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
