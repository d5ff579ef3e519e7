package weights

import (
	"slices"
	"strings"
	"testing"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// named returns the families of a name.
func named(t *testing.T, name string) *Family {
	t.Helper()
	i := slices.IndexFunc(families, func(f *Family) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("no family %s", name)
	}
	return families[i]
}

// Arrays count up from 0, so that the numbers say where each comes from.
func TestRecipes(t *testing.T) {
	const scores, boxes, logits, deltas = "roi_heads.box_predictor.cls_score.bias", "roi_heads.box_predictor.bbox_pred.bias", "rpn.head.cls_logits.bias", "rpn.head.bbox_pred.bias"
	for name, tt := range map[string]struct {
		family, key string
		file        map[string]nd.Shape
		network     Network
		want        []float32 // nil: it does not fit
	}{
		"background last, scores": {"detectron2", scores, map[string]nd.Shape{scores: {4}}, Network{}, []float32{3, 0, 1, 2}},
		"background last, boxes": {"detectron2", boxes, map[string]nd.Shape{boxes: {8}}, Network{},
			[]float32{0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7}},
		"background last in the network too": {"detectron2", boxes, map[string]nd.Shape{boxes: {8}}, Network{BackgroundLast: true},
			[]float32{0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0}},
		"one box for all classes": {"mmdetection", boxes, map[string]nd.Shape{"roi_head.bbox_head.fc_reg.bias": {4}}, Network{}, []float32{0, 1, 2, 3}},
		"other classes":           {"mmdetection", scores, map[string]nd.Shape{"roi_head.bbox_head.fc_cls.bias": {7}}, Network{}, nil},
		// Two sizes of three ratios: (s0 r0) (s0 r1) (s0 r2) (s1 r0) … become (s0 r0) (s1 r0) (s0 r1) ….
		"anchors by size": {"detectron2", logits, map[string]nd.Shape{"proposal_generator.rpn_head.objectness_logits.bias": {6}}, Network{Ratios: 3},
			[]float32{0, 3, 1, 4, 2, 5}},
		"deltas by size": {"detectron2", deltas, map[string]nd.Shape{"proposal_generator.rpn_head.anchor_deltas.bias": {16}}, Network{Ratios: 2},
			[]float32{0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15}},
		"anchors of other ratios": {"detectron2", logits, map[string]nd.Shape{"proposal_generator.rpn_head.objectness_logits.bias": {6}}, Network{Ratios: 4}, nil},
		"pairs of scores":         {"caffe-detector", logits, map[string]nd.Shape{"rpn_cls_score.1": {6}}, Network{}, []float32{3, 3, 3}},
		"half a pair":             {"caffe-detector", logits, map[string]nd.Shape{"rpn_cls_score.1": {5}}, Network{}, nil},
		// Sums 0, 1, 2, divided by a single number, which here is 0: nothing was added up.
		"no sums": {"caffe-resnet", "backbone.bn1.running_var", map[string]nd.Shape{"bn_conv1.1": {3}, "bn_conv1.2": {1}}, Network{}, []float32{0, 0, 0}},
		"sums without divisor and a bias": {"caffe-resnet", "backbone.bn1.running_mean", map[string]nd.Shape{"bn_conv1.0": {3}, "conv1.1": {3}}, Network{},
			[]float32{0, 0, 0}},
		"variances of a norm without": {"detectron", "backbone.bn1.running_var", map[string]nd.Shape{"res_conv1_bn_s": {2}}, Network{}, []float32{1, 1}},
		"means of a norm without":     {"detectron", "backbone.bn1.running_mean", map[string]nd.Shape{"res_conv1_bn_s": {2}}, Network{}, []float32{0, 0}},
		"no norm at all":              {"detectron", "backbone.bn1.running_mean", map[string]nd.Shape{"conv1_w": {2}}, Network{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			want := nd.Shape{len(tt.want)}
			if tt.want == nil {
				want = nd.Shape{3}
			}
			n := tt.network
			n.Params = []nn.ParamSpec{{Key: tt.key, Shape: want}}
			if tt.family == "detectron" {
				n.Params = append(n.Params, nn.ParamSpec{Key: "backbone.bn1.weight", Shape: nd.Shape{2}})
			}
			r := Match(memory(t, tt.file), named(t, tt.family), n)
			if row := r.Rows[0]; tt.want == nil {
				if row.Status == Matched {
					t.Fatalf("%+v fits", row)
				}
				return
			} else if row.Status != Matched {
				t.Fatalf("%+v", row)
			}
			if arrays, _ := r.Count(Unexpected); arrays != 0 {
				t.Errorf("left over: %+v", r.Rows)
			}
			got, err := r.Param(tt.key, want)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%v, %v; want %v", got, err, tt.want)
			}
			into := slices.Repeat([]float32{-1}, len(tt.want))
			if err := r.ParamInto(into, tt.key, want); err != nil || !slices.Equal(into, tt.want) {
				t.Errorf("into: %v, %v; want %v", into, err, tt.want)
			}
			if r.ParamInto(into[1:], tt.key, want) == nil {
				t.Error("a parameter was put where it does not fit")
			}
		})
	}
}

