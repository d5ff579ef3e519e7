package report_test

import (
	"bytes"
	"fmt"
	"log"
	"strings"

	"resdet/eval"
	"resdet/eval/report"
)

func ExampleEval() {
	cfg := eval.DefaultConfig()
	cfg.Classes = []eval.Class{{Name: "dog", ID: 18}}
	e, err := eval.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	dog := eval.Box{X: 10, Y: 10, W: 50, H: 80}
	if err := e.Add(1, []eval.Truth{{ID: 1, Box: dog, Area: 4000}}, []eval.Detection{{Score: 0.9, Box: dog}}); err != nil {
		log.Fatal(err)
	}
	r, err := e.Result()
	if err != nil {
		log.Fatal(err)
	}
	r.Settings.Data = "one dog"
	var page bytes.Buffer
	if err := report.Eval(&page, r, nil); err != nil {
		log.Fatal(err)
	}
	_, title, _ := strings.Cut(page.String(), "<h1>")
	title, _, _ = strings.Cut(title, "</h1>")
	fmt.Println(title)
	// Output: AP 100.0: one dog
}
