package eval

import (
	"encoding/json"
	"math"
	"sync"
)

// Result holds every figure of an evaluation, and the rows that they come
// from. It may be read from any goroutine; nothing in it changes.
type Result struct {
	Protocol Protocol
	Classes  []Class
	Settings Settings
	Metrics  Metrics
	PerClass []ClassResult
	PerSize  []SizeResult // under COCO only
	// Images are in the order of their ids.
	Images []*Image

	cfg       Config
	classes   []classRows
	confusion func() *Confusion
	causes    func() *Causes
	recall    func() *ProposalRecall
}

// ClassResult is what was measured for one class.
type ClassResult struct {
	Class   Class
	Metrics Metrics
	Objects int // to be found
	Curves  []Curve
}

// SizeResult is what was measured for the objects of one range of areas, as
// the mean over the classes that have such objects.
type SizeResult struct {
	Size    string
	Area    [2]float64 // square pixels, both ends included
	Metrics Metrics
	Objects int
}

// Curve is precision against recall.
type Curve struct {
	IoU       float64
	Recall    []float64
	Precision []float64 // the highest at this recall or beyond
}

func newResult(cfg Config, images []*Image, strays Strays) *Result {
	r := &Result{
		Protocol: cfg.Protocol, Classes: cfg.Classes, Settings: settings(cfg, strays),
		Images: images, cfg: cfg, classes: collect(cfg, images),
	}
	r.confusion = sync.OnceValue(func() *Confusion { return confusion(cfg, images) })
	r.causes = sync.OnceValue(func() *Causes { return causes(cfg, images) })
	r.recall = sync.OnceValue(func() *ProposalRecall { return proposalRecall(cfg, images) })
	if cfg.Protocol == COCO {
		r.summarizeCOCO()
	} else {
		r.summarizeVOC()
	}
	return r
}

// Rows returns the rows of a class, best first. The caller must not change
// them.
func (r *Result) Rows(class int) []Row { return r.classes[class].rows }

// Confusion returns the confusion matrix. It is computed at the first call.
func (r *Result) Confusion() *Confusion { return r.confusion() }

// Causes returns what AP was lost to. It is computed at the first call.
func (r *Result) Causes() *Causes { return r.causes() }

// ProposalRecall returns the recall of the first stage's regions; nil if none
// were added. It is computed at the first call.
func (r *Result) ProposalRecall() *ProposalRecall { return r.recall() }

// MarshalJSON writes {"class": …, "id": …, "AP": …, "objects": …}.
func (c ClassResult) MarshalJSON() ([]byte, error) {
	return c.Metrics.object([]any{"class", c.Class.Name, "id", c.Class.ID}, []any{"objects", c.Objects})
}

// MarshalJSON writes {"size": …, "area": …, "AP": …, "objects": …}.
func (s SizeResult) MarshalJSON() ([]byte, error) {
	return s.Metrics.object([]any{"size", s.Size, "area", s.Area}, []any{"objects", s.Objects})
}

// MarshalJSON writes the figures, and the curves at overlaps 0.5 and 0.75,
// without the rows. Fractions are fractions; absent is null.
func (r *Result) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Protocol       Protocol        `json:"protocol"`
		Images         int             `json:"images"`
		Settings       Settings        `json:"settings"`
		Metrics        Metrics         `json:"metrics"`
		PerClass       []ClassResult   `json:"per_class"`
		PerSize        []SizeResult    `json:"per_size"`
		Confusion      *Confusion      `json:"confusion"`
		Causes         *Causes         `json:"causes"`
		ProposalRecall *ProposalRecall `json:"proposal_recall"`
		Curves         []curveJSON     `json:"curves"`
	}{r.Protocol, len(r.Images), r.Settings, r.Metrics, r.PerClass, r.PerSize, r.Confusion(), r.Causes(), r.ProposalRecall(), r.curves()})
}

// curveJSON is a class's precision at recall 0, 0.01 … 1, to four digits.
type curveJSON struct {
	Class     string    `json:"class"`
	IoU       float64   `json:"iou"`
	Precision []float64 `json:"precision"`
}

// curves are those that people draw: of COCO's ten overlaps, 0.5 and 0.75.
func (r *Result) curves() []curveJSON {
	out := []curveJSON{}
	for _, c := range r.PerClass {
		for _, curve := range c.Curves {
			if curve.IoU != 0.5 && curve.IoU != 0.75 {
				continue
			}
			j := curveJSON{c.Class.Name, curve.IoU, make([]float64, len(curve.Precision))}
			for i, p := range curve.Precision {
				j.Precision[i] = math.Round(1e4*p) / 1e4
			}
			out = append(out, j)
		}
	}
	return out
}
