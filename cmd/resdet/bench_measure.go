package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"slices"
	"sync"
	"time"

	"resdet"
	"resdet/internal/transform"
)

// measure detects once on every worker to warm up and then o.runs times.
func measure(ctx context.Context, d *resdet.Detector, img image.Image, o benchOptions) (benchReport, error) {
	r := benchReport{Arch: d.Config().Arch, Device: d.Device(), Precision: string(d.Precision()), Runs: o.runs, Workers: max(1, o.model.workers)}
	images := slices.Repeat([]image.Image{img}, o.batch)
	if err := d.Prepare(ctx, images); err != nil {
		return r, err
	}
	runs, found, wall, err := detections(ctx, d, images, r.Workers, o.runs)
	if err != nil {
		return r, err
	}
	calls := float64(len(runs))
	r.Images = calls * float64(o.batch) / wall.Seconds()

	stages := []struct {
		name string
		of   func(resdet.Profile) time.Duration
	}{
		{"transform", func(p resdet.Profile) time.Duration { return p.Transform }},
		{"stage 1", func(p resdet.Profile) time.Duration { return p.Stage1 }},
		{"proposals", func(p resdet.Profile) time.Duration { return p.Proposals }},
		{"stage 2", func(p resdet.Profile) time.Duration { return p.Stage2 }},
		{"post", func(p resdet.Profile) time.Duration { return p.Post }},
	}
	total := func(p resdet.Profile) time.Duration { return p.Total }
	other := func(p resdet.Profile) time.Duration {
		left := p.Total
		for _, s := range stages {
			left -= s.of(p)
		}
		return left
	}
	slices.SortFunc(runs, func(a, b resdet.Profile) int { return cmp.Compare(a.Total, b.Total) })
	r.Min, r.Max, r.Seconds = runs[0].Total.Seconds(), runs[len(runs)-1].Total.Seconds(), median(runs, total)

	last := runs[len(runs)/2]
	r.Regions, r.Input = last.Regions, last.Input
	one, two := last.Steps()
	flops := map[string]int64{"stage 1": r.layers(1, one, o.layers || o.compare != ""), "stage 2": r.layers(2, two, o.layers || o.compare != "")}
	for _, s := range stages {
		seconds := median(runs, s.of)
		r.Stages = append(r.Stages, benchStage{s.name, seconds, float64(flops[s.name]) / seconds / 1e9})
	}
	r.Stages = append(r.Stages, benchStage{Name: "other", Seconds: median(runs, other)})
	r.GFLOPs = float64(flops["stage 1"]+flops["stage 2"]) * float64(r.Workers) / r.Seconds / 1e9
	r.PeakMB = peakMB()
	r.Around, err = around(img, found, d.Config(), o.runs)
	return r, err
}

// detections runs the batch on every worker at once and returns the profiles
// of all calls, what the last one found in the first image, and the time from
// the first call to the last.
func detections(ctx context.Context, d *resdet.Detector, images []image.Image, workers, runs int) (profiles []resdet.Profile, found []resdet.Detection, wall time.Duration, err error) {
	var mu sync.Mutex // guards the results
	var group sync.WaitGroup
	start := time.Now()
	for range workers {
		group.Go(func() {
			for range runs {
				results, p, failed := d.DetectProfiled(ctx, images, d.Settings())
				mu.Lock()
				if failed != nil {
					err = cmp.Or(err, failed)
				} else {
					profiles, found = append(profiles, p), results[0].Detections
				}
				mu.Unlock()
				if failed != nil {
					return
				}
			}
		})
	}
	group.Wait()
	return profiles, found, time.Since(start), err
}

func median[T any](runs []T, of func(T) time.Duration) float64 {
	v := make([]time.Duration, len(runs))
	for i, x := range runs {
		v[i] = of(x)
	}
	slices.Sort(v)
	return v[len(v)/2].Seconds()
}

// around measures what a command does with a photo besides detecting: decoding
// it from a JPEG file and drawing what was found.
func around(img image.Image, found []resdet.Detection, cfg resdet.Config, runs int) ([]benchStage, error) {
	var file bytes.Buffer
	if err := jpeg.Encode(&file, img, &jpeg.Options{Quality: 90}); err != nil {
		return nil, err
	}
	names := make([]string, len(cfg.Classes))
	for i, c := range cfg.Classes {
		names[i] = c.Name
	}
	type times struct{ decode, draw time.Duration }
	var all []times
	for range runs {
		start := time.Now()
		if _, err := transform.DecodeBytes(file.Bytes(), transform.DefaultLimits()); err != nil {
			return nil, fmt.Errorf("decoding the image: %w", err)
		}
		decoded := time.Now()
		transform.Draw(img, found, names)
		all = append(all, times{decoded.Sub(start), time.Since(decoded)})
	}
	return []benchStage{
		{Name: "decode", Seconds: median(all, func(t times) time.Duration { return t.decode })},
		{Name: "draw", Seconds: median(all, func(t times) time.Duration { return t.draw })},
	}, nil
}
