package main

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"resdet"
	"resdet/internal/device/cpu"
)

// tuning is the result of bench --tune. Times are of one worker's detections,
// the shortest of the runs.
type tuning struct {
	Device string       `json:"device"`
	Rule   float64      `json:"rule_seconds"`
	Tuned  float64      `json:"tuned_seconds"`
	Layers []tunedLayer `json:"layers"` // that another algorithm than the rule's computes faster
	Tried  int          `json:"tried"`  // layers with a choice
	Kept   bool         `json:"kept"`   // the whole was faster too
	File   string       `json:"file"`
}

type tunedLayer struct {
	Layer   string  `json:"layer"`
	Rule    string  `json:"rule"`
	RuleSec float64 `json:"rule_seconds"` // all kernels of the layer together
	Best    string  `json:"best"`
	BestSec float64 `json:"best_seconds"`
}

// trialTimes are the shortest times of layers by algorithm, in a program.
type trialTimes map[string]map[string]time.Duration

// gain is how much faster than the rule's an algorithm must have been: less is
// noise, and every kernel more that a network uses is cold once more.
const gain = 0.97

// runTune compiles the network once with each algorithm, as far as layers can be
// computed by it, and keeps those that were faster in their places, if the
// network is faster with them. It takes ten times (1 + runs) detections at most.
func runTune(ctx context.Context, s streams, o benchOptions) error {
	o.model.notes = nil // trials are of the rule
	var t tuning
	rule, seconds, err := o.trial(ctx, &t, resdet.Choices{}, nil)
	if err != nil {
		return err
	}
	t.Rule = seconds
	times := trialTimes{}
	byRule := map[string]string{}
	for layer, all := range rule {
		times[layer] = map[string]time.Duration{}
		for name := range all {
			byRule[layer] = name
		}
	}
	t.Tried = len(byRule)
	times.merge(rule)
	for _, name := range cpu.Algorithms() {
		got, _, err := o.trial(ctx, &t, resdet.Choices{Others: name}, byRule)
		if err != nil {
			return fmt.Errorf("trial of %s: %w", name, err)
		}
		times.merge(got)
	}
	chosen := map[string]string{}
	for layer, all := range times {
		was, best := byRule[layer], byRule[layer]
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if all[name] < all[best] {
				best = name
			}
		}
		chosen[layer] = ""
		if float64(all[best]) < gain*float64(all[was]) {
			chosen[layer] = best
			t.Layers = append(t.Layers, tunedLayer{layer, was, all[was].Seconds(), best, all[best].Seconds()})
		}
	}
	slices.SortFunc(t.Layers, func(a, b tunedLayer) int {
		return int(1e9 * ((b.RuleSec - b.BestSec) - (a.RuleSec - a.BestSec)))
	})
	if t.Tuned = t.Rule; len(t.Layers) > 0 {
		if err := o.verify(ctx, &t, chosen); err != nil {
			return err
		}
	}
	if !t.Kept {
		for layer := range chosen {
			chosen[layer] = ""
		}
	}
	dir, err := trialsDir()
	if err != nil {
		return err
	}
	if t.File, err = cpu.WriteChoices(dir, o.model.options().Machine(), chosen); err != nil {
		return err
	}
	if o.json {
		return json.NewEncoder(s.out).Encode(t)
	}
	return t.print(s.out)
}

// verify measures the whole network by the rule and as chosen once more, after
// each other, for machines change their pace.
func (o benchOptions) verify(ctx context.Context, t *tuning, chosen map[string]string) (err error) {
	if _, t.Tuned, err = o.trial(ctx, t, resdet.Choices{Layers: chosen}, nil); err != nil {
		return err
	}
	if _, t.Rule, err = o.trial(ctx, t, resdet.Choices{}, nil); err != nil {
		return err
	}
	t.Kept = t.Tuned < t.Rule
	return nil
}

// trial detects with these choices and returns the shortest times of the layers
// and of the whole. With unless, it measures nothing if all layers are computed
// as given there.
func (o benchOptions) trial(ctx context.Context, t *tuning, choices resdet.Choices, unless map[string]string) (trialTimes, float64, error) {
	o.choices = choices
	d, img, err := o.open(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer d.Close()
	t.Device = d.Device()
	images := slices.Repeat([]image.Image{img}, o.batch)
	if err := d.Prepare(ctx, images); err != nil {
		return nil, 0, err
	}
	times, shortest := trialTimes{}, time.Duration(0)
	for i := range o.runs {
		_, p, err := d.DetectProfiled(ctx, images, d.Settings())
		if err != nil {
			return nil, 0, err
		}
		one, two := p.Steps()
		run := trialTimes{}
		for _, s := range slices.Concat(one, two) {
			if s.Trial.Layer != "" {
				run.add(s.Trial.Layer, s.Trial.Algorithm, s.Time)
			}
		}
		if i == 0 && unless != nil && run.same(unless) {
			return nil, 0, nil
		}
		times.merge(run)
		if shortest == 0 || p.Total < shortest {
			shortest = p.Total
		}
	}
	return times, shortest.Seconds(), nil
}

func (t trialTimes) add(layer, name string, d time.Duration) {
	if t[layer] == nil {
		t[layer] = map[string]time.Duration{}
	}
	t[layer][name] += d
}

// merge keeps the shorter times.
func (t trialTimes) merge(o trialTimes) {
	for layer, all := range o {
		if t[layer] == nil {
			t[layer] = map[string]time.Duration{}
		}
		for name, d := range all {
			if old, ok := t[layer][name]; !ok || d < old {
				t[layer][name] = d
			}
		}
	}
}

// same reports whether every layer was computed by the algorithm given.
func (t trialTimes) same(by map[string]string) bool {
	for layer, all := range t {
		for name := range all {
			if by[layer] != name {
				return false
			}
		}
	}
	return true
}

func (t tuning) print(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s with a choice\n", t.Device, plural(t.Tried, "layer"))
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(t.Layers) > 0 {
		fmt.Fprintf(tab, "layer\trule\tms\tfaster\tms\n")
	}
	for _, l := range t.Layers {
		fmt.Fprintf(tab, "%s\t%s\t%.2f\t%s\t%.2f\n", l.Layer, l.Rule, 1e3*l.RuleSec, l.Best, 1e3*l.BestSec)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	switch {
	case len(t.Layers) == 0:
		fmt.Fprintf(w, "the rule is as fast as any, %.1f ms\n", 1e3*t.Rule)
	case !t.Kept:
		fmt.Fprintf(w, "together they are no faster: %.1f ms, by the rule %.1f; the rule stays\n", 1e3*t.Tuned, 1e3*t.Rule)
	default:
		fmt.Fprintf(w, "%.1f ms, by the rule %.1f; %.2f times as fast\n", 1e3*t.Tuned, 1e3*t.Rule, t.Rule/t.Tuned)
	}
	fmt.Fprintf(w, "kept in %s\n", t.File)
	return nil
}
