package formula_test

import (
	"math"
	"testing"

	"resdet/internal/formula"
	"resdet/internal/nd"
)

// Values printed by formula.py for these keys.
func TestKnownValues(t *testing.T) {
	for _, c := range knownValues {
		got, err := formula.Params{Basic: c.basic}.Param(c.key, c.shape)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range c.first {
			if got[i] != want {
				t.Errorf("%s[%d] = %v, want %v", c.key, i, got[i], want)
			}
		}
	}
}

func TestUnitRange(t *testing.T) {
	lo, hi := 1.0, -1.0
	for i := range 100000 {
		v := formula.Unit(formula.Seed("x"), i)
		lo, hi = math.Min(lo, v), math.Max(hi, v)
	}
	if lo < -1 || hi >= 1 || lo > -0.999 || hi < 0.999 {
		t.Errorf("100000 values lie in [%v, %v], want nearly [-1, 1)", lo, hi)
	}
}

type known struct {
	key   string
	shape nd.Shape
	basic bool
	first []float32
}

var knownValues = []known{
	{"backbone.conv1.weight", nd.Shape{64, 3, 7, 7}, false, []float32{0.02214205078780651, 0.11801440268754959, 0.04748634994029999}},
	{"backbone.layer1.0.bn3.weight", nd.Shape{256}, false, []float32{0.18880048394203186, 0.1732691377401352, 0.17659297585487366}},
	{"backbone.layer1.0.bn2.weight", nd.Shape{64}, true, []float32{0.3393825888633728, 0.326643705368042, 0.22800511121749878}},
	{"backbone.bn1.running_var", nd.Shape{64}, false, []float32{1.0586143732070923, 0.8451924920082092, 1.1588534116744995}},
	{"backbone.bn1.running_mean", nd.Shape{64}, false, []float32{-0.042860113084316254, -0.09678758680820465, 0.07515573501586914}},
	{"rpn.head.cls_logits.bias", nd.Shape{15}, false, []float32{0.022668803110718727, -0.022699981927871704, -0.03555171564221382}},
	{"rpn.head.bbox_pred.weight", nd.Shape{60, 1024, 1, 1}, false, []float32{-0.007597735151648521, -0.001971571473404765, -0.0006843457813374698}},
	{"roi_heads.box_predictor.cls_score.weight", nd.Shape{81, 2048}, false, []float32{0.1053842082619667, -0.0722925215959549, 0.07448907196521759}},
	{"roi_heads.box_predictor.bbox_pred.weight", nd.Shape{84, 4096}, false, []float32{0.008278143592178822, 0.005534095223993063, 0.0012463281163945794}},
}
