package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"resdet/internal/train"
)

// partOf is the part of the network that a parameter belongs to, for people.
func partOf(key string) string {
	parts := strings.Split(key, ".")
	switch {
	case strings.HasPrefix(key, "backbone.body."):
		return strings.Join(parts[:3], ".")
	case len(parts) > 2:
		return strings.Join(parts[:2], ".")
	}
	return key
}

// forPeople rounds a time as it is said: 45 s, 12 min, 3 h 20 min.
func forPeople(d time.Duration) string {
	switch {
	case d < 90*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 90*time.Minute:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
}

// trainLine shows a run's progress: on a terminal one line that changes,
// elsewhere a line now and then.
type trainLine struct {
	w        io.Writer
	quiet    bool
	terminal bool
	shown    bool
	last     time.Time
}

func newTrainLine(w io.Writer, quiet bool) *trainLine {
	return &trainLine{w: w, quiet: quiet, terminal: isTerminal(w)}
}

// show shows where a run stands; every is how many steps lie between lines.
func (l *trainLine) show(p train.Progress, every int) {
	if l.quiet {
		return
	}
	text := fmt.Sprintf("step %d/%d  epoch %.1f  loss %.3f (class %.3f box %.3f rpn %.3f %.3f)  rate %.2g  %.2f images/s  %.0f MB  ETA %s",
		p.Step, p.Steps, p.Epoch, p.Losses.Total(), p.Losses.Classifier, p.Losses.Box, p.Losses.Objectness, p.Losses.RPNBox, p.Rate, p.ImagesPerSecond, p.MemoryMB, forPeople(p.Left))
	switch {
	case l.terminal:
		if time.Since(l.last) < 200*time.Millisecond && p.Step < p.Steps {
			return
		}
		l.last = time.Now()
		fmt.Fprintf(l.w, "\r\x1b[K%s", text)
		l.shown = true
	case p.Step%every == 0 || p.Step == p.Steps:
		fmt.Fprintln(l.w, text)
	}
}

// clear erases the line before something else is printed.
func (l *trainLine) clear() {
	if l.shown {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.shown = false
	}
}
