package roihead_test

import (
	"fmt"

	"resdet/roihead"
)

// Two proposals of one object and the head's outputs for two classes: the
// better one remains.
func ExampleDetector_Detect() {
	cfg := roihead.DefaultConfig()
	proposals := []roihead.Proposal{{}, {}}
	proposals[0].Box.X1, proposals[0].Box.Y1 = 40, 40
	proposals[1].Box.X1, proposals[1].Box.Y1 = 42, 40
	logits := []float32{
		0, 1, 4, // background, class 0, class 1
		0, 0, 2,
	}
	deltas := make([]float32, 2*3*4)
	view := roihead.View{Width: 100, Height: 80, ScaledWidth: 100, ScaledHeight: 80}
	settings := cfg.Settings()
	settings.Score = 0.5
	for _, d := range roihead.NewDetector(cfg, 2).Detect(nil, view, proposals, logits, deltas, settings) {
		fmt.Printf("class %d, %.2f, %v\n", d.Class, d.Score, d.Box)
	}
	// Output: class 1, 0.94, {0 0 40 40}
}
