//go:build unix

package video

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"resdet/internal/video/wire"
)

// fakeEnv makes the test's own program a helper that misbehaves in the way
// named, so that every fault can be had without OpenCV.
const fakeEnv = "RESDET_VIDEO_FAKE"

// afterTests removes what tests share.
var afterTests = func() {}

func TestMain(m *testing.M) {
	if how := os.Getenv(fakeEnv); how != "" {
		fake(how)
		os.Exit(0)
	}
	code := m.Run()
	afterTests()
	os.Exit(code)
}

// fake serves one order: to read it sends three frames, to write it counts.
func fake(how string) {
	in, out := wire.NewReader(os.Stdin), wire.NewWriter(os.Stdout)
	var o wire.Open
	if _, err := in.Next(); err != nil || in.Text(&o) != nil {
		os.Exit(3)
	}
	switch how {
	case "silent":
		time.Sleep(time.Hour)
	case "old":
		io.WriteString(os.Stdout, "rdv0 and a header of another version........")
		time.Sleep(time.Hour)
	case "refuse":
		fmt.Fprintln(os.Stderr, "moov atom not found\x1b[31m")
		out.Text(wire.KindFailure, wire.Failure{Message: "it cannot be opened", Codecs: []string{"avc1", "mp4v"}})
		os.Exit(1)
	}
	out.Text(wire.KindInfo, wire.Info{Width: 4, Height: 2, FPS: 10, Frames: 3})
	if o.Mode != wire.Read {
		frames := 0
		for {
			h, err := in.Next()
			if err != nil || h.Kind == wire.KindEnd {
				break
			}
			in.Pixels(make([]byte, h.Length))
			frames += h.Repeat
			if how == "close" && frames == 2 { // the window
				break
			}
			if how == "crash" && frames == 2 {
				fmt.Fprintln(os.Stderr, "terminate called after throwing an instance of 'cv::Exception'")
				syscall.Kill(os.Getpid(), syscall.SIGABRT)
			}
		}
		out.Text(wire.KindEnd, wire.End{Frames: frames})
		return
	}
	for i := range 3 {
		if i == 1 {
			misbehave(how)
		}
		pixels := make([]byte, 4*4*2)
		pixels[0] = byte(i)
		stamp := time.Duration(i) * 100 * time.Millisecond
		if how == "stamps" {
			stamp = 0
		}
		if out.Frame(wire.Header{Width: 4, Height: 2, Index: i, Time: stamp}, pixels) != nil {
			return
		}
	}
	out.Text(wire.KindEnd, wire.End{Frames: 3})
}

func misbehave(how string) {
	switch how {
	case "abort":
		fmt.Fprintln(os.Stderr, "terminate called after throwing an instance of 'cv::Exception'")
		fmt.Fprintln(os.Stderr, "  what():  OpenCV(4.6.0) error: (-215:Assertion failed)")
		syscall.Kill(os.Getpid(), syscall.SIGABRT)
		time.Sleep(time.Hour)
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Hour)
	case "exit":
		os.Exit(7)
	case "stall":
		time.Sleep(time.Hour)
	case "huge":
		h := make([]byte, 40)
		copy(h, "rdv1F")
		copy(h[8:], "\xff\xff\xff\x7f\xff\xff\xff\x7f\xff\xff\xff\x7f")
		os.Stdout.Write(h)
		time.Sleep(time.Hour)
	case "half":
		os.Stdout.WriteString("rdv1F")
		os.Exit(0)
	case "chatter":
		for i := range 20000 {
			fmt.Fprintln(os.Stderr, "line", i)
		}
	case "early end":
		wire.NewWriter(os.Stdout).Text(wire.KindEnd, wire.End{Frames: 1})
		os.Exit(0)
	}
}

// fakeHelper returns the options to run the fake.
func fakeHelper(t *testing.T, how string) Options {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("needs signals")
	}
	t.Setenv(fakeEnv, how)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := testOptions()
	o.Helper = self
	return o
}

