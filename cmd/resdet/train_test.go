package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"

	"resdet/coco"
	"resdet/internal/fixture"
)

// The recipes of scripts are valid, and override what they mean to.
func TestRecipes(t *testing.T) {
	recipes, _ := filepath.Glob(filepath.Join(fixture.Root(), "scripts", "recipes", "*.yaml"))
	if len(recipes) == 0 {
		t.Fatal("there are none")
	}
	d := &trainData{train: &coco.Dataset{Classes: coco.NamedClasses([]string{"cat", "dog"})}, trainArg: "photos"}
	for i := range 2500 {
		d.train.Images = append(d.train.Images, coco.Image{
			File: fmt.Sprintf("%d.jpg", i), Width: 500, Height: 375, Objects: []coco.Object{{Class: i % 2, Box: coco.Box{X: 10, Y: 10, W: 90, H: 70}}},
		})
	}
	for _, path := range recipes {
		t.Run(filepath.Base(path), func(t *testing.T) {
			p, err := planTraining(trainFlags{init: noWeights}, pflag.NewFlagSet("train", pflag.ContinueOnError), path, d)
			if err != nil {
				t.Fatal(err)
			}
			if p.recipe.Schedule.Steps > 4000 || len(p.cfg.Backbone.FPN.Stages) != 3 {
				t.Errorf("%+v of %+v", p.recipe.Schedule, p.cfg.Backbone)
			}
		})
	}
}
