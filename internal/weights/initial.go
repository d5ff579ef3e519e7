package weights

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"

	"resdet/internal/nd"
)

// Initial returns what a parameter of a new network begins with, the same on
// every call: norms are identities, biases 0; the RPN's layers and the class
// scores are normal with deviation 0.01, the box deltas 0.001 (Ren et al. 2015
// and Fast R-CNN); all else is He et al.'s normal initialisation, √(2/fan-in).
//
// The key decides the seed, so that a parameter does not depend on which others
// are new.
func Initial(key string, shape nd.Shape) []float32 { return InitialSeed(key, shape, 0) }

// InitialSeed is [Initial] with other random numbers for every seed; seed 0 is
// Initial.
func InitialSeed(key string, shape nd.Shape, seed uint64) []float32 {
	out := make([]float32, shape.Len())
	switch {
	case strings.HasSuffix(key, ".running_var"), len(shape) == 1 && strings.HasSuffix(key, ".weight"): // of a norm
		for i := range out {
			out[i] = 1
		}
		return out
	case len(shape) < 2:
		return out
	}
	deviation := math.Sqrt(2 / float64(max(shape[1:].Len(), 1)))
	switch {
	case strings.HasPrefix(key, "roi_heads.box_predictor.bbox_pred."):
		deviation = 0.001
	case strings.HasPrefix(key, "roi_heads.box_predictor."), strings.HasPrefix(key, "rpn.head."):
		deviation = 0.01
	}
	h := fnv.New64a()
	h.Write([]byte(key))
	random := rand.New(rand.NewPCG(h.Sum64(), seed))
	for i := range out {
		out[i] = float32(random.NormFloat64() * deviation)
	}
	return out
}
