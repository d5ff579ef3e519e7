package eval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// CompareConfig says how the interval of a difference is found.
type CompareConfig struct {
	Samples int    // of the bootstrap; 0 leaves the intervals out
	Seed    uint64 // the same seed gives the same intervals on any machine
}

// DefaultCompareConfig returns 10,000 samples: the ends of the interval then
// vary by about 1 % of its width from seed to seed.
func DefaultCompareConfig() CompareConfig { return CompareConfig{Samples: 10000, Seed: 1} }

// Validate returns what is wrong with c.
func (c CompareConfig) Validate() error {
	if c.Samples < 0 || c.Samples > 0 && c.Samples < 100 || c.Samples > 1e7 {
		return fmt.Errorf("eval: %d bootstrap samples: 0 or 100…10,000,000 make sense", c.Samples)
	}
	return nil
}

// Interval is where 95 of 100 differences lie; nil pointers are absent.
type Interval struct{ Lo, Hi Value }

// Present reports whether there is an interval.
func (i Interval) Present() bool { return i.Lo.Present() && i.Hi.Present() }

// MarshalJSON writes [lo, hi], or null.
func (i Interval) MarshalJSON() ([]byte, error) {
	if !i.Present() {
		return []byte("null"), nil
	}
	return json.Marshal([2]Value{i.Lo, i.Hi})
}

// Gain is a figure of two detectors on the same images.
type Gain struct {
	Class     string   `json:"class,omitempty"`
	Size      string   `json:"size,omitempty"`
	Baseline  Value    `json:"baseline"`
	Candidate Value    `json:"candidate"`
	Gain      Value    `json:"gain"`          // candidate − baseline
	Relative  Value    `json:"gain_relative"` // gain / baseline
	CI95      Interval `json:"ci95"`          // of the gain
	Objects   int      `json:"objects"`
}

func newGain(baseline, candidate Value) Gain {
	g := Gain{Baseline: baseline, Candidate: candidate, Gain: candidate - baseline, Relative: Absent(), CI95: Interval{Absent(), Absent()}}
	if baseline > 0 {
		g.Relative = g.Gain / baseline
	}
	return g
}

// Comparison is what changing a detector gains on a data set.
type Comparison struct {
	Metric   string   `json:"metric"` // AP, or mAP of a VOC protocol
	Protocol Protocol `json:"protocol"`
	Data     string   `json:"data,omitempty"`
	Images   int      `json:"images"`
	Objects  int      `json:"objects"`
	// Where the detections are from.
	BaselineFrom  string `json:"baseline_from,omitempty"`
	CandidateFrom string `json:"candidate_from,omitempty"`
	Baseline      Value  `json:"baseline"`
	Candidate     Value  `json:"candidate"`
	Gain          Value  `json:"gain"`
	Relative      Value  `json:"gain_relative"`
	// CI95 is the 95 % interval of Gain by a paired bootstrap over images
	// (percentiles 2.5 and 97.5).
	CI95     Interval `json:"ci95"`
	Samples  int      `json:"bootstrap_samples"`
	Seed     uint64   `json:"bootstrap_seed"`
	Settings Settings `json:"settings"`
	PerClass []Gain   `json:"per_class"`
	PerSize  []Gain   `json:"per_size"` // null under VOC
	// Pairs are the gains of several pairs of models that were trained alike;
	// the figures above are their means then. nil where nothing was trained.
	Pairs []PairGain `json:"pairs,omitempty"`
	// Covers says what an interval over trained models is about.
	Covers string `json:"ci95_covers,omitempty"`
	// Cost is nil if the detections were read from files.
	Cost  *Costs `json:"cost"`
	Paper Paper  `json:"paper"`
}

// Paper is the transfer gain that He et al. report.
type Paper struct {
	Source string     `json:"source"`
	Note   string     `json:"note"`
	Rows   []PaperRow `json:"rows"`
	// The row of the same metric as the comparison's.
	PaperRow
}

// PaperRow is one data set and metric of the paper.
type PaperRow struct {
	Dataset   string  `json:"dataset"`
	Metric    string  `json:"metric"`
	Baseline  float64 `json:"baseline"`  // VGG-16
	Candidate float64 `json:"candidate"` // ResNet-101
	Gain      float64 `json:"gain"`
	Relative  float64 `json:"gain_relative"`
}

