package resdet_test

import (
	"context"
	"fmt"
	"image"
	_ "image/jpeg"
	"log"
	"os"

	"resdet"
)

// The cars on the demo's photo, with the model that is built in.
func Example() {
	f, err := os.Open("testdata/road.jpg")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		log.Fatal(err)
	}

	d, err := resdet.OpenDefault(resdet.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	found, err := d.Detect(context.Background(), img)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range found {
		if f.Score >= 0.5 {
			fmt.Printf("%s at (%.0f, %.0f)\n", d.Config().Classes[f.Class].Name, f.Box.X0, f.Box.Y0)
		}
	}
	// Output:
	// car at (63, 327)
	// car at (314, 0)
}

// A network of any architecture can be described and looked at without
// weights.
func ExampleNewConfig() {
	for _, arch := range []string{"vgg16", "resnet101-c4"} {
		cfg, err := resdet.NewConfig(arch, resdet.IndexedClasses("cat", "dog"))
		if err != nil {
			log.Fatal(err)
		}
		params, err := cfg.Params()
		if err != nil {
			log.Fatal(err)
		}
		n := 0
		for _, p := range params {
			n += p.Shape.Len()
		}
		fmt.Printf("%s: %d arrays, %.1f million parameters\n", arch, len(params), float64(n)/1e6)
	}
	// Output:
	// vgg16: 40 arrays, 136.7 million parameters
	// resnet101-c4: 530 arrays, 52.2 million parameters
}
