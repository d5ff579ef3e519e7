package page_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// root is the repository's.
const root = "../.."

// key is what the server asks for, so that every test goes through it.
const key = "a-key-of-the-browser-tests"

// The models that are compared: the built-in one, and the same weights that
// see pictures smaller, which is another detector.
const (
	fine   = "fine"
	coarse = "coarse"
	tiny   = "tiny" // is trained in seconds
)

// visit is a server and a browser that looks at its page.
type visit struct {
	*testing.T
	tab     context.Context
	program string // the command
	url     string
	dir     string // downloads and other files of the test
	seen    *traffic
}

// traffic is what the browser tells of: requests to the API, and everything
// that would stand in red in its console.
type traffic struct {
	mu       sync.Mutex
	requests []string
	faults   []string
}

func (s *traffic) listen(ev any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		if _, path, ok := strings.Cut(ev.Request.URL, "/v1/"); ok {
			s.requests = append(s.requests, ev.Request.Method+" "+path)
		}
	case *runtime.EventExceptionThrown:
		words := "exception: " + ev.ExceptionDetails.Text
		if e := ev.ExceptionDetails.Exception; e != nil {
			words += " " + e.Description
		}
		s.faults = append(s.faults, words)
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeWarning {
			words := "console:"
			for _, a := range ev.Args {
				words += fmt.Sprintf(" %s %s", a.Value, a.Description)
			}
			s.faults = append(s.faults, words)
		}
	case *log.EventEntryAdded:
		// An answer that is an error is the server's to give and the page's to
		// show; the browser notes it all the same.
		if ev.Entry.Source != log.EntrySourceNetwork && ev.Entry.Level != log.EntryLevelInfo && ev.Entry.Level != log.EntryLevelVerbose {
			s.faults = append(s.faults, fmt.Sprintf("%s: %s", ev.Entry.Source, ev.Entry.Text))
		}
	}
}

// count is the number of requests so far that begin so.
func (s *traffic) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// open starts the real command and a browser, or skips the test.
func open(t *testing.T) *visit {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a browser and a detector")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed: scripts/setup tests installs it (Debian's package chromium)")
	}
	dir := t.TempDir()
	v := &visit{T: t, dir: dir, seen: &traffic{}}
	v.program = filepath.Join(dir, "resdet")
	build := exec.Command("go", "build", "-o", v.program, "./cmd/resdet")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	v.url = serve(t, v.program, dir)

	camera := filepath.Join(dir, "camera.mjpeg")
	frame, err := os.ReadFile(filepath.Join(root, "testdata/road.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(camera, bytes.Repeat(frame, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(chromium),
		chromedp.UserDataDir(filepath.Join(dir, "profile")),
		chromedp.Flag("use-fake-device-for-media-stream", true),
		chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("use-file-for-fake-video-capture", camera),
		chromedp.WindowSize(1280, 800),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // chromium's sandbox refuses root
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	v.tab, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Listen(v.tab, v.seen.listen); err != nil {
		t.Fatal(err)
	}
	order(v, network.Enable, network.EnableParams{})
	order(v, log.Enable, cdp.Empty{})
	order(v, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir})
	v.colours("light")
	v.run(chromedp.Navigate(v.url))
	return v
}

