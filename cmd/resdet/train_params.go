package main

import (
	"slices"
	"strings"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/train"
	"resdet/internal/train/step"
	"resdet/internal/weights"
)

// liveParams are a network's parameters while it learns.
type liveParams struct {
	net    *step.Network
	frozen device.Params
}

func (l *liveParams) Param(key string, shape nd.Shape) ([]float32, error) {
	for _, p := range l.net.Params() {
		if p.Name() == key && p.Shape().Equal(shape) {
			return p.Data(), nil
		}
	}
	return l.frozen.Param(key, shape)
}

// initialParams are what a network begins with: the file's, and new layers.
type initialParams struct {
	plan  *trainPlan
	fanIn map[string]int
}

// fanIns returns what each layer sums over, by the key of its weight and of
// its bias.
func fanIns(specs []nn.ParamSpec) map[string]int {
	out := map[string]int{}
	for _, s := range specs {
		if len(s.Shape) > 1 {
			n := s.Shape[1:].Len()
			out[s.Key], out[strings.TrimSuffix(s.Key, ".weight")+".bias"] = n, n
		}
	}
	return out
}

func (p *initialParams) Param(key string, shape nd.Shape) ([]float32, error) {
	r := p.plan.recipe
	fresh := func() []float32 {
		return train.NewLayer(key, shape, max(p.fanIn[key], 1), r.NewLayers, r.Seed)
	}
	report := p.plan.report
	if report == nil {
		v := fresh()
		if lastNorm(key, p.plan.cfg.Backbone.Depth) {
			// Fixed norms that are identities let every block add its input's
			// variance: 33 of them make 1e10 of it.
			for i := range v {
				v[i] = branchGain
			}
		}
		return v, nil
	}
	i := slices.IndexFunc(report.Rows, func(row weights.Row) bool { return row.Key == key })
	if i < 0 || report.Rows[i].Status != weights.Matched && report.Rows[i].Status != weights.ByClass {
		return fresh(), nil
	}
	values, err := report.Param(key, shape)
	if err != nil || report.Rows[i].Status == weights.Matched {
		return values, err
	}
	width := shape[1:].Len()
	var own []float32
	for row, from := range report.FileRows(key) {
		if from < 0 {
			if own == nil {
				own = fresh()
			}
			copy(values[row*width:][:width], own[row*width:][:width])
		}
	}
	return values, nil
}

// branchGain is what a residual branch of a new ResNet is multiplied with.
const branchGain = 0.2

// lastNorm reports whether key is the weight of the last norm of a residual
// branch.
func lastNorm(key string, depth int) bool {
	last := ".bn3.weight"
	if depth < 50 {
		last = ".bn2.weight"
	}
	return strings.HasSuffix(key, last) && strings.Contains(key, "layer")
}
