package resdet

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// Every architecture is valid, and its configuration survives the model file.
func TestConfigRoundTrip(t *testing.T) {
	for _, arch := range Archs() {
		c, err := NewConfig(arch, IndexedClasses("cat", "dog"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseConfig(b)
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("%s: %+v became %+v", arch, c, got)
		}
		params, err := got.Params()
		if err != nil || len(params) == 0 {
			t.Errorf("%s: %d parameters, %v", arch, len(params), err)
		}
	}
}

func TestBadConfigs(t *testing.T) {
	good, err := NewConfig("resnet50-fpn", IndexedClasses("cat"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no classes":        {func(c *Config) { c.Classes = nil }, "0 classes"},
		"a name twice":      {func(c *Config) { c.Classes = IndexedClasses("cat", "cat") }, `"cat" is empty or taken`},
		"anchors of levels": {func(c *Config) { c.RPN.Anchors.Sizes = c.RPN.Anchors.Sizes[:3] }, "sizes for 3 levels, the backbone has 5"},
		"res5 on a pyramid": {func(c *Config) { c.ROI.Kind = "res5" }, "without a pyramid"},
		"zero std":          {func(c *Config) { c.Transform.Std[1] = 0 }, "std[1]"},
		"NMS of 2":          {func(c *Config) { c.ROI.NMS = 2 }, "roihead: nms 2"},
		"a billion regions": {func(c *Config) { c.RPN.PostNMS = 1e9 }, "post_nms"},
		"depth":             {func(c *Config) { c.Backbone.Depth = 51 }, "depth 51"},
	} {
		c := good
		c.RPN.Anchors.Sizes = append([][]float32(nil), good.RPN.Anchors.Sizes...)
		tt.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
	if _, err := NewConfig("resnet51-c4", IndexedClasses("cat")); err == nil || !strings.Contains(err.Error(), "resnet101-c4") {
		t.Errorf("error %v of an unknown architecture does not list those there are", err)
	}
	if _, err := ParseConfig([]byte(`{"arch":"vgg16","colour":1}`)); err == nil || !strings.Contains(err.Error(), "colour") {
		t.Errorf("error %v of an unknown field", err)
	}
}

// Swapping the paper's backbones is one flag, and the rest stays comparable.
func TestPapersPair(t *testing.T) {
	classes := IndexedClasses("cat", "dog")
	vgg, err := NewConfig("vgg16", classes)
	if err != nil {
		t.Fatal(err)
	}
	resnet, err := NewConfig("resnet101-c4", classes)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(vgg.Transform, resnet.Transform) || vgg.RPN.PostNMS != 300 || resnet.RPN.PostNMS != 300 {
		t.Errorf("the pair differs in more than the backbone and its head")
	}
	if vgg.Backbone.Strides()[0] != 16 || resnet.Backbone.Strides()[0] != 16 {
		t.Errorf("strides %v and %v, want 16", vgg.Backbone.Strides(), resnet.Backbone.Strides())
	}
}