// serve starts the command with two models and returns its address.
func serve(t *testing.T, program, dir string) string {
	t.Helper()
	config := smaller(t, dir)
	weights := filepath.Join(root, "internal/zoo/default.safetensors")
	paths := []string{filepath.Join(dir, fine+".safetensors"), filepath.Join(dir, coarse+".safetensors")}
	original, err := filepath.Abs(weights)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(original, paths[0]); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "weights", "import", weights, "--config", config, "--dtype", "f16", "--out", paths[1]).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", "--addr", address, "--model", paths[0], "--model", paths[1], "--model", trainTiny(t, program, dir),
		"--key-file", keys, "--state-dir", filepath.Join(dir, "state"), "--train-dir", filepath.Join(dir, "training"))
	var logged bytes.Buffer
	cmd.Stdout, cmd.Stderr = &logged, &logged
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		err := cmd.Wait()
		if t.Failed() {
			t.Logf("the server ended with %v after\n%s", err, logged.Bytes())
		}
	})
	url := "http://" + address
	for range 600 {
		r, err := http.Get(url + "/readyz")
		if err == nil {
			r.Body.Close()
			if r.StatusCode == 200 {
				return url
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("the server is not ready after a minute:\n%s", logged.Bytes())
	return ""
}

// trainTiny trains a small network for two steps, and returns its file.
func trainTiny(t *testing.T, program, dir string) string {
	t.Helper()
	archive, err := zip.OpenReader(shapes(t, dir, "tiny.zip", 3, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if err := os.CopyFS(filepath.Join(dir, "shapes"), archive); err != nil {
		t.Fatal(err)
	}
	recipe := "arch: resnet18-fpn\ninit: none\nmodel:\n  backbone: {fpn: {stages: [2, 3], channels: 16}}\n  transform: {min_size: 64, max_size: 96}\n" +
		"  rpn: {anchors: {sizes: [[16], [32], [64]], ratios: [0.5, 1, 2]}}\n  roi: {hidden: 32}\n" +
		"frozen_stages: 1\nschedule: {rate: 0.005, steps: 2, kind: constant, decay: [], warmup: {steps: 0}}\n"
	if err := os.WriteFile(filepath.Join(dir, "tiny.yaml"), []byte(recipe), 0o600); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "tiny-run")
	if out, err := exec.Command(program, "train", "--quiet", "--data", "voc:"+filepath.Join(dir, "shapes"), "--val-data", "none",
		"--out", run, "--config", filepath.Join(dir, "tiny.yaml")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path := filepath.Join(dir, tiny+".safetensors")
	if err := os.Rename(filepath.Join(run, "model.safetensors"), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// shapes writes an archive with a data set of n pictures, each with a bright
// rectangle; the first one's box is so many pixels too wide.
func shapes(t testing.TB, dir, name string, n, tooWide int) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range n {
		stem := string(rune('a' + i))
		m := image.NewGray(image.Rect(0, 0, 96, 72))
		x, y := 8+6*i, 10+4*i
		draw.Draw(m, image.Rect(x, y, x+24, y+20), image.White, image.Point{}, draw.Src)
		w, err := z.Create(stem + ".png")
		if err == nil {
			err = png.Encode(w, m)
		}
		if err == nil {
			w, err = z.Create(stem + ".xml")
		}
		if err == nil {
			_, err = fmt.Fprintf(w, "<annotation><filename>%s.png</filename><size><width>96</width><height>72</height><depth>1</depth></size>"+
				"<object><name>shape</name><difficult>0</difficult><bndbox><xmin>%d</xmin><ymin>%d</ymin><xmax>%d</xmax><ymax>%d</ymax></bndbox></object></annotation>\n",
				stem, x+1, y+1, x+24+tooWide, y+20)
			tooWide = 0
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// smaller writes the built-in model's configuration with smaller pictures.
func smaller(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "scripts/default-model.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]json.RawMessage
	if err := json.Unmarshal(b, &config); err != nil {
		t.Fatal(err)
	}
	var transform map[string]any
	if err := json.Unmarshal(config["transform"], &transform); err != nil {
		t.Fatal(err)
	}
	transform["min_size"], transform["max_size"] = 192, 320
	config["transform"], err = json.Marshal(transform)
	if err != nil {
		t.Fatal(err)
	}
	b, err = json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, coarse+".json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run does actions in the tab.
func (v *visit) run(actions ...chromedp.Action[chromedp.Void]) {
	v.Helper()
	ctx, cancel := v.patience()
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		v.Fatal(err)
	}
}

// patience ends what hangs; it is ample for a loaded machine.
func (v *visit) patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(v.tab, time.Minute)
}

// order gives the browser a command of its protocol.
func order[P, R any](v *visit, cmd cdp.Command[P, R], params P) R {
	v.Helper()
	ctx, cancel := v.patience()
	defer cancel()
	out, err := chromedp.Call(ctx, cmd, params)
	if err != nil {
		v.Fatalf("%s: %v", cmd.Method, err)
	}
	return out
}

// eval is the value of a JavaScript expression; promises are awaited.
func eval[T any](v *visit, script string) T {
	v.Helper()
	ctx, cancel := v.patience()
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		v.Fatalf("%s: %v", script, err)
	}
	return out
}

// until waits for a JavaScript expression to be true.
func (v *visit) until(script string) {
	v.Helper()
	for end := time.Now().Add(time.Minute); !eval[bool](v, "!!("+script+")"); time.Sleep(30 * time.Millisecond) {
		if time.Now().After(end) {
			v.Fatalf("never true: %s\nthe page reads:\n%s", script, eval[string](v, "document.body.innerText"))
		}
	}
}

// drop lets go of files over the page, as a file manager does.
func (v *visit) drop(paths ...string) {
	v.Helper()
	data := input.DragData{Items: []*input.DragDataItem{}, DragOperationsMask: 1}
	for _, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			v.Fatal(err)
		}
		data.Files = append(data.Files, abs)
	}
	for _, kind := range []input.DispatchDragEventType{input.DispatchDragEventTypeDragEnter, input.DispatchDragEventTypeDragOver, input.DispatchDragEventTypeDrop} {
		order(v, input.DispatchDragEvent, input.DispatchDragEventParams{Type: kind, X: 180, Y: 300, Data: &data})
	}
}

// press types keys into what has the focus.
func (v *visit) press(keys ...string) {
	v.Helper()
	for _, k := range keys {
		v.run(chromedp.KeyEvent(k))
	}
}

// click clicks the element of a CSS selector.
func (v *visit) click(selector string) {
	v.Helper()
	v.run(chromedp.Click(chromedp.CSS(selector)))
}

// size sets the window's, of a phone below 500 pixels.
func (v *visit) size(width, height int64) {
	v.Helper()
	order(v, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500})
}

// shot keeps a picture of the page in RESDET_SCREENSHOTS, if that is set: how
// the page looks is for people to judge.
func (v *visit) shot(name string) {
	v.Helper()
	dir := os.Getenv("RESDET_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, s := range []struct {
		name          string
		width, height int64
	}{{"desktop", 1280, 800}, {"phone", 390, 844}} {
		v.size(s.width, s.height)
		for _, scheme := range []string{"dark", "light"} {
			v.colours(scheme)
			time.Sleep(200 * time.Millisecond) // the canvas follows the window's size
			ctx, cancel := v.patience()
			b, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			cancel()
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name+"-"+s.name+"-"+scheme+".png"), b, 0o644)
			}
			if err != nil {
				v.Fatal(err)
			}
		}
	}
	v.size(1280, 800)
	time.Sleep(200 * time.Millisecond)
}

// show opens a view.
func (v *visit) show(view string) {
	v.Helper()
	v.click(`.tabs a[href="#` + view + `"]`)
}

// colours sets what the system prefers, light or dark.
func (v *visit) colours(scheme string) {
	v.Helper()
	order(v, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}
