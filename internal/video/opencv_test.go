//go:build unix && cgo && !race

// These tests run the real helper process, which the race detector does not see.

package video

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resdet/internal/fixture"
	"resdet/internal/transform"
)

// built is the helper program, made once for all tests, with the counting of
// native matrices.
var built struct {
	once sync.Once
	path string
	err  error
}

// realHelper returns the helper program, or skips the test where OpenCV is
// missing.
func realHelper(t testing.TB) string {
	t.Helper()
	if _, err := os.Stat("/usr/include/opencv4/opencv2/videoio.hpp"); err != nil {
		t.Skip("OpenCV is not installed: scripts/setup installs it")
	}
	built.once.Do(func() {
		dir, err := os.MkdirTemp("", "resdet-video-test")
		if err != nil {
			built.err = err
			return
		}
		built.path = filepath.Join(dir, "resdet-video")
		out, err := exec.Command(filepath.Join(fixture.Root(), "scripts", "build-video"), built.path, "matprofile").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

func init() {
	afterTests = func() {
		if built.path != "" {
			os.RemoveAll(filepath.Dir(built.path))
		}
	}
}

func realOptions(t testing.TB) Options {
	o := testOptions()
	o.Helper = realHelper(t)
	o.OpenTimeout, o.ReadTimeout = 30*time.Second, 30*time.Second // the machine may be busy
	return o
}

// clip writes a video of n grey frames that grow lighter.
func clip(t testing.TB, name string, n, width, height int, fps float64, codec string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	s, err := NewFile(path, FileOptions{Codec: codec, Width: width, Height: height, FPS: fps, Helper: realHelper(t)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		m := shade(width, height, level(i))
		f := &Frame{Index: i, Time: time.Duration(float64(i) / fps * 1e9), Image: m}
		if err := s.Write(context.Background(), &Result{Frame: f, Picture: m}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func level(i int) uint8 { return uint8(40 + 5*(i%40)) }

// grey is a picture's level in its middle.
func grey(m image.Image) int {
	b := m.Bounds()
	r, _, _, _ := m.At(b.Min.X+b.Dx()/2, b.Min.Y+b.Dy()/2).RGBA()
	return int(r >> 8)
}

func TestClips(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, codec   string
		n, w, h       int
		fps           float64
		wantW, wantH  int
		probe, probed string
	}{
		{"a.mp4", "", 50, 64, 48, 25, 64, 48, "h264", "avc1"},
		{"a.mp4", "mp4v", 50, 64, 48, 12.5, 64, 48, "mpeg4", "mp4v"},
		{"a.avi", "", 50, 64, 48, 29.97, 64, 48, "mjpeg", "MJPG"},
		{"odd.mp4", "", 10, 65, 47, 30, 66, 48, "h264", "avc1"},
		{"one.mp4", "", 1, 64, 48, 25, 64, 48, "h264", "avc1"},
		{"tiny.mp4", "", 5, 1, 1, 25, 2, 2, "h264", "avc1"},
		{"one.avi", "", 1, 64, 48, 25, 64, 48, "mjpeg", "MJPG"},
	} {
		t.Run(c.name+c.codec, func(t *testing.T) {
			path := clip(t, c.name, c.n, c.w, c.h, c.fps, c.codec)
			s, err := Open(context.Background(), path, realOptions(t))
			if err != nil {
				t.Fatal(err)
			}
			i := s.Info()
			if i.Width != c.wantW || i.Height != c.wantH || math.Abs(i.FPS-c.fps) > 0.01 || i.Frames != c.n || i.Live {
				t.Errorf("%+v", i)
			}
			all, _, err := frames(t, s)
			if err != nil || len(all) != c.n {
				t.Fatalf("%d frames, %v", len(all), err)
			}
			for i, f := range all {
				if want := time.Duration(float64(i) / c.fps * 1e9); f.Index != i || (f.Time-want).Abs() > time.Millisecond {
					t.Errorf("frame %d: index %d at %v, want %v", i, f.Index, f.Time, want)
				}
				if g := grey(f.Image); g < int(level(i))-6 || g > int(level(i))+6 {
					t.Errorf("frame %d: level %d, want %d", i, g, level(i))
				}
			}
			if end := s.(*helperSource).end; end.Mats != 0 || end.Frames != c.n {
				t.Errorf("native matrices left: %d; frames %d", end.Mats, end.Frames)
			}
			p := probe(t, path)
			if p.CodecName != c.probe || p.Tag != c.probed || p.frames() != c.n || math.Abs(p.duration()-float64(c.n)/c.fps) > 0.002 {
				t.Errorf("ffprobe: %+v", p)
			}
		})
	}
}

// probed is what ffprobe says of a file's video.
type probed struct {
	CodecName string `json:"codec_name"`
	Tag       string `json:"codec_tag_string"`
	Read      string `json:"nb_read_frames"`
	Duration  string `json:"duration"`
	audio     bool
	whole     float64 // the file's duration
}

func (p probed) frames() int { n, _ := strconv.Atoi(p.Read); return n }

func (p probed) duration() float64 { d, _ := strconv.ParseFloat(p.Duration, 64); return d }

// probe looks at a file with ffprobe, or skips the rest of the test.
func probe(t *testing.T, path string) probed {
	t.Helper()
	if _, err := exec.LookPath("ffprobe"); err != nil {
		t.Skip("ffprobe is not installed (package ffmpeg)")
	}
	out, err := exec.Command("ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json", path).Output()
	if err != nil {
		t.Fatalf("ffprobe %s: %v", path, err)
	}
	var all struct {
		Streams []struct {
			probed
			Type string `json:"codec_type"`
		}
		Format struct{ Duration string }
	}
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	var p probed
	for _, s := range all.Streams {
		if s.Type == "video" {
			p = s.probed
		}
	}
	for _, s := range all.Streams {
		p.audio = p.audio || s.Type == "audio"
	}
	p.whole, _ = strconv.ParseFloat(all.Format.Duration, 64)
	return p
}

// ffmpeg runs the command, or skips the test.
func ffmpeg(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		t.Skip("ffmpeg is not installed")
	}
	if out, err := exec.Command("ffmpeg", append([]string{"-v", "error", "-nostdin", "-y"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg %v: %v: %s", args, err, out)
	}
}

// throughTo runs a file through a pipeline with a stub detector into an mp4, by
// the codec that takes the least time.
func throughTo(t *testing.T, source string, log *slog.Logger, change func(*Config)) (string, Stats) {
	t.Helper()
	s, err := Open(context.Background(), source, realOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	out := filepath.Join(t.TempDir(), "out.mp4")
	i := s.Info()
	f, err := NewFile(out, FileOptions{Codec: "mp4v", Width: i.Width, Height: i.Height, FPS: cfg.OutputRate(i), Sound: i.Sound, Helper: realHelper(t), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(s, &perImage{}, []Sink{f}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out, p.Stats()
}

func TestRoadClip(t *testing.T) {
	t.Parallel()
	source := fixture.Shared(t, "data/video/car-detection.mp4")
	out, st := throughTo(t, source, nil, nil)
	if st.Done != 377 {
		t.Errorf("%d frames", st.Done)
	}
	want, got := probe(t, source), probe(t, out)
	if got.Tag != "mp4v" || got.frames() != 377 || math.Abs(got.duration()-want.duration()) > 0.01 || !got.audio || math.Abs(got.whole-want.whole) > 0.05 {
		t.Errorf("%+v, the source %+v", got, want)
	}
	// A stretch of it, by seeking.
	out, _ = throughTo(t, source, nil, func(c *Config) { c.Start, c.End, c.Every = 20*time.Second, 24*time.Second, 2 })
	if got := probe(t, out); got.frames() != 25 || math.Abs(got.duration()-4) > 0.01 {
		t.Errorf("four seconds, every second frame: %+v", got)
	}
}

func TestSeek(t *testing.T) {
	t.Parallel()
	path := clip(t, "a.mp4", 300, 64, 48, 25, "")
	o := realOptions(t)
	o.Start = 10 * time.Second
	s, err := Open(context.Background(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := frames(t, s)
	if err != nil || all[0].Time > o.Start || len(all) > 200 || all[len(all)-1].Index != 299 {
		t.Fatalf("%v, %d frames from %v", err, len(all), all[0].Time)
	}
	for _, f := range all {
		if want := time.Duration(f.Index) * 40 * time.Millisecond; f.Time != want || grey(f.Image)-int(level(f.Index)) > 6 {
			t.Fatalf("frame %d at %v, want %v", f.Index, f.Time, want)
		}
	}
}

// TestRotated: videos of phones stand upright, as ffmpeg turns them.
func TestRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.mp4")
	f, err := NewFile(path, FileOptions{Width: 64, Height: 48, FPS: 25, Helper: realHelper(t)})
	if err != nil {
		t.Fatal(err)
	}
	m := shade(64, 48, 20)
	for y := range 12 { // light at the top left
		for x := range 16 {
			m.SetRGBA(x, y, color.RGBA{240, 240, 240, 255})
		}
	}
	f.Write(context.Background(), &Result{Frame: &Frame{Image: m}, Picture: m})
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, angle := range []string{"0", "90", "180", "270"} {
		turned := filepath.Join(t.TempDir(), "turned.mp4")
		ffmpeg(t, "-i", path, "-c", "copy", "-metadata:s:v", "rotate="+angle, turned)
		reference := filepath.Join(t.TempDir(), "reference.png")
		ffmpeg(t, "-i", turned, "-frames:v", "1", reference)
		want, err := decodeFile(reference, transform.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open(context.Background(), turned, realOptions(t))
		if err != nil {
			t.Fatal(err)
		}
		all, _, err := frames(t, s)
		if err != nil || len(all) != 1 {
			t.Fatal(err)
		}
		got := all[0].Image
		if got.Bounds() != want.Bounds() || s.Info().Width != want.Bounds().Dx() || s.Info().Height != want.Bounds().Dy() {
			t.Fatalf("%s degrees: %v, ffmpeg has %v", angle, got.Bounds(), want.Bounds())
		}
		w, h := want.Bounds().Dx(), want.Bounds().Dy()
		for _, at := range []image.Point{{4, 4}, {w - 4, 4}, {4, h - 4}, {w - 4, h - 4}} {
			a, _, _, _ := got.At(at.X, at.Y).RGBA()
			b, _, _, _ := want.At(at.X, at.Y).RGBA()
			if (a > 0x8000) != (b > 0x8000) {
				t.Errorf("%s degrees: level %d at %v, ffmpeg has %d", angle, a>>8, at, b>>8)
			}
		}
		if s.(*helperSource).end.Mats != 0 {
			t.Errorf("%s degrees: %d native matrices left", angle, s.(*helperSource).end.Mats)
		}
	}
}

func TestVariableRate(t *testing.T) {
	t.Parallel()
	path := clip(t, "a.mp4", 60, 64, 48, 20, "")
	uneven := filepath.Join(t.TempDir(), "uneven.mp4")
	// All of the first second, then every tenth frame.
	ffmpeg(t, "-i", path, "-vf", "select='lt(n,20)+not(mod(n,10))'", "-vsync", "vfr", uneven)
	out, st := throughTo(t, uneven, nil, nil)
	if st.Done != 24 {
		t.Fatalf("%d frames", st.Done)
	}
	got := probe(t, out)
	if math.Abs(got.duration()-2.5) > 0.1 { // the last frame is at 2.5 s and lasts one period of the average rate
		t.Errorf("%+v", got)
	}
}

func TestSound(t *testing.T) {
	path := clip(t, "a.mp4", 50, 64, 48, 25, "")
	loud := filepath.Join(t.TempDir(), "loud.mp4")
	ffmpeg(t, "-i", path, "-f", "lavfi", "-i", "sine=duration=2", "-c:v", "copy", "-c:a", "aac", loud)
	out, _ := throughTo(t, loud, nil, nil)
	if got := probe(t, out); !got.audio || got.frames() != 50 || math.Abs(got.whole-2) > 0.05 {
		t.Errorf("%+v", got)
	}
	// Without ffmpeg the video stays, and the log says so.
	var said bytes.Buffer
	tools := os.Getenv("PATH")
	realHelper(t)
	t.Setenv("PATH", t.TempDir())
	out, _ = throughTo(t, loud, slog.New(slog.NewTextHandler(&said, nil)), nil)
	t.Setenv("PATH", tools)
	if got := probe(t, out); got.audio || got.frames() != 50 || !strings.Contains(said.String(), "ffmpeg is not installed") {
		t.Errorf("%+v; the log: %s", got, &said)
	}
	// A pcm track does not go into an mp4 as it is.
	pcm := filepath.Join(t.TempDir(), "pcm.avi")
	ffmpeg(t, "-i", path, "-f", "lavfi", "-i", "sine=duration=2", "-c:v", "copy", "-c:a", "pcm_s16le", pcm)
	out, _ = throughTo(t, pcm, nil, nil)
	if got := probe(t, out); !got.audio {
		t.Errorf("%+v", got)
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := realOptions(t)
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole, err := os.ReadFile(clip(t, "a.mp4", 100, 64, 48, 25, ""))
	if err != nil {
		t.Fatal(err)
	}
	motion, err := os.ReadFile(clip(t, "a.avi", 100, 640, 480, 25, ""))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		want string
	}{
		"text":               {write("text.mp4", []byte("this is no video\n")), "cannot be opened as a video"},
		"index cut off":      {write("cut.mp4", whole[:len(whole)/2]), "moov atom not found"},
		"playlist of others": {write("list.m3u8", []byte("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:1/a.ts\n")), "cannot be opened"},
		"not there":          {filepath.Join(dir, "none.mp4"), "no such file"},
	} {
		_, err := Open(context.Background(), c.path, o)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), filepath.Base(c.path)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}

	// A file that is cut behind its header: what is there comes, then an error.
	s, err := Open(context.Background(), write("cut.avi", motion[:len(motion)/2]), o)
	if err != nil {
		t.Fatal(err)
	}
	if all, _, err := frames(t, s); !errors.Is(err, ErrCut) || len(all) < 30 || len(all) > 70 {
		t.Errorf("%d frames, %v", len(all), err)
	}
}

func TestCutRoadClip(t *testing.T) {
	data, err := os.ReadFile(fixture.Shared(t, "data/video/car-detection.mp4"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cut.mp4")
	os.WriteFile(path, data[:len(data)/3], 0o666)
	s, err := Open(context.Background(), path, realOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := frames(t, s)
	if !errors.Is(err, ErrCut) || len(all) < 50 || !strings.Contains(err.Error(), "of 377 frames") || !strings.Contains(err.Error(), "partial file") {
		t.Errorf("%d frames, %v", len(all), err)
	}
}

func TestCodecsThatAreThere(t *testing.T) {
	helper := realHelper(t)
	path := filepath.Join(t.TempDir(), "a.mp4")
	_, err := NewFile(path, FileOptions{Codec: "hvc9", Width: 64, Height: 48, FPS: 25, Helper: helper})
	var hint *HintError
	if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "avc1, mp4v") || !strings.Contains(err.Error(), `"hvc9"`) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("an empty file was left")
	}
}

// TestKilledHelper: whatever becomes of the process is an error of that source.
func TestKilledHelper(t *testing.T) {
	t.Parallel()
	path := clip(t, "long.mp4", 500, 320, 240, 25, "")
	for _, c := range []struct {
		signal syscall.Signal
		want   string
	}{
		{syscall.SIGKILL, "killed"}, {syscall.SIGABRT, "SIGABRT"}, {syscall.SIGSEGV, "SIGSEGV"}, {syscall.SIGSTOP, ErrStalled.Error()},
	} {
		t.Run(c.signal.String(), func(t *testing.T) {
			o := realOptions(t)
			if c.signal == syscall.SIGSTOP {
				o.ReadTimeout = 500 * time.Millisecond
			}
			s, err := Open(context.Background(), path, o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			p := s.(*helperSource).p
			p.cmd.Process.Signal(c.signal)
			n := 0
			for err == nil {
				_, err = s.Next(context.Background())
				n++
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "long.mp4") || n > 100 {
				t.Errorf("after %d frames: %v", n, err)
			}
			s.Close()
			if p.cmd.ProcessState == nil {
				t.Error("the process is still there")
			}
		})
	}
}

// fill writes to a file until it fails, and returns the frames written.
func fill(t *testing.T, s Sink, most int) (int, error) {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 160, 120))
	state := uint32(1)
	for n := range most {
		for i := range m.Pix { // noise, which does not compress
			state = state*1664525 + 1013904223
			m.Pix[i] = byte(state >> 24)
		}
		f := &Frame{Index: n, Time: time.Duration(n) * 40 * time.Millisecond, Image: m}
		if err := s.Write(context.Background(), &Result{Frame: f, Picture: m}); err != nil {
			return n, err
		}
	}
	return most, nil
}

// TestFullDisk: the file is closed while there is room for its index.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2500k"); err != nil {
		t.Skipf("a small file system needs root: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	for _, name := range []string{"a.mp4", "a.avi"} {
		path := filepath.Join(dir, name)
		s, err := NewFile(path, FileOptions{Width: 160, Height: 120, FPS: 25, Helper: realHelper(t)})
		if err != nil {
			t.Fatal(err)
		}
		n, err := fill(t, s, 3000)
		if err == nil || !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("%s: %d frames: %v", name, n, err)
		}
		s.Close()
		source, err := Open(context.Background(), path, realOptions(t))
		if err != nil {
			t.Errorf("%s: what was written does not play: %v", name, err)
			continue
		}
		all, _, err := frames(t, source)
		if err != nil || len(all) < 8 {
			t.Errorf("%s: %d frames of %d, %v", name, len(all), n, err)
		}
		t.Logf("%s: %d frames play", name, len(all))
		os.Remove(path)
	}
}

// TestFileSizeLimit: writes fail inside OpenCV, which does not say so.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.mp4")
	s, err := NewFile(path, FileOptions{Width: 160, Height: 120, FPS: 25, Helper: realHelper(t)})
	if err != nil {
		t.Fatal(err)
	}
	limit := unix.Rlimit{Cur: 100 << 10, Max: 100 << 10}
	if err := unix.Prlimit(s.(*file).s.(*helperSink).p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		t.Skip(err)
	}
	_, err = fill(t, s, 100)
	if closed := s.Close(); err == nil {
		err = closed
	}
	if err == nil {
		t.Error("a file that could not be written was no error")
	}
	t.Log(err)
}

// TestRunClosesTheFile: an interrupted run leaves a file that plays.
func TestRunClosesTheFile(t *testing.T) {
	source := newSynthetic(0)
	source.cost = 2 * time.Millisecond
	path := filepath.Join(t.TempDir(), "a.mp4")
	f, err := NewFile(path, FileOptions{Width: 64, Height: 48, FPS: 10, Helper: realHelper(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p, err := New(source, &stub{}, []Sink{f, &trigger{20, cancel}}, DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s, err := Open(context.Background(), path, realOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	if all, _, err := frames(t, s); err != nil || len(all) < 20 {
		t.Errorf("%d frames, %v", len(all), err)
	}
}

// trigger does something at its n-th frame.
type trigger struct {
	n  int
	do func()
}

func (c *trigger) Draws() bool { return false }

func (c *trigger) Write(context.Context, *Result) error {
	if c.n--; c.n == 0 {
		c.do()
	}
	return nil
}

func (c *trigger) Close() error { return nil }

// TestHelperMemory: thousands of frames through both kinds of helper leave its
// memory as it was, and no native matrix.
func TestHelperMemory(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	n := 10_000
	if testing.Short() {
		n = 2000
	}
	path := filepath.Join(t.TempDir(), "long.mp4")
	f, err := NewFile(path, FileOptions{Codec: "mp4v", Width: 64, Height: 48, FPS: 25, Helper: realHelper(t)})
	if err != nil {
		t.Fatal(err)
	}
	m := shade(64, 48, 100)
	var early, late int64
	for i := range n {
		fr := &Frame{Index: i, Time: time.Duration(i) * 40 * time.Millisecond, Image: m}
		if err := f.Write(context.Background(), &Result{Frame: fr, Picture: m}); err != nil {
			t.Fatal(err)
		}
		if i == n/5 {
			early = resident(t, f.(*file).s.(*helperSink).p)
		}
	}
	late = resident(t, f.(*file).s.(*helperSink).p)
	if late > early+4<<20 {
		t.Errorf("writing: %d kB after %d frames, %d kB after %d", early>>10, n/5, late>>10, n)
	}
	end := f.(*file)
	end.flush(1)
	if e, err := end.s.finish(); err != nil || e.Mats != 0 || e.Frames != n {
		t.Errorf("%+v, %v", e, err)
	}
	end.s = nil

	s, err := Open(context.Background(), path, realOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range n {
		fr, err := s.Next(context.Background())
		if err != nil {
			t.Fatal(i, err)
		}
		fr.Release()
		if i == n/5 {
			early = resident(t, s.(*helperSource).p)
		}
	}
	late = resident(t, s.(*helperSource).p)
	if late > early+4<<20 {
		t.Errorf("reading: %d kB after %d frames, %d kB after %d", early>>10, n/5, late>>10, n)
	}
	t.Logf("reading: %d kB resident after %d frames, %d kB after %d", early>>10, n/5, late>>10, n)
	s.Next(context.Background())
	if end := s.(*helperSource).end; end.Mats != 0 || end.Frames != n {
		t.Errorf("%+v", end)
	}
}

func resident(t *testing.T, p *process) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// TestHTTPFile: a file from a server that breaks the connection off in the
// middle, again and again, comes whole.
func TestHTTPFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.mp4")
	f, err := NewFile(path, FileOptions{Width: 160, Height: 120, FPS: 25, Helper: realHelper(t)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fill(t, f, 100); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(path)
	var requests, broken atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.URL.Path != "/a.mp4" {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(&dropping{ResponseWriter: w, left: len(data) / 3, broken: &broken}, r, "a.mp4", time.Time{}, bytes.NewReader(data))
	}))
	defer server.Close()
	o := realOptions(t)
	s, err := Open(context.Background(), server.URL+"/a.mp4", o)
	if err != nil {
		t.Fatal(err)
	}
	if i := s.Info(); i.Live || i.Frames != 100 {
		t.Errorf("%+v", i)
	}
	if all, _, err := frames(t, s); err != nil || len(all) != 100 {
		t.Errorf("%d frames, %v", len(all), err)
	}
	if broken.Load() == 0 {
		t.Errorf("%d requests, none broken off", requests.Load())
	}
	if _, err := Open(context.Background(), server.URL+"/none.mp4", o); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
	}
}

// dropping breaks a connection off after some bytes.
type dropping struct {
	http.ResponseWriter
	left   int
	broken *atomic.Int64
}

func (d *dropping) Write(b []byte) (int, error) {
	if len(b) > d.left {
		d.ResponseWriter.Write(b[:d.left])
		d.ResponseWriter.(http.Flusher).Flush()
		d.broken.Add(1)
		panic(http.ErrAbortHandler)
	}
	d.left -= len(b)
	return d.ResponseWriter.Write(b)
}
