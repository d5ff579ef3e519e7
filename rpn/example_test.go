package rpn_test

import (
	"fmt"

	"resdet/rpn"
)

// One confident cell in a map of 2×2 cells, which moves its anchor by half a
// width to the right.
func ExampleProposer_Propose() {
	anchors := rpn.Anchors{Sizes: [][]float32{{32}}, Ratios: []float32{1}, Round: true}
	cfg := rpn.DefaultConfig(anchors)
	cfg.PostNMS = 1
	level := rpn.Level{
		Grid:   anchors.Grid(0, 2, 2, 64, 64, 32),
		Logits: []float32{-4, -4, 3, -4}, // cell (1, 0)
		Deltas: make([]float32, 4*4),     // dx of the four cells, dy, dw, dh
	}
	level.Deltas[2] = 0.5
	view := rpn.View{Width: 64, Height: 64, ScaledWidth: 64, ScaledHeight: 64}
	for _, p := range rpn.NewProposer(cfg).Propose(nil, []rpn.Level{level}, []rpn.View{view}) {
		fmt.Printf("%.2f %v\n", p.Score, p.Box)
	}
	// Output: 0.95 {0 16 32 48}
}
