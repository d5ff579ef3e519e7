package weights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// memory is a checkpoint of float32 arrays, in byte order of their names; their
// elements count up from 0.
func memory(t testing.TB, shapes map[string]nd.Shape) *Checkpoint {
	t.Helper()
	var header, data bytes.Buffer
	var keys []string
	for k := range shapes {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	header.WriteByte('{')
	for i, k := range keys {
		from := data.Len()
		for j := range shapes[k].Len() {
			data.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(j))))
		}
		if i > 0 {
			header.WriteByte(',')
		}
		shape := strings.ReplaceAll(fmt.Sprint([]int(shapes[k])), " ", ",")
		name, _ := json.Marshal(k)
		fmt.Fprintf(&header, `%s:{"dtype":"F32","shape":%s,"data_offsets":[%d,%d]}`, name, shape, from, data.Len())
	}
	header.WriteByte('}')
	file := slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(header.Len())), header.Bytes(), data.Bytes())
	c, err := OpenReader("test.safetensors", bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Each of the names that files use for a parameter finds it.
func TestNames(t *testing.T) {
	for _, tt := range []struct{ file, network, family string }{
		{"rpn.head.conv.0.0.weight", "rpn.head.conv.0.0.weight", "torchvision detector"},
		{"rpn.head.conv.weight", "rpn.head.conv.0.0.weight", "torchvision detector"},
		{"backbone.fpn.inner_blocks.3.bias", "backbone.fpn.inner_blocks.3.0.bias", "torchvision detector"},
		{"backbone.fpn.layer_blocks.0.weight", "backbone.fpn.layer_blocks.0.0.weight", "torchvision detector"},
		{"module.backbone.body.bn1.running_var", "backbone.body.bn1.running_var", "torchvision detector"},
		{"model.module.rpn.head.conv.bias", "rpn.head.conv.0.0.bias", "torchvision detector"},
		{"conv1.weight", "backbone.body.conv1.weight", "torchvision classifier"},
		{"conv1.weight", "backbone.conv1.weight", "torchvision classifier"},
		{"layer4.2.bn3.bias", "backbone.body.layer4.2.bn3.bias", "torchvision classifier"},
		{"layer4.2.bn3.bias", "roi_heads.box_head.layer4.2.bn3.bias", "torchvision classifier"},
		{"module.layer3.0.downsample.1.weight", "backbone.layer3.0.downsample.1.weight", "torchvision classifier"},
		{"features.28.weight", "backbone.28.weight", "torchvision classifier"},
		{"classifier.0.weight", "roi_heads.box_head.fc6.weight", "torchvision classifier"},
		{"classifier.3.bias", "roi_heads.box_head.fc7.bias", "torchvision classifier"},
		{"roi_heads.res5.2.conv3.norm.bias", "roi_heads.box_head.layer4.2.bn3.bias", "detectron2 detector"},
		{"backbone.fpn_output5.weight", "backbone.fpn.layer_blocks.3.0.weight", "detectron2 detector"},
		{"res4_22_branch2c_bn_s", "backbone.layer3.22.bn3.weight", "Detectron (Caffe2) detector"},
		{"fpn_inner_res3_3_sum_lateral_b", "backbone.fpn.inner_blocks.1.0.bias", "Detectron (Caffe2) detector"},
		{"conv4_2.1", "backbone.19.bias", "py-faster-rcnn detector"},
		{"scale4b35_branch2c.1", "backbone.layer3.35.bn3.bias", "Caffe ResNet"},
		{"res4f_branch2b.0", "backbone.body.layer3.5.conv2.weight", "Caffe ResNet"},
		{"bn5a_branch1.1", "backbone.body.layer4.0.downsample.1.running_var", "Caffe ResNet"},
		{"RCNN_top.0.1.bn2.running_mean", "roi_heads.box_head.layer4.1.bn2.running_mean", "jwyang ResNet detector"},
		{"RCNN_top.3.weight", "roi_heads.box_head.fc7.weight", "jwyang VGG-16 detector"},
		{"neck.fpn_convs.2.conv.weight", "backbone.fpn.layer_blocks.2.0.weight", "mmdetection detector"},
	} {
		c := memory(t, map[string]nd.Shape{tt.file: {2, 3}})
		r := Match(c, nil, Network{Params: []nn.ParamSpec{{Key: tt.network, Shape: nd.Shape{2, 3}}}})
		if r.Err() != nil || r.Family != tt.family || r.Rows[0].From != tt.file {
			t.Errorf("%s for %s: %s, %+v", tt.file, tt.network, r.Family, r.Rows)
			continue
		}
		v, err := r.Param(tt.network, nd.Shape{2, 3})
		into := make([]float32, 6)
		if err := errors.Join(err, r.ParamInto(into, tt.network, nd.Shape{2, 3})); err != nil || !slices.Equal(v, []float32{0, 1, 2, 3, 4, 5}) || !slices.Equal(into, v) {
			t.Errorf("%s: %v, %v, %v", tt.network, v, into, err)
		}
	}
	for _, file := range []string{"conv2.weight", "xconv1.weight", "features", "rpn.head.conv.1.weight", "layer5.0.conv1.weight"} {
		c := memory(t, map[string]nd.Shape{file: {2}})
		r := Match(c, nil, Network{Params: []nn.ParamSpec{{Key: "backbone.conv1.weight", Shape: nd.Shape{2}}, {Key: "rpn.head.conv.0.0.weight", Shape: nd.Shape{2}}}})
		if n, _ := r.Count(Matched); n != 0 {
			t.Errorf("%s was taken for something", file)
		}
	}
}

func TestReport(t *testing.T) {
	c := memory(t, map[string]nd.Shape{
		"bn1.weight": {4}, "bn1.bias": {4}, "bn1.num_batches_tracked": {}, "conv1.weight": {4, 3, 7, 5},
		"fc.weight": {1000, 8}, "layer9.weight\x1b[31m": {7}, "backbone.bn1.bias": {4},
	})
	wanted := []nn.ParamSpec{
		{Key: "backbone.conv1.weight", Shape: nd.Shape{4, 3, 7, 7}}, {Key: "backbone.bn1.weight", Shape: nd.Shape{4}},
		{Key: "backbone.bn1.bias", Shape: nd.Shape{4}}, {Key: "rpn.head.cls_logits.weight", Shape: nd.Shape{3, 5, 1, 1}},
	}
	r := Match(c, nil, Network{Params: wanted})
	type count struct {
		arrays   int
		elements int64
	}
	for s, want := range map[Status]count{Matched: {2, 8}, Missing: {1, 15}, Misshapen: {1, 588}, Unexpected: {2, 11}, Ignored: {2, 8001}} {
		arrays, elements := r.Count(s)
		if got := (count{arrays, elements}); got != want {
			t.Errorf("%v: %+v, want %+v", s, got, want)
		}
	}
	// Of two arrays for one parameter the one that needs no rule is taken.
	if row := r.Rows[2]; row.From != "backbone.bn1.bias" {
		t.Errorf("bn1.bias comes from %q", row.From)
	}
	err := r.Err()
	if !errors.Is(err, ErrIncomplete) {
		t.Fatalf("error %v", err)
	}
	text := err.Error()
	for _, want := range []string{
		"test.safetensors", "2 of 4 parameters (8) matched, 1 missing (15), 1 wrong shape (588), 2 unexpected (11), 2 ignored (8k)",
		"wrong shape  backbone.conv1.weight", "[4 3 7 7]", "[4 3 7 5]", "missing      rpn.head.cls_logits.weight", `unexpected`, `\x1b[31m`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the error does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "\nmatched") || strings.Contains(text, "\nignored") || strings.Contains(text, "\x1b") {
		t.Errorf("the error says too much:\n%s", text)
	}
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil || !strings.Contains(b.String(), "\nmatched") || !strings.Contains(b.String(), "fc.weight") {
		t.Errorf("table:\n%s", b.String())
	}
	// What is missing begins as in a new network.
	v, err := r.Param("rpn.head.cls_logits.weight", nd.Shape{3, 5, 1, 1})
	if err != nil || !slices.Equal(v, Initial("rpn.head.cls_logits.weight", nd.Shape{3, 5, 1, 1})) {
		t.Errorf("%v, %v", v, err)
	}
	if _, err := r.Param("unknown", nd.Shape{1}); err == nil {
		t.Error("a parameter that nobody wanted was given")
	}
}

// A table in an error has an end.
func TestLongReport(t *testing.T) {
	c := memory(t, map[string]nd.Shape{"a": {1}})
	var wanted []nn.ParamSpec
	for i := range 300 {
		wanted = append(wanted, nn.ParamSpec{Key: fmt.Sprintf("layer%d.weight", i), Shape: nd.Shape{1}})
	}
	text := c.Fit(wanted).Error()
	if n := strings.Count(text, "\n"); n > maxErrorLines+3 || !strings.Contains(text, "… and 281 lines more") {
		t.Errorf("%d lines:\n%s", n, text)
	}
}

// torchvision's COCO detectors have 91 rows for 80 classes.
func TestClassRows(t *testing.T) {
	wanted := []nn.ParamSpec{
		{Key: "roi_heads.box_predictor.cls_score.bias", Shape: nd.Shape{3}}, {Key: "roi_heads.box_predictor.cls_score.weight", Shape: nd.Shape{3, 2}},
		{Key: "roi_heads.box_predictor.bbox_pred.bias", Shape: nd.Shape{12}},
	}
	c := memory(t, map[string]nd.Shape{wanted[0].Key: {5}, wanted[1].Key: {5, 2}, wanted[2].Key: {20}})
	r := Match(c, nil, Network{Params: wanted, IDs: []int{4, 1}})
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]float32{{0, 4, 1}, {0, 1, 8, 9, 2, 3}, {0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7}} {
		if got, err := r.Param(wanted[i].Key, wanted[i].Shape); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", wanted[i].Key, got, err, want)
		}
	}
	for _, ids := range [][]int{nil, {1, 2}, {0, 4}, {-1, 4}, {1, 2, 4}} {
		if Match(c, nil, Network{Params: wanted, IDs: ids}).Err() == nil {
			t.Errorf("ids %v fit", ids)
		}
	}
}

