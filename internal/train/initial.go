package train

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"

	"resdet/internal/nd"
	"resdet/internal/weights"
)

// NewLayer returns what a parameter of a new layer begins with, for a style:
//
//   - "paper": layers of the RPN and class scores N(0, 0.01), box deltas
//     N(0, 0.001), biases 0 (Ren et al. 2015, section 3.3; Girshick 2015,
//     section 3.3); the others He et al.'s normal initialisation.
//   - "torchvision": the pyramid uniform in ±√(3/fan-in) (Kaiming with a = 1);
//     fc6, fc7 and the predictors uniform in ±1/√fan-in, with their biases
//     (torch's Linear); the rest as in the paper.
//
// fanIn is that of the layer, which a bias' shape does not tell. The seed and
// the key decide the random numbers.
func NewLayer(key string, shape nd.Shape, fanIn int, style string, seed uint64) []float32 {
	bound := 0.0
	if style == Torchvision {
		switch {
		case strings.HasPrefix(key, "roi_heads.box_head.fc"), strings.HasPrefix(key, "roi_heads.box_predictor."):
			bound = 1 / math.Sqrt(float64(fanIn))
		case strings.HasPrefix(key, "backbone.fpn.") && len(shape) > 1:
			bound = math.Sqrt(3 / float64(fanIn))
		}
	}
	if bound == 0 {
		return weights.InitialSeed(key, shape, seed)
	}
	h := fnv.New64a()
	h.Write([]byte(key))
	random := rand.New(rand.NewPCG(h.Sum64(), seed))
	out := make([]float32, shape.Len())
	for i := range out {
		out[i] = float32(bound * (2*random.Float64() - 1))
	}
	return out
}
