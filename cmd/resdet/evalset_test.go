package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// writeVOCTestSize writes a COCO data set and results of the size of VOC 2007
// test with 140,000 detections.
func writeVOCTestSize(b *testing.B) (truths, results string) {
	dir := b.TempDir()
	truths, results = filepath.Join(dir, "gt.json"), filepath.Join(dir, "dt.json")
	create := func(path string) (*bufio.Writer, func()) {
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		w := bufio.NewWriter(f)
		return w, func() {
			if err := w.Flush(); err != nil {
				b.Fatal(err)
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	gt, closeGT := create(truths)
	dt, closeDT := create(results)
	const images, objects, dets, classes = 4952, 3, 28, 20
	r := rand.New(rand.NewPCG(1, 2))
	comma := func(w io.Writer, first bool) {
		if !first {
			fmt.Fprint(w, ",")
		}
	}
	fmt.Fprint(gt, `{"images":[`)
	for i := range images {
		comma(gt, i == 0)
		fmt.Fprintf(gt, `{"id":%d,"width":500,"height":375,"file_name":"%06d.jpg"}`, i+1, i+1)
	}
	fmt.Fprint(gt, `],"annotations":[`)
	fmt.Fprint(dt, "[")
	for i := range images {
		var boxes [objects][5]float64
		for j := range boxes {
			boxes[j] = [5]float64{r.Float64() * 300, r.Float64() * 200, 20 + r.Float64()*180, 20 + r.Float64()*150, float64(1 + r.IntN(classes))}
			x := boxes[j]
			comma(gt, i+j == 0)
			fmt.Fprintf(gt, `{"id":%d,"image_id":%d,"category_id":%g,"bbox":[%.2f,%.2f,%.2f,%.2f],"area":%.3f,"iscrowd":0}`, objects*i+j+1, i+1, x[4], x[0], x[1], x[2], x[3], x[2]*x[3])
		}
		for j := range dets {
			x := boxes[r.IntN(objects)]
			if r.IntN(3) > 0 {
				x = [5]float64{r.Float64() * 300, r.Float64() * 200, 20 + r.Float64()*180, 20 + r.Float64()*150, float64(1 + r.IntN(classes))}
			}
			comma(dt, i+j == 0)
			fmt.Fprintf(dt, `{"image_id":%d,"category_id":%g,"bbox":[%.2f,%.2f,%.2f,%.2f],"score":%.6f}`, i+1, x[4], x[0]+4*r.Float64(), x[1]+4*r.Float64(), x[2], x[3], r.Float64())
		}
	}
	fmt.Fprint(gt, `],"categories":[`)
	for k := range classes {
		comma(gt, k == 0)
		fmt.Fprintf(gt, `{"id":%d,"name":"class%d"}`, k+1, k+1)
	}
	fmt.Fprint(gt, "]}")
	fmt.Fprint(dt, "]")
	closeGT()
	closeDT()
	return truths, results
}

// BenchmarkEvalFiles is the whole command on files: reading both, matching,
// all figures, JSON.
func BenchmarkEvalFiles(b *testing.B) {
	truths, results := writeVOCTestSize(b)
	b.ResetTimer()
	for b.Loop() {
		s := streams{nil, io.Discard, os.Stderr}
		root := newRoot(s)
		root.SetArgs([]string{"eval", "--data", "coco:" + truths, "--detections", results, "--json"})
		if err := root.ExecuteContext(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
