package eval

import "fmt"

// Settings are what was evaluated, and the protocol in words and numbers: no
// figure means anything without them.
type Settings struct {
	// What was evaluated, as the caller names it.
	Data       string    `json:"data,omitempty"`
	Detections string    `json:"detections,omitempty"`
	Model      *ModelRun `json:"model,omitempty"`

	Overlaps    []float64             `json:"iou_thresholds"`
	OverlapRule string                `json:"iou_rule"`
	RecallRule  string                `json:"recall_points"`
	MaxDets     []int                 `json:"max_dets"` // null: no limit
	AreaRanges  map[string][2]float64 `json:"area_ranges,omitempty"`
	Crowd       string                `json:"crowd"`
	Difficult   string                `json:"difficult"`
	Confusion   string                `json:"confusion"`
	Causes      string                `json:"causes"`
	// Detections that could not be used.
	UnknownImages  int `json:"detections_on_unknown_images"`
	UnknownClasses int `json:"detections_of_unknown_classes"`
}

func settings(cfg Config, strays Strays) Settings {
	s := Settings{
		Overlaps:       cfg.Protocol.overlaps(),
		Confusion:      fmt.Sprintf("IoU ≥ 0.5, score ≥ %g, classes may differ", cfg.ConfusionScore),
		Causes:         fmt.Sprintf("TIDE: foreground IoU ≥ %g, background ≤ %g, %d detections per image, 101-point AP", causeForeground, causeBackground, causeMaxDets),
		UnknownImages:  strays.UnknownImages,
		UnknownClasses: strays.UnknownClasses,
	}
	switch cfg.Protocol {
	case COCO:
		s.OverlapRule = "≥; continuous boxes"
		s.RecallRule = "101, interpolated precision"
		s.MaxDets = maxDets[:]
		s.AreaRanges = map[string][2]float64{}
		for a, name := range areaNames {
			s.AreaRanges[name] = areaRanges[a]
		}
		s.Crowd = "matches any number of detections, which are ignored; IoU over the detection's area"
		s.Difficult = "ordinary"
	default:
		s.OverlapRule = ">; pixels inclusive (+1)"
		s.Crowd = "ordinary"
		s.Difficult = "ignored"
		s.RecallRule = "11, interpolated precision"
		if cfg.Protocol == VOC10 {
			s.RecallRule = "all (area under the interpolated curve)"
		}
	}
	return s
}

// Stamp writes the protocol for people: what must stand beside its figures.
func (s Settings) Stamp(p Protocol) []string {
	out := []string{"protocol " + string(p)}
	if len(s.Overlaps) > 1 {
		out = append(out, fmt.Sprintf("IoU %.2f:%.2f (%s)", s.Overlaps[0], s.Overlaps[len(s.Overlaps)-1], s.OverlapRule))
	} else {
		out = append(out, fmt.Sprintf("IoU %.2f (%s)", s.Overlaps[0], s.OverlapRule))
	}
	out = append(out, "recall points "+s.RecallRule)
	if len(s.MaxDets) > 0 {
		out = append(out, fmt.Sprintf("at most %d detections per image and class", s.MaxDets[len(s.MaxDets)-1]))
	} else {
		out = append(out, "any number of detections")
	}
	if len(s.AreaRanges) > 0 {
		out = append(out, "small ≤ 32² ≤ medium ≤ 96² ≤ large, in square pixels")
	}
	return append(out, "crowd regions: "+s.Crowd, "difficult objects: "+s.Difficult)
}
