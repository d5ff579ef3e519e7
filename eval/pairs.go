package eval

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
)

// Pair is a baseline and a candidate that were trained alike, and scored on
// the same images as every other pair.
type Pair struct {
	Name                string // "seed 3"
	Baseline, Candidate *Result
}

// PairGain is the gain of one pair.
type PairGain struct {
	Name string `json:"name"`
	Gain        // CI95 covers the choice of images only
}

// What an interval over trained models covers.
const (
	coversImages = "one pair was trained: the interval covers the choice of test images, not the noise of training; another seed may give another gain"
	coversBoth   = "the bootstrap draws pairs and images: the interval covers the choice of test images and, as far as so many pairs show it, the noise of training"
)

// ComparePairs is [Compare] over several pairs: every figure is the mean over
// the pairs. The bootstrap draws images and pairs: in each sample all pairs
// are scored on the same images, and the mean is that of as many pairs as
// there are, drawn with replacement.
func ComparePairs(ctx context.Context, pairs []Pair, cfg CompareConfig) (*Comparison, error) {
	if len(pairs) == 0 {
		return nil, errors.New("eval: no pairs to compare")
	}
	n := Value(len(pairs))
	var mean *Comparison
	var all []*gains
	var list []PairGain
	for i, p := range pairs {
		if err := samePair(pairs[0].Baseline, p.Baseline); err != nil {
			return nil, fmt.Errorf("%s and %s: %w", pairs[0].Name, p.Name, err)
		}
		c, err := difference(p.Baseline, p.Candidate, cfg)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		gain := newGain(c.Baseline, c.Candidate)
		gain.Objects = c.Objects
		if cfg.Samples > 0 {
			g, err := bootstrap(ctx, p.Baseline, p.Candidate, cfg, p.Baseline.Protocol.areas())
			if err != nil {
				return nil, err
			}
			gain.CI95 = g.all[0].interval()
			all = append(all, g)
		}
		list = append(list, PairGain{p.Name, gain})
		if i == 0 {
			mean = c
			continue
		}
		mean.Baseline += c.Baseline
		mean.Candidate += c.Candidate
		for k := range mean.PerClass {
			mean.PerClass[k].Baseline += c.PerClass[k].Baseline
			mean.PerClass[k].Candidate += c.PerClass[k].Candidate
		}
		for a := range mean.PerSize {
			mean.PerSize[a].Baseline += c.PerSize[a].Baseline
			mean.PerSize[a].Candidate += c.PerSize[a].Candidate
		}
	}
	over := func(g Gain) Gain {
		m := newGain(g.Baseline/n, g.Candidate/n)
		m.Class, m.Size, m.Objects = g.Class, g.Size, g.Objects
		return m
	}
	m := newGain(mean.Baseline/n, mean.Candidate/n)
	mean.Baseline, mean.Candidate, mean.Gain, mean.Relative = m.Baseline, m.Candidate, m.Gain, m.Relative
	for k := range mean.PerClass {
		mean.PerClass[k] = over(mean.PerClass[k])
	}
	for a := range mean.PerSize {
		mean.PerSize[a] = over(mean.PerSize[a])
	}
	mean.Pairs, mean.Covers = list, coversImages
	if len(pairs) > 1 {
		mean.Covers = coversBoth
	}
	if cfg.Samples > 0 {
		mean.setIntervals(drawPairs(all, cfg))
	}
	return mean, nil
}

// drawPairs returns the mean differences of pairs that are drawn anew in every
// sample. The images of a sample are the same for all pairs, because they
// follow from the seed and the sample's number.
func drawPairs(all []*gains, cfg CompareConfig) *gains {
	picked := make([][]int, cfg.Samples)
	for s := range picked {
		// Streams from 1<<63 on are beyond those of the samples' images.
		r := rand.New(rand.NewPCG(cfg.Seed, 1<<63+uint64(s)))
		picked[s] = make([]int, len(all))
		for i := range all {
			picked[s][i] = r.IntN(len(all))
		}
	}
	mean := func(of func(*gains) differences) differences {
		if of(all[0]) == nil {
			return nil
		}
		out := make(differences, cfg.Samples)
		for s := range out {
			for _, p := range picked[s] {
				out[s] += of(all[p])[s] / float64(len(all))
			}
		}
		return out
	}
	out := &gains{class: make([]differences, len(all[0].class))}
	for a := range out.all {
		out.all[a] = mean(func(g *gains) differences { return g.all[a] })
	}
	for k := range out.class {
		out.class[k] = mean(func(g *gains) differences { return g.class[k] })
	}
	return out
}
