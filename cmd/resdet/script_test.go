package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"resdet"
	"resdet/coco"
	"resdet/internal/device/cpu"
	"resdet/internal/fixture"
	"resdet/internal/train"
	"resdet/internal/transform"
	"resdet/internal/weights"
)

// photosCommand is "photos DIR N [CLASS…]" in scripts; see writePhotos.
func photosCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: photos DIR N [CLASS…]")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(writePhotos(ts.MkAbs(args[0]), n, args[2:]...))
}

// writePhotos writes a VOC set of n pictures with a coloured rectangle or two
// on a grey ground, one colour a class.
func writePhotos(dir string, n int, classes ...string) error {
	if len(classes) == 0 {
		classes = []string{"red", "blue"}
	}
	for _, d := range []string{"Annotations", "JPEGImages"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o777); err != nil {
			return err
		}
	}
	colours := []color.RGBA{{220, 40, 40, 255}, {40, 60, 220, 255}, {40, 200, 60, 255}}
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range n {
		w, h := 96, 72
		if i%4 == 3 {
			w, h = h, w
		}
		img := image.NewRGBA(image.Rect(0, 0, w, h))
		draw.Draw(img, img.Rect, image.NewUniform(color.RGBA{120, 120, 110, 255}), image.Point{}, draw.Src)
		im := coco.Image{ID: fmt.Sprintf("%03d", i), File: fmt.Sprintf("%03d.png", i), Width: w, Height: h}
		set := coco.NamedClasses(classes)
		for j := range 1 + i%2 {
			k := (i + j) % len(classes)
			box := coco.Box{X: float64(2 + r.IntN(w/2-30) + j*w/2), Y: float64(2 + r.IntN(h-36)), W: float64(16 + r.IntN(10)), H: float64(16 + r.IntN(14))}
			draw.Draw(img, image.Rect(int(box.X), int(box.Y), int(box.X1()), int(box.Y1())), image.NewUniform(colours[k%3]), image.Point{}, draw.Src)
			im.Objects = append(im.Objects, coco.Object{Class: k, Box: box, Area: box.Area()})
		}
		if err := transform.Save(filepath.Join(dir, "JPEGImages", im.File), img); err != nil {
			return err
		}
		if err := coco.WriteVOCFile(filepath.Join(dir, "Annotations", im.ID+".xml"), im, set); err != nil {
			return err
		}
	}
	return nil
}

// modelCommand is "model FILE" in scripts: it writes a small network with
// weights by formula, which finds something on any picture.
func modelCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: model FILE")
	}
	cfg, err := resdet.NewConfig("resnet18-fpn", resdet.IndexedClasses("cat", "dog"))
	ts.Check(err)
	cfg.Transform.ShortSide, cfg.Transform.LongSide = 64, 128
	cfg.RPN.PreNMS, cfg.RPN.PostNMS = 100, 40
	cfg.Backbone.FPN.Channels, cfg.ROI.Hidden = 32, 64
	text, err := json.Marshal(cfg)
	ts.Check(err)
	wanted, err := cfg.Params()
	ts.Check(err)
	ts.Check(weights.Save(ts.MkAbs(args[0]), text, wanted, formulaFor(cfg), weights.F16))
}

// killedCommand is "killed N ARG…" in scripts: it starts resdet ARG… and kills
// it once it has printed a random number of lines, at any moment after that, N
// times, then lets it end. The arguments must be those of a run that may be
// resumed from nothing.
func killedCommand(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for kills := 0; ; {
		cmd := exec.Command(filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "resdet"), args[1:]...)
		cmd.Dir = ts.MkAbs(".")
		cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"))
		log, err := cmd.StderrPipe()
		ts.Check(err)
		ts.Check(cmd.Start())
		var text strings.Builder
		killed := false
		for left, lines := 1+r.IntN(9), bufio.NewScanner(log); lines.Scan(); {
			fmt.Fprintln(&text, lines.Text())
			if left--; left == 0 && kills < n {
				time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
				killed = cmd.Process.Kill() == nil
			}
		}
		err = cmd.Wait()
		if killed && err != nil { // it may have ended before
			kills++
			continue
		}
		if err != nil {
			ts.Fatalf("%v after %d kills:\n%s", err, kills, &text)
		}
		ts.Logf("ended after %d kills; the last part said:\n%s", kills, &text)
		return
	}
}

