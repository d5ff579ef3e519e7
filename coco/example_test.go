package coco_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"resdet/coco"
)

func ExampleReadCOCO() {
	const file = `{
"images": [{"id": 7, "file_name": "park.jpg", "width": 640, "height": 480}, {"id": 9, "file_name": "sky.jpg", "width": 640, "height": 480}],
"annotations": [{"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 20, 200, 100], "area": 15000, "iscrowd": 0}],
"categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]}`
	d, err := coco.ReadCOCO(strings.NewReader(file), "park.json")
	if err != nil {
		log.Fatal(err)
	}
	for _, im := range d.Images {
		fmt.Println(im.File, len(im.Objects), "objects")
		for _, o := range im.Objects {
			fmt.Println(" ", d.Classes[o.Class].Name, o.Box)
		}
	}
	fmt.Print(d.Mapping())
	// Output:
	// park.jpg 1 objects
	//   dog [10 20 200 100]
	// sky.jpg 0 objects
	// index  id  class   objects
	// 0      1   person  0
	// 1      18  dog     1
}

func ExampleParseVOC() {
	const file = `<annotation><filename>000001.jpg</filename><size><width>353</width><height>500</height></size>
<object><name>dog</name><bndbox><xmin>48</xmin><ymin>240</ymin><xmax>195</xmax><ymax>371</ymax></bndbox></object></annotation>`
	im, classes, err := coco.ParseVOC(strings.NewReader(file), "000001.xml")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(im.ID, classes[im.Objects[0].Class], im.Objects[0].Box)
	// Output: 000001 dog [47 239 148 132]
}

func ExampleCheck() {
	dir, err := os.MkdirTemp("", "set")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const file = `<annotation>
<size><width>100</width><height>80</height></size>
<object>
<name>dog</name>
<bndbox><xmin>50</xmin><ymin>10</ymin><xmax>20</xmax><ymax>40</ymax></bndbox>
</object>
</annotation>`
	if err := os.WriteFile(filepath.Join(dir, "a.xml"), []byte(file), 0o666); err != nil {
		log.Fatal(err)
	}
	spec, err := coco.ParseSpec("voc:" + dir)
	if err != nil {
		log.Fatal(err)
	}
	r, err := coco.Check(context.Background(), coco.CheckConfig{Spec: spec, SkipPhotos: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range r.Faults {
		fmt.Printf("%s:%d: object %d: %s\n", filepath.Base(f.File), f.Line, f.Object, f.Message)
		fmt.Println(f.Fix)
	}
	// Output:
	// a.xml:3: object 0: dog: box 50 10 20 40 has its corners in the wrong order
	// exchange the corners; --fix does
}

func ExampleDataset_Resolve() {
	d := &coco.Dataset{Classes: coco.VOCClasses(), Images: []coco.Image{{ID: "000012"}, {ID: "000017"}}}
	results, err := coco.ReadResults(strings.NewReader(`[{"image_id": 17, "category_id": 12, "bbox": [1, 2, 30, 40], "score": 0.9}]`), "dt.json")
	if err != nil {
		log.Fatal(err)
	}
	r, err := d.Resolve(results)
	if err != nil {
		log.Fatal(err)
	}
	for _, x := range r.Detections {
		fmt.Println(d.Images[x.Image].ID, d.Classes[x.Class].Name, x.Box, x.Score)
	}
	// Output: 000017 dog [1 2 30 40] 0.9
}

func ExampleMapClasses() {
	m, err := coco.MapClasses([]coco.Class{{Name: "couch", ID: 63}, {Name: "zebra", ID: 24}}, coco.VOCClasses())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(m)
	// Output:
	// index  id  class  → index  id  class
	// 0      63  couch  → 17     18  sofa
	// 1      24  zebra  → none
}
