package jobs_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"os"

	"resdet/web/jobs"
)

// square is a detector that finds the same thing everywhere.
type square struct{}

func (square) Check(string, jobs.Settings) (string, []jobs.Class, error) {
	return "square", []jobs.Class{{Name: "square", ID: 1}}, nil
}

func (square) Detect(context.Context, string, jobs.Settings, image.Image) ([]jobs.Detection, error) {
	d := jobs.Detection{Score: 0.5}
	d.Box.X1, d.Box.Y1 = 8, 8
	return []jobs.Detection{d}, nil
}

// A queue runs an archive of one picture.
func Example() {
	dir, err := os.MkdirTemp("", "jobs")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	cfg := jobs.DefaultConfig()
	cfg.Dir = dir
	q, err := jobs.Open(cfg, square{})
	if err != nil {
		panic(err)
	}
	defer q.Close()
	q.Start()

	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	f, _ := w.Create("photos/one.jpg")
	jpeg.Encode(f, image.NewGray(image.Rect(0, 0, 16, 16)), nil)
	w.Close()

	ctx := context.Background()
	job, err := q.Submit(ctx, jobs.Spec{Name: "photos.zip"}, &archive, int64(archive.Len()))
	if err != nil {
		panic(err)
	}
	for !job.State.Finished() {
		var changed <-chan struct{}
		if job, changed, err = q.Follow(job.ID); err != nil {
			panic(err)
		}
		if !job.State.Finished() {
			<-changed
		}
	}
	results, job, err := q.Results(job.ID)
	if err != nil {
		panic(err)
	}
	defer results.Close()
	text, _ := io.ReadAll(results)
	text, _, _ = bytes.Cut(text, []byte(`,"ms"`))
	fmt.Printf("%s: %s\n%s\n", job.Name, job.State, text)
	// Output:
	// photos.zip: done
	// {"image":"photos/one.jpg","width":16,"height":16,"detections":[{"class":"square","class_id":1,"score":0.5,"box":[0,0,8,8]}]
}