func TestInitial(t *testing.T) {
	for _, tt := range []struct {
		key             string
		shape           nd.Shape
		mean, deviation float64
	}{
		{"backbone.bn1.weight", nd.Shape{64}, 1, 0},
		{"backbone.bn1.bias", nd.Shape{64}, 0, 0},
		{"backbone.bn1.running_mean", nd.Shape{64}, 0, 0},
		{"backbone.bn1.running_var", nd.Shape{64}, 1, 0},
		{"backbone.layer1.0.conv2.weight", nd.Shape{64, 64, 3, 3}, 0, math.Sqrt(2. / 576)},
		{"roi_heads.box_head.fc6.weight", nd.Shape{128, 512}, 0, math.Sqrt(2. / 512)},
		{"rpn.head.conv.0.0.weight", nd.Shape{64, 64, 3, 3}, 0, 0.01},
		{"roi_heads.box_predictor.cls_score.weight", nd.Shape{21, 1024}, 0, 0.01},
		{"roi_heads.box_predictor.bbox_pred.weight", nd.Shape{84, 1024}, 0, 0.001},
		{"roi_heads.box_predictor.bbox_pred.bias", nd.Shape{84}, 0, 0},
	} {
		v := Initial(tt.key, tt.shape)
		if !slices.Equal(v, Initial(tt.key, tt.shape)) || len(v) != tt.shape.Len() {
			t.Errorf("%s: another call, other values", tt.key)
		}
		mean, square := 0.0, 0.0
		for _, x := range v {
			mean += float64(x) / float64(len(v))
		}
		for _, x := range v {
			square += (float64(x) - mean) * (float64(x) - mean) / float64(len(v))
		}
		if math.Abs(mean-tt.mean) > 0.02*tt.deviation || math.Abs(math.Sqrt(square)-tt.deviation) > 0.02*tt.deviation {
			t.Errorf("%s: mean %g, deviation %g; want %g and %g", tt.key, mean, math.Sqrt(square), tt.mean, tt.deviation)
		}
	}
	if slices.Equal(Initial("a.weight", nd.Shape{2, 2}), Initial("b.weight", nd.Shape{2, 2})) {
		t.Error("two layers begin alike")
	}
}