// lossesCommand is "losses RUN OTHER LIMIT" in scripts: it wants the losses of two
// runs to be within a part of each other, in means of 40 steps: regions that are
// sampled otherwise make single ones differ.
func lossesCommand(ts *testscript.TestScript, _ bool, args []string) {
	limit, err := strconv.ParseFloat(args[2], 64)
	ts.Check(err)
	var losses [2][]float64
	for i := range losses {
		records, err := train.ReadMetrics(ts.MkAbs(args[i]))
		ts.Check(err)
		for _, r := range records {
			if r.Loss > 0 {
				losses[i] = append(losses[i], r.Loss)
			}
		}
	}
	n := len(losses[0])
	if n == 0 || n != len(losses[1]) {
		ts.Fatalf("there are %d and %d losses", n, len(losses[1]))
	}
	for from := 0; from < n; from += 40 {
		to := min(from+40, n)
		var sums [2]float64
		for side := range sums {
			for _, l := range losses[side][from:to] {
				sums[side] += l
			}
		}
		off := math.Abs(sums[1]/sums[0] - 1)
		ts.Logf("losses %d to %d: %.2f %% apart", from+1, to, 100*off)
		if off > limit {
			ts.Fatalf("the losses are %.1f %% apart", 100*off)
		}
	}
}

// signalledCommand is "signalled SIGNAL CODE ARG…" in scripts: it starts resdet
// ARG…, sends the signal (INT or TERM) once it has printed a step, and wants
// the exit code.
func signalledCommand(ts *testscript.TestScript, _ bool, args []string) {
	code, err := strconv.Atoi(args[1])
	ts.Check(err)
	cmd := exec.Command(filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "resdet"), args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"))
	log, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	var text strings.Builder
	sent := false
	for lines := bufio.NewScanner(log); lines.Scan(); {
		fmt.Fprintln(&text, lines.Text())
		if !sent && strings.HasPrefix(lines.Text(), "step ") {
			sent = true
			ts.Check(cmd.Process.Signal(map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM}[args[0]]))
		}
	}
	_ = cmd.Wait() // the code is looked at
	ts.Logf("%s", text.String())
	if got := cmd.ProcessState.ExitCode(); got != code {
		ts.Fatalf("exit status %d, want %d", got, code)
	}
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"resdet": main})
}

// TestScripts runs the command as a user would: testdata/*.txtar. In scripts
// $ROAD is the demo's photo, $SHARED the folder of shared data ("" where it is
// missing; scripts that need it say [!shared] skip). Scripts that need the
// helper process of OpenCV say [!helper] skip, those that take minutes [!thorough]
// skip, those that need oneDNN's bf16, emulated or not, [!bf16] skip, and those
// that make and read files of whole networks, one after another, [race] skip.
func TestScripts(t *testing.T) {
	shared := os.Getenv("RESDET_SHARED")
	if shared == "" {
		shared = filepath.Join(filepath.Dir(fixture.Root()), "shared")
	}
	if _, err := os.Stat(shared); err != nil {
		shared = ""
	}
	helper := videoHelper(t)
	t.Setenv("RESDET_EMULATE_BF16", "1") // for what scripts start by killed
	bf16 := false
	if d, err := cpu.Open(cpu.Options{Threads: 1}); err == nil {
		bf16 = slices.Contains(d.Precisions(), resdet.BF16)
		d.Close()
	}
	testscript.Run(t, testscript.Params{
		Dir:  "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"photos": photosCommand, "model": modelCommand, "killed": killedCommand, "signalled": signalledCommand, "losses": lossesCommand},
		Setup: func(e *testscript.Env) error {
			e.Setenv("ROAD", filepath.Join(fixture.Root(), "testdata", "road.jpg"))
			e.Setenv("ROOT", fixture.Root())
			e.Setenv("SHARED", shared)
			e.Setenv("RESDET_VIDEO", helper)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "shared":
				return shared != "", nil
			case "helper":
				return helper != missingHelper, nil
			case "bf16":
				return bf16, nil
			case "race":
				return fixture.Race, nil
			case "thorough":
				return os.Getenv("RESDET_THOROUGH") != "", nil
			}
			return false, nil
		},
	})
}