// paper returns He et al. 2015 (arXiv:1512.03385), tables 7 and 8.
func paper(p Protocol) Paper {
	row := func(dataset, metric string, baseline, candidate, gain float64) PaperRow {
		return PaperRow{dataset, metric, baseline, candidate, gain, gain / baseline}
	}
	rows := []PaperRow{
		row("COCO val, trained on train 80k", "AP", 0.212, 0.272, 0.060),
		row("COCO val, trained on train 80k", "AP50", 0.415, 0.484, 0.069),
		row("VOC 2007 test, trained on 07+12", "mAP", 0.732, 0.764, 0.032),
	}
	out := Paper{
		Source:   "He et al. 2015, Deep Residual Learning for Image Recognition, tables 7 and 8: Faster R-CNN, VGG-16 → ResNet-101",
		Note:     "the paper's own figures on its own data; not measured here",
		Rows:     rows,
		PaperRow: rows[0],
	}
	if p != COCO {
		out.PaperRow = rows[2]
	}
	return out
}

// Compare returns the gain of candidate over baseline, over all and by class
// and size, with the interval of each difference. Both must be of the same
// images, truths, classes and protocol. It ends with ctx's error if ctx ends.
func Compare(ctx context.Context, baseline, candidate *Result, cfg CompareConfig) (*Comparison, error) {
	c, err := difference(baseline, candidate, cfg)
	if err != nil || cfg.Samples == 0 {
		return c, err
	}
	gains, err := bootstrap(ctx, baseline, candidate, cfg, baseline.Protocol.areas())
	if err != nil {
		return nil, err
	}
	c.setIntervals(gains)
	return c, nil
}

// difference is [Compare] without intervals.
func difference(baseline, candidate *Result, cfg CompareConfig) (*Comparison, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := samePair(baseline, candidate); err != nil {
		return nil, err
	}
	metric := baseline.Metrics[0].Name
	all := newGain(baseline.Metrics[0].Value, candidate.Metrics[0].Value)
	c := &Comparison{
		Metric: metric, Protocol: baseline.Protocol, Images: len(baseline.Images),
		Baseline: all.Baseline, Candidate: all.Candidate, Gain: all.Gain, Relative: all.Relative, CI95: all.CI95,
		Samples: cfg.Samples, Seed: cfg.Seed, Settings: baseline.Settings, Paper: paper(baseline.Protocol),
		Data: baseline.Settings.Data, BaselineFrom: baseline.Settings.Detections, CandidateFrom: candidate.Settings.Detections,
	}
	if b, k := baseline.Settings.Model, candidate.Settings.Model; b != nil || k != nil {
		c.Cost = &Costs{b, k}
	}
	c.Settings.Detections, c.Settings.Model = "", nil // those are per side
	for k := range baseline.PerClass {
		b := &baseline.PerClass[k]
		g := newGain(b.Metrics.Get("AP"), candidate.PerClass[k].Metrics.Get("AP"))
		g.Class, g.Objects = b.Class.Name, b.Objects
		c.Objects += b.Objects
		c.PerClass = append(c.PerClass, g)
	}
	for a := range baseline.PerSize {
		b := &baseline.PerSize[a]
		g := newGain(b.Metrics.Get("AP"), candidate.PerSize[a].Metrics.Get("AP"))
		g.Size, g.Objects = b.Size, b.Objects
		c.PerSize = append(c.PerSize, g)
	}
	return c, nil
}

// setIntervals sets the interval of every gain.
func (c *Comparison) setIntervals(gains *gains) {
	c.CI95 = gains.all[0].interval()
	for k := range c.PerClass {
		c.PerClass[k].CI95 = gains.class[k].interval()
	}
	for a := range c.PerSize {
		c.PerSize[a].CI95 = gains.all[a+1].interval()
	}
}

func samePair(a, b *Result) error {
	switch {
	case a.Protocol != b.Protocol:
		return fmt.Errorf("eval: baseline is evaluated by %s, candidate by %s", a.Protocol, b.Protocol)
	case len(a.Images) != len(b.Images):
		return fmt.Errorf("eval: baseline has %d images, candidate %d: a paired comparison needs the same", len(a.Images), len(b.Images))
	case len(a.Classes) != len(b.Classes):
		return fmt.Errorf("eval: baseline has %d classes, candidate %d", len(a.Classes), len(b.Classes))
	}
	for i := range a.Images {
		if a.Images[i].ID != b.Images[i].ID {
			return fmt.Errorf("eval: baseline has image %d where candidate has %d: a paired comparison needs the same", a.Images[i].ID, b.Images[i].ID)
		}
	}
	for k := range a.classes {
		if a.classes[k].objects != b.classes[k].objects {
			return errors.New("eval: baseline and candidate have different truths")
		}
	}
	return nil
}
