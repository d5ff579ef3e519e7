package resdet

import (
	"context"
	"encoding/json"
	"errors"
	"image"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"resdet/internal/box"
	"resdet/internal/fixture"
	"resdet/internal/formula"
	"resdet/internal/transform"
)

// small returns a detector that runs in milliseconds: ResNet-18 at 64 pixels
// with weights by formula.
func small(t testing.TB, opt Options) *Detector {
	t.Helper()
	cfg, err := NewConfig("resnet18-fpn", IndexedClasses("cat", "dog", "bird"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Backbone.FPN.Channels, cfg.ROI.Hidden = 64, 128
	cfg.Transform.ShortSide, cfg.Transform.LongSide = 64, 128
	cfg.RPN.PreNMS, cfg.RPN.PostNMS = 100, 40
	cfg.ROI.Score = 0.01 // so that every class is found
	d, err := New(cfg, formula.Params{Basic: true}, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// picture is an image without meaning, another one for each seed.
func picture(width, height int, seed string) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	s := formula.Seed(seed)
	for i := range width * height {
		for c := range 3 {
			img.Pix[4*i+c] = uint8(128 + 127*formula.Unit(s, 3*(i/8)+c))
		}
		img.Pix[4*i+3] = 255
	}
	return img
}

// road is testdata/road.jpg.
func road(t testing.TB) image.Image {
	t.Helper()
	f, err := os.Open("testdata/road.jpg")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := transform.Decode(f, transform.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// The default model finds what torchvision finds on the photo of the demo
// (scripts/torchvision-detector.py on the exported model). JPEG decoders differ
// by a level here and there.
func TestDefaultModel(t *testing.T) {
	var want []struct {
		ClassID int        `json:"class_id"`
		Score   float32    `json:"score"`
		Box     [4]float32 `json:"box"`
	}
	b, err := os.ReadFile("testdata/road.torchvision.json")
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := OpenDefault(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got, err := d.Detect(context.Background(), road(t))
	if err != nil {
		t.Fatal(err)
	}
	strong := 0
	for _, w := range want {
		if w.Score < 0.1 {
			continue // nearer to the threshold a neighbour may take a box's place
		}
		strong++
		wb := box.Box{X0: w.Box[0], Y0: w.Box[1], X1: w.Box[2], Y1: w.Box[3]}
		if !slices.ContainsFunc(got, func(g Detection) bool {
			return d.cfg.Classes[g.Class].ID == w.ClassID && boxDistance(g.Box, wb) < 0.5 && max(g.Score-w.Score, w.Score-g.Score) < 0.01
		}) {
			t.Errorf("nothing like %+v was found", w)
		}
	}
	if strong < 2 {
		t.Fatalf("only %d detections to compare with", strong)
	}
	for i, g := range got[:2] {
		if name := d.cfg.Classes[g.Class].Name; name != "car" {
			t.Errorf("detection %d is a %s, not a car", i, name)
		}
	}
}

// A batch gives what its images give alone, if they have one shape.
func TestBatch(t *testing.T) {
	d := small(t, Options{})
	images := []image.Image{picture(96, 64, "a"), picture(96, 64, "b"), picture(192, 128, "c")}
	together, err := d.DetectBatch(context.Background(), images, d.Settings())
	if err != nil {
		t.Fatal(err)
	}
	for i, img := range images {
		alone, err := d.Detect(context.Background(), img)
		if err != nil {
			t.Fatal(err)
		}
		if len(alone) == 0 {
			t.Fatalf("nothing found in image %d: the test shows nothing", i)
		}
		// Another batch size may sum in another order.
		if !slices.EqualFunc(alone, together[i].Detections, alike) {
			t.Errorf("image %d: alone %v, in the batch %v", i, alone, together[i].Detections)
		}
		if n := len(together[i].Proposals); n == 0 || n > d.cfg.RPN.PostNMS {
			t.Errorf("image %d has %d proposals", i, n)
		}
	}
}

// alike allows for sums in another order.
func alike(a, b Detection) bool {
	return a.Class == b.Class && boxDistance(a.Box, b.Box) < 1e-2 && max(a.Score-b.Score, b.Score-a.Score) < 1e-4
}

func TestSettings(t *testing.T) {
	d := small(t, Options{})
	img := []image.Image{picture(96, 64, "a")}
	all, err := d.DetectBatch(context.Background(), img, d.Settings())
	if err != nil {
		t.Fatal(err)
	}
	s := d.Settings()
	s.Only, s.Max = []int{1}, 2
	some, err := d.DetectBatch(context.Background(), img, s)
	if err != nil {
		t.Fatal(err)
	}
	var want []Detection
	for _, a := range all[0].Detections {
		if a.Class == 1 && len(want) < 2 {
			want = append(want, a)
		}
	}
	if len(want) == 0 || !slices.Equal(some[0].Detections, want) {
		t.Errorf("only dogs, at most two: %v, want %v", some[0].Detections, want)
	}
}

// Goroutines may share a detector; each gets its own image's detections.
func TestConcurrent(t *testing.T) {
	d := small(t, Options{})
	images := []image.Image{picture(96, 64, "a"), picture(64, 96, "b"), picture(128, 64, "c")}
	want := make([][]Detection, len(images))
	for i, img := range images {
		var err error
		if want[i], err = d.Detect(context.Background(), img); err != nil {
			t.Fatal(err)
		}
	}
	var wait sync.WaitGroup
	for g := range 6 {
		wait.Go(func() {
			for i := range 3 {
				at := (g + i) % len(images)
				got, err := d.Detect(context.Background(), images[at])
				if err != nil || !slices.Equal(got, want[at]) {
					t.Errorf("image %d: %v, %v; want %v", at, got, err, want[at])
				}
			}
		})
	}
	wait.Wait()
}

func TestCancelAndClose(t *testing.T) {
	d := small(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Detect(ctx, picture(96, 64, "a")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v of a cancelled context", err)
	}
	if _, err := d.Detect(context.Background(), image.NewNRGBA(image.Rect(0, 0, 0, 5))); err == nil || !strings.Contains(err.Error(), "no pixels") {
		t.Errorf("error %v of an empty image", err)
	}
	if dets, err := d.Detect(context.Background(), picture(96, 64, "a")); err != nil || len(dets) == 0 {
		t.Errorf("%d detections, %v after the errors", len(dets), err)
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Detect(context.Background(), picture(96, 64, "a")); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v of a closed detector", err)
	}
}

// More shapes than programs are kept do not change results.
func TestManyShapes(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles and runs three dozen shapes")
	}
	d := small(t, Options{})
	first, err := d.Detect(context.Background(), picture(64, 64, "a"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxShapes + 4 {
		d.cfg.Transform.ShortSide = 32
		d.cfg.Transform.LongSide = 32 * 40
		if _, err := d.Detect(context.Background(), picture(32*(i+1), 32, "b")); err != nil {
			t.Fatal(err)
		}
		if n := len(d.workers[0].programs.cache); n > maxShapes {
			t.Fatalf("%d shapes are kept", n)
		}
	}
	d.cfg.Transform.ShortSide, d.cfg.Transform.LongSide = 64, 128
	again, err := d.Detect(context.Background(), picture(64, 64, "a"))
	if err != nil || !slices.Equal(first, again) {
		t.Errorf("%v, %v; want %v as before", again, err, first)
	}
}

func TestSteadyStateAllocations(t *testing.T) {
	if fixture.Race {
		t.Skip("the race detector allocates")
	}
	d := small(t, Options{})
	img := []image.Image{picture(96, 64, "a")}
	s := d.Settings()
	detect := func() {
		if _, err := d.DetectBatch(context.Background(), img, s); err != nil {
			t.Fatal(err)
		}
	}
	detect()
	// The results themselves: the slice of results, detections that grow, proposals.
	if n := testing.AllocsPerRun(10, detect); n > 20 {
		t.Errorf("%v allocations a detection", n)
	}
}

func TestUnknownDevice(t *testing.T) {
	cfg, _ := NewConfig("vgg16", IndexedClasses("a"))
	if _, err := New(cfg, formula.Params{}, Options{Device: "tpu"}); err == nil || !strings.Contains(err.Error(), `"tpu"`) {
		t.Errorf("error %v of an unknown device", err)
	}
}

// Several workers give what one gives, at the same time.
func TestWorkers(t *testing.T) {
	one, three := small(t, Options{Threads: 3}), small(t, Options{Threads: 3, Workers: 3})
	images := []image.Image{picture(96, 64, "a"), picture(64, 96, "b"), picture(128, 64, "c")}
	want := make([][]Detection, len(images))
	for i, img := range images {
		var err error
		if want[i], err = one.Detect(context.Background(), img); err != nil {
			t.Fatal(err)
		}
		if err := three.Prepare(context.Background(), []image.Image{img}); err != nil {
			t.Fatal(err)
		}
	}
	var wait sync.WaitGroup
	for g := range 6 {
		wait.Go(func() {
			for i := range 6 {
				at := (g + i) % len(images)
				res, p, err := three.DetectProfiled(context.Background(), []image.Image{images[at]}, three.Settings())
				if err != nil {
					t.Error(err)
					return
				}
				// Another number of threads may sum in another order.
				if !slices.EqualFunc(res[0].Detections, want[at], alike) {
					t.Errorf("image %d: %v; want %v", at, res[0].Detections, want[at])
				}
				if p.Compile > p.Total/2 {
					t.Errorf("image %d was not prepared: %v of %v went into compiling", at, p.Compile, p.Total)
				}
			}
		})
	}
	wait.Wait()
	if n := len(three.idle); n != 3 {
		t.Errorf("%d workers are idle after all is done", n)
	}
}

// A call that waits for a worker gives up with its context.
func TestWaitingForAWorker(t *testing.T) {
	d := small(t, Options{})
	w, err := d.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := d.Detect(ctx, picture(96, 64, "a"))
		failed <- err
	}()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	d.give(w)
}