// What divides or is subtracted must be of a size that can.
func TestBadHelpers(t *testing.T) {
	for name, file := range map[string]map[string]nd.Shape{
		"divisor": {"bn_conv1.0": {3}, "bn_conv1.2": {2}},
		"bias":    {"bn_conv1.0": {3}, "bn_conv1.2": {1}, "conv1.1": {4}},
	} {
		n := Network{Params: []nn.ParamSpec{{Key: "backbone.bn1.running_mean", Shape: nd.Shape{3}}}}
		if v, err := Match(memory(t, file), named(t, "caffe-resnet"), n).Param("backbone.bn1.running_mean", nd.Shape{3}); err == nil {
			t.Errorf("%s: %v", name, v)
		}
	}
}

// Settings that hold only where the file says so.
func TestSettings(t *testing.T) {
	count := func(name string, arch string, file map[string]nd.Shape, metadata map[string]string) int {
		c := memory(t, file)
		c.Metadata = metadata
		return len(named(t, name).Settings(c, arch))
	}
	base := count("detectron2", "resnet50-fpn", map[string]nd.Shape{"x": {1}}, nil)
	for name, got := range map[string]int{
		"C4":             count("detectron2", "resnet50-c4", map[string]nd.Shape{"x": {1}}, nil) - base,
		"class-agnostic": count("detectron2", "resnet50-fpn", map[string]nd.Shape{"roi_heads.box_predictor.bbox_pred.bias": {4}}, nil) - base,
		"pooling":        count("jwyang", "vgg16", map[string]nd.Shape{"x": {1}}, map[string]string{"pooling_mode": "pool"}) - count("jwyang", "vgg16", map[string]nd.Shape{"x": {1}}, map[string]string{"pooling_mode": "align"}),
		"fused norms":    count("msra-pkl", "resnet50-c4", map[string]nd.Shape{"res_conv1_bn_s": {1}}, nil) - count("msra-pkl", "resnet50-c4", map[string]nd.Shape{"res_conv1_bn_s": {1}, "res_conv1_bn_rm": {1}}, nil),
		"12 anchors":     count("caffe-detector", "vgg16", map[string]nd.Shape{"rpn_cls_score.1": {24}}, nil) - count("caffe-detector", "vgg16", map[string]nd.Shape{"rpn_cls_score.1": {18}}, nil),
	} {
		if got != 1 {
			t.Errorf("%s: %d settings more, want 1", name, got)
		}
	}
}

// What a network did that ours cannot is said, where the file tells.
func TestNotes(t *testing.T) {
	for mode, want := range map[string]string{"align": "before PyTorch 1.0", "crop": "RoI crop", "pool": "", "": ""} {
		c := memory(t, map[string]nd.Shape{"x": {1}})
		c.Metadata = map[string]string{"pooling_mode": mode}
		notes := strings.Join(named(t, "jwyang").Notes(c), "\n")
		if !strings.Contains(notes, want) || (notes == "") != (want == "") {
			t.Errorf("pooling mode %q: notes %q", mode, notes)
		}
	}
}