// someVideo is a file that only the helper would read.
func someVideo(t *testing.T) string {
	name := filepath.Join(t.TempDir(), "some.mp4")
	if err := os.WriteFile(name, []byte("not looked at"), 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestHelperSource(t *testing.T) {
	for _, c := range []struct {
		how     string
		frames  int
		want    []string // in the error
		opening bool     // the error comes from Open
	}{
		{how: "well", frames: 3},
		{how: "chatter", frames: 3},
		{how: "stamps", frames: 3},
		{how: "abort", frames: 1, want: []string{"some.mp4", "SIGABRT", "terminate called", "(-215:Assertion failed)"}},
		{how: "kill", frames: 1, want: []string{"killed", "it printed: nothing"}},
		{how: "exit", frames: 1, want: []string{"exit status 7"}},
		{how: "stall", frames: 1, want: []string{"no frame came in time", "was ended"}},
		{how: "huge", frames: 1, want: []string{"2147483647x2147483647"}},
		{how: "half", frames: 1, want: []string{"ended"}},
		{how: "silent", opening: true, want: []string{"no frame came in time"}},
		{how: "old", opening: true, want: []string{"rdv0"}},
		{how: "refuse", opening: true, want: []string{"it cannot be opened; OpenCV printed: moov atom not found[31m"}},
	} {
		t.Run(c.how, func(t *testing.T) {
			o := fakeHelper(t, c.how)
			if c.how == "stall" {
				o.ReadTimeout = 200 * time.Millisecond
			}
			if c.how == "silent" {
				o.OpenTimeout = 200 * time.Millisecond
			}
			s, err := Open(context.Background(), someVideo(t), o)
			if c.opening != (err != nil) {
				t.Fatalf("opening: %v", err)
			}
			var all []*Frame
			if err == nil {
				all, _, err = frames(t, s)
				if h := s.(*helperSource); h.p.cmd.ProcessState == nil {
					t.Error("the process was left behind")
				}
			}
			if len(all) != c.frames || (err != nil) != (c.want != nil) {
				t.Fatalf("%d frames, %v", len(all), err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q lacks %q", err, w)
				}
			}
			for i, f := range all {
				if f.Index != i || f.Time != time.Duration(i)*100*time.Millisecond || number(f.Image) != i {
					t.Errorf("frame %d: index %d at %v", i, f.Index, f.Time)
				}
			}
		})
	}
}

func TestHelperSourceIsCancelled(t *testing.T) {
	o := fakeHelper(t, "stall")
	s, err := Open(context.Background(), someVideo(t), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	if _, err := s.Next(ctx); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	if _, err := s.Next(ctx); !errors.Is(err, cause) {
		t.Errorf("waiting for a frame: %v", err)
	}
	s.Close()
	if _, err := s.Next(context.Background()); err == nil {
		t.Error("a closed source gave a frame")
	}
}

func TestCloseDuringNext(t *testing.T) {
	s, err := Open(context.Background(), someVideo(t), fakeHelper(t, "stall"))
	if err != nil {
		t.Fatal(err)
	}
	s.Next(context.Background())
	time.AfterFunc(50*time.Millisecond, func() { s.Close() })
	if _, err := s.Next(context.Background()); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}

func TestNoHelper(t *testing.T) {
	t.Setenv(HelperEnv, filepath.Join(t.TempDir(), "none"))
	var hint *HintError
	if _, err := Open(context.Background(), someVideo(t), testOptions()); !errors.Is(err, ErrNoHelper) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "scripts/build") {
		t.Errorf("%v", err)
	}
	if _, err := NewFile(filepath.Join(t.TempDir(), "a.mp4"), FileOptions{Width: 4, Height: 4, FPS: 5}); !errors.Is(err, ErrNoHelper) {
		t.Errorf("%v", err)
	}
	t.Setenv(HelperEnv, "")
	t.Setenv("PATH", t.TempDir())
	if _, err := FindHelper(); !errors.Is(err, ErrNoHelper) {
		t.Errorf("%v", err)
	}
}

func TestHelperSink(t *testing.T) {
	write := func(t *testing.T, how string) (Sink, error) {
		o := fakeHelper(t, how)
		s, err := NewFile(filepath.Join(t.TempDir(), "a.mp4"), FileOptions{Width: 4, Height: 2, FPS: 10, Helper: o.Helper})
		if err != nil {
			return nil, err
		}
		for i := range 100 {
			f := &Frame{Index: i, Time: time.Duration(i) * 100 * time.Millisecond, Image: image.NewRGBA(image.Rect(0, 0, 4, 2))}
			if err := s.Write(context.Background(), &Result{Frame: f, Picture: f.Image.(*image.RGBA)}); err != nil {
				s.Close()
				return s, err
			}
			if how != "well" {
				time.Sleep(5 * time.Millisecond) // its words take their time
			}
		}
		return s, s.Close()
	}
	if s, err := write(t, "well"); err != nil || s.(*file).slots != 100 {
		t.Errorf("%v", err)
	}
	if _, err := write(t, "crash"); err == nil || !strings.Contains(err.Error(), "cv::Exception") || !strings.Contains(err.Error(), "a.mp4") {
		t.Errorf("a crash: %v", err)
	}
	if _, err := write(t, "close"); !errors.Is(err, ErrStop) {
		t.Errorf("a closed window: %v", err)
	}
	var hint *HintError
	if _, err := write(t, "refuse"); !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "avc1, mp4v") {
		t.Errorf("a codec that is not there: %v", err)
	}
}

// pictures counts what a file would get.
type pictures struct {
	index, repeat []int
	size          image.Point
}

func (p *pictures) write(f *Frame, m *image.RGBA, repeat int) error {
	p.index, p.repeat, p.size = append(p.index, f.Index), append(p.repeat, repeat), m.Rect.Size()
	return nil
}

func (p *pictures) finish() (wire.End, error) { return wire.End{}, nil }

// TestFileKeepsTime: each picture lasts until the next one's time.
func TestFileKeepsTime(t *testing.T) {
	ms := func(v ...int) []int { return v }
	for _, c := range []struct {
		name                 string
		fps                  float64
		times, index, repeat []int
	}{
		{"constant rate", 10, ms(0, 100, 200, 300), ms(0, 1, 2, 3), ms(1, 1, 1, 1)},
		{"begins later", 10, ms(5000, 5100, 5200), ms(0, 1, 2), ms(1, 1, 1)},
		{"rounded stamps", 29.97, ms(0, 33, 67, 100, 133, 167), ms(0, 1, 2, 3, 4, 5), ms(1, 1, 1, 1, 1, 1)},
		{"jitter", 10, ms(0, 130, 180, 310, 390), ms(0, 1, 2, 3, 4), ms(1, 1, 1, 1, 1)},
		{"a gap", 10, ms(0, 100, 500, 600), ms(0, 1, 2, 3), ms(1, 4, 1, 1)},
		{"too dense", 10, ms(0, 20, 40, 100, 120, 200), ms(2, 4, 5), ms(1, 1, 1)},
		{"back in time", 10, ms(0, 100, 200, 50, 300), ms(0, 1, 2, 4), ms(1, 1, 1, 1)},
		{"an absurd gap", 10, ms(0, 100, 36_000_000, 36_000_100), ms(0, 1, 2, 3), ms(1, 1, 1, 1)},
		{"one frame", 10, ms(700), ms(0), ms(1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := &pictures{}
			f := &file{s: got, name: "none.mp4", o: FileOptions{Width: 4, Height: 2, FPS: c.fps}}
			for i, at := range c.times {
				m := image.NewRGBA(image.Rect(0, 0, 4+i, 2+i)) // and each of another size
				fr := &Frame{Index: i, Time: time.Duration(at) * time.Millisecond, Image: m}
				if err := f.Write(context.Background(), &Result{Frame: fr, Picture: m}); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got.index, got.repeat) != fmt.Sprint(c.index, c.repeat) || got.size != image.Pt(4, 2) {
				t.Errorf("frames %v, times %v, size %v; want %v, %v", got.index, got.repeat, got.size, c.index, c.repeat)
			}
		})
	}
}

func TestFileRefuses(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "source.mp4")
	os.WriteFile(source, []byte("x"), 0o666)
	o := FileOptions{Width: 4, Height: 4, FPS: 5, Sound: source, Helper: "none"}
	for name, want := range map[string]string{
		filepath.Join(dir, "a.mkv"):            ".mp4 or .avi",
		filepath.Join(dir, "none", "a.mp4"):    "no such file",
		source:                                 "the source itself",
		filepath.Join(dir, "source.mp4/x.avi"): "not a directory",
	} {
		if _, err := NewFile(name, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if b, _ := os.ReadFile(source); string(b) != "x" {
		t.Error("the source was touched")
	}
}
