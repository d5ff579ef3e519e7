package eval_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"resdet/eval"
)

// Two images: the first dog is found, the second missed, and a shadow is taken
// for a dog.
func Example() {
	cfg := eval.DefaultConfig()
	cfg.Classes = []eval.Class{{Name: "cat", ID: 17}, {Name: "dog", ID: 18}}
	e, err := eval.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	const dog = 1
	images := []struct {
		truths []eval.Truth
		dets   []eval.Detection
	}{
		{
			[]eval.Truth{{ID: 1, Class: dog, Box: eval.Box{X: 10, Y: 10, W: 50, H: 80}, Area: 4000}},
			[]eval.Detection{{Class: dog, Score: 0.9, Box: eval.Box{X: 10, Y: 10, W: 50, H: 80}}},
		},
		{
			[]eval.Truth{{ID: 2, Class: dog, Box: eval.Box{X: 200, Y: 10, W: 50, H: 80}, Area: 4000}},
			[]eval.Detection{{Class: dog, Score: 0.4, Box: eval.Box{X: 20, Y: 90, W: 60, H: 20}}},
		},
	}
	for i, img := range images {
		if err := e.Add(int64(i), img.truths, img.dets); err != nil {
			log.Fatal(err)
		}
	}
	r, err := e.Result()
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range r.PerClass {
		fmt.Printf("%s: AP %s %%, %d objects\n", c.Class.Name, c.Metrics.Get("AP").Percent(1), c.Objects)
	}
	for _, cause := range r.Causes().Errors {
		if cause.Count > 0 {
			fmt.Printf("%d %s: %s\n", cause.Count, cause.Name, cause.Description)
		}
	}
	// Output:
	// cat: AP n/a %, 0 objects
	// dog: AP 50.5 %, 2 objects
	// 1 Bkg: there is no object (IoU ≤ 0.1 with every one)
	// 1 Miss: an object that no detection found, nor would after fixing Cls or Loc
}

// The gain of a candidate that finds both of two objects where the baseline
// finds one.
func ExampleCompare() {
	evaluate := func(score float64) *eval.Result {
		cfg := eval.DefaultConfig()
		cfg.Protocol = eval.VOC10
		cfg.Classes = []eval.Class{{Name: "dog", ID: 12}}
		e, err := eval.New(cfg)
		if err != nil {
			log.Fatal(err)
		}
		dog := eval.Box{X: 10, Y: 10, W: 50, H: 80}
		shadow := eval.Box{X: 200, Y: 10, W: 50, H: 80}
		for i := range int64(20) {
			dets := []eval.Detection{{Score: 0.9, Box: dog}}
			if i%2 == 1 {
				dets = []eval.Detection{{Score: score, Box: dog}, {Score: 0.5, Box: shadow}}
			}
			if err := e.Add(i, []eval.Truth{{ID: i + 1, Box: dog, Area: 4000}}, dets); err != nil {
				log.Fatal(err)
			}
		}
		r, err := e.Result()
		if err != nil {
			log.Fatal(err)
		}
		return r
	}
	c, err := eval.Compare(context.Background(), evaluate(0.1), evaluate(0.8), eval.CompareConfig{Samples: 1000, Seed: 1})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s → %s\n", c.Metric, c.Baseline.Percent(1), c.Candidate.Percent(1))
	fmt.Println("the interval is above 0:", c.CI95.Lo > 0)
	row, err := json.Marshal(c.Paper.PaperRow)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("the paper: %s\n", row)
	// Output:
	// mAP 83.3 → 100.0
	// the interval is above 0: true
	// the paper: {"dataset":"VOC 2007 test, trained on 07+12","metric":"mAP","baseline":0.732,"candidate":0.764,"gain":0.032,"gain_relative":0.04371584699453552}
}
