package video

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"resdet/internal/transform"
)

// shade is a picture of one grey level that tells frames apart.
func shade(width, height int, level uint8) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range m.Pix {
		m.Pix[i] = level
		if i%4 == 3 {
			m.Pix[i] = 255
		}
	}
	return m
}

func jpegOf(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// testOptions are quick to give up.
func testOptions() Options {
	o := DefaultOptions()
	o.OpenTimeout, o.ReadTimeout, o.Reconnect = 10*time.Second, 10*time.Second, 0
	return o
}

// frames reads a source to its end.
func frames(t testing.TB, s Source) (all []*Frame, damaged int, err error) {
	t.Helper()
	defer s.Close()
	for {
		f, err := s.Next(context.Background())
		var d *DamagedError
		switch {
		case errors.As(err, &d):
			damaged++
		case err == io.EOF:
			return all, damaged, nil
		case err != nil:
			return all, damaged, err
		default:
			all = append(all, f)
		}
	}
}

func TestJPEGSplitter(t *testing.T) {
	picture := jpegOf(t, shade(40, 30, 100))
	thumb := jpegOf(t, shade(8, 8, 9))
	// The thumbnail lies in an APP1 segment, with its own start and end.
	length := len(thumb) + 2
	nested := slices.Concat(picture[:2], []byte{0xff, 0xe1, byte(length >> 8), byte(length)}, thumb, picture[2:])
	filled := slices.Concat(picture[:2], []byte{0xff, 0xff, 0xff}, picture[2:])
	for name, c := range map[string]struct {
		stream string
		want   []string // pictures; "" is a broken one
	}{
		"one after another": {string(picture) + string(picture), []string{string(picture), string(picture)}},
		"multipart": {
			fmt.Sprintf("--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n--x\r\nX: \xff\xd8\r\n\r\n%s\r\n--x--\r\n", len(picture), picture, picture),
			[]string{string(picture), string(picture)},
		},
		"thumbnail inside":   {string(nested) + string(picture), []string{string(nested), string(picture)}},
		"fill bytes":         {string(filled), []string{string(filled)}},
		"cut at the end":     {string(picture) + string(picture[:len(picture)-3]), []string{string(picture), ""}},
		"cut in the middle":  {string(picture[:len(picture)-5]) + string(picture) + string(picture), []string{"", string(picture), string(picture)}},
		"begins in a middle": {string(picture[100:]) + string(picture), []string{string(picture)}},
		"nothing":            {"", nil},
		"text":               {"this is no picture \xff\xd8 of any kind", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newJPEGSplitter(strings.NewReader(c.stream))
			var got []string
			for {
				b, err := s.next()
				if err == io.EOF {
					break
				}
				if err != nil && err != errBrokenJPEG {
					t.Fatal(err)
				}
				got = append(got, string(b))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%d pictures, want %d", len(got), len(c.want))
			}
		})
	}

	s := newJPEGSplitter(strings.NewReader(strings.Repeat("x", 1000)))
	s.max = 100
	if _, err := s.next(); err == nil || !strings.Contains(err.Error(), "no JPEG") {
		t.Errorf("a stream without pictures: %v", err)
	}
	s = newJPEGSplitter(bytes.NewReader(picture))
	s.max = len(picture) / 2
	if _, err := s.next(); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a picture that is too large: %v", err)
	}
}

func FuzzJPEGSplitter(f *testing.F) {
	picture := jpegOf(f, shade(16, 16, 50))
	f.Add(slices.Concat([]byte("--x\r\n\r\n"), picture, picture[:60], picture))
	f.Add([]byte{0xff, 0xd8, 0xff, 0xe0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newJPEGSplitter(bytes.NewReader(b))
		s.max = 4096
		total := 0
		for {
			p, err := s.next()
			if err != nil && err != errBrokenJPEG {
				return
			}
			if err == nil && (!bytes.HasPrefix(p, []byte{0xff, 0xd8, 0xff}) || !bytes.HasSuffix(p, []byte{0xff, 0xd9})) {
				t.Fatalf("% x", p)
			}
			if total += len(p); total > len(b) {
				t.Fatal("more came out than went in")
			}
		}
	})
}

func TestMJPEG(t *testing.T) {
	good := func(level uint8) string { return string(jpegOf(t, shade(32, 24, level))) }
	bad := good(1)
	bad = bad[:200] + strings.Repeat("\x00", 60) + bad[260:]
	file := filepath.Join(t.TempDir(), "a.mjpg")
	os.WriteFile(file, []byte(good(10)+bad+good(30)), 0o666)
	o := testOptions()
	o.Rate = 10
	s, err := Open(context.Background(), file, o)
	if err != nil {
		t.Fatal(err)
	}
	if i := s.Info(); i.Width != 32 || i.Height != 24 || i.FPS != 10 || i.Live {
		t.Errorf("%+v", i)
	}
	all, damaged, err := frames(t, s)
	if err != nil || damaged != 1 || len(all) != 2 {
		t.Fatalf("%d frames, %d damaged, %v", len(all), damaged, err)
	}
	if all[1].Index != 2 || all[1].Time != 200*time.Millisecond {
		t.Errorf("frame %d at %v", all[1].Index, all[1].Time)
	}
	if y := all[1].Image.(*image.YCbCr).Y[0]; y < 28 || y > 32 {
		t.Errorf("level %d", y)
	}

	os.WriteFile(file, []byte(strings.Repeat(bad, 80)), 0o666)
	if _, err := Open(context.Background(), file, o); err == nil || !strings.Contains(err.Error(), "in a row") {
		t.Errorf("a stream of damaged pictures: %v", err)
	}
}

// y4m returns a stream of n frames whose planes are filled with values from 16 on.
func y4m(header string, planes []int, n int) string {
	b := "YUV4MPEG2 " + header + "\n"
	for i := range n {
		b += "FRAME\n"
		for j, size := range planes {
			b += strings.Repeat(string([]byte{byte(16 + 10*i + 100*j)}), size)
		}
	}
	return b
}

func TestY4M(t *testing.T) {
	for _, c := range []struct {
		name, stream string
		n            int
		fps          float64
		first        color.Color // of the first pixel of frame 1
		err          string
	}{
		{"420", y4m("W5 H3 F30000:1001 Ip A1:1 C420jpeg", []int{15, 6, 6}, 3), 3, 30000.0 / 1001, color.YCbCr{12, 126, 240}, ""},
		{"full range", y4m("W5 H3 F25:1 C420 XCOLORRANGE=FULL", []int{15, 6, 6}, 2), 2, 25, color.YCbCr{26, 126, 226}, ""},
		{"no colour space", y4m("W4 H4 F50:2", []int{16, 4, 4}, 2), 2, 25, color.YCbCr{12, 126, 240}, ""},
		{"422", y4m("W4 H2 F0:0 C422", []int{8, 4, 4}, 2), 2, 25, color.YCbCr{12, 126, 240}, ""},
		{"444", y4m("W3 H2 F10 C444", []int{6, 6, 6}, 2), 2, 10, color.YCbCr{12, 126, 240}, ""},
		{"mono", y4m("W3 H2 F10:1 Cmono", []int{6}, 2), 2, 10, color.Gray{12}, ""},
		{"frame parameters", strings.ReplaceAll(y4m("W3 H2 F10:1 Cmono", []int{6}, 2), "FRAME\n", "FRAME It Xa=b\n"), 2, 10, color.Gray{12}, ""},
		{"cut", y4m("W3 H2 F10:1 Cmono", []int{6}, 3)[:60], 2, 10, color.Gray{12}, "cut"},
		{"no frames", y4m("W3 H2 F10:1 Cmono", nil, 0), 0, 10, nil, "no frame"},
		{"10 bits", y4m("W3 H2 F10:1 C420p10", nil, 0), 0, 0, nil, "8-bit"},
		{"no size", y4m("F10:1", nil, 0), 0, 0, nil, "0x0"},
		{"absurd size", y4m("W2000000000 H2000000000", nil, 1), 0, 0, nil, "2000000000"},
		{"negative size", y4m("W-4 H4", nil, 1), 0, 0, nil, "-4"},
		{"no number", y4m("Wx H4", nil, 1), 0, 0, nil, "Wx"},
		{"endless line", "YUV4MPEG2 " + strings.Repeat("X", 5000) + "\n", 0, 0, nil, "more than 4096"},
		{"not a frame", y4m("W3 H2 F10:1 Cmono", []int{6}, 1) + "FRAMF\n123456", 1, 10, nil, "instead of a frame"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := testOptions()
			o.Stdin = strings.NewReader(c.stream)
			s, err := Open(context.Background(), "-", o)
			var all []*Frame
			if err == nil {
				if fps := s.Info().FPS; fps != c.fps {
					t.Errorf("%v frames per second", fps)
				}
				all, _, err = frames(t, s)
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if len(all) != c.n {
				t.Fatalf("%d frames, want %d", len(all), c.n)
			}
			if c.first != nil && all[1].Image.At(0, 0) != c.first {
				t.Errorf("first pixel of the second frame: %v, want %v", all[1].Image.At(0, 0), c.first)
			}
		})
	}
}

func FuzzY4M(f *testing.F) {
	f.Add([]byte(y4m("W5 H3 F30000:1001 C420jpeg", []int{15, 6, 6}, 2)))
	f.Add([]byte(y4m("W3 H2 F10 C444 XCOLORRANGE=FULL", []int{6, 6, 6}, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		y, err := newY4MReader(bufio.NewReader(bytes.NewReader(b)), 1<<16)
		if err != nil {
			return
		}
		for range len(b) {
			if _, err := y.next(); err != nil {
				return
			}
		}
	})
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for name, level := range map[string]uint8{"f10.jpg": 30, "f9.jpg": 20, "f1.png": 10, "f11.JPG": 40} {
		if err := transform.Save(filepath.Join(dir, strings.ToLower(name)), shade(20, 10, level)); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o666)
	s, err := Open(context.Background(), dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if i := s.Info(); i.Frames != 4 || i.Width != 20 {
		t.Errorf("%+v", i)
	}
	all, _, err := frames(t, s)
	if err != nil || len(all) != 4 {
		t.Fatal(len(all), err)
	}
	for i, f := range all {
		r, _, _, _ := f.Image.At(5, 5).RGBA()
		if level := int(r >> 8); level < 10*(i+1)-2 || level > 10*(i+1)+2 || f.Index != i {
			t.Errorf("frame %d has index %d and level %d", i, f.Index, level)
		}
	}

	os.WriteFile(filepath.Join(dir, "f9.jpg"), []byte("text"), 0o666)
	s, err = Open(context.Background(), dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if all, damaged, err := frames(t, s); err != nil || damaged != 1 || len(all) != 3 {
		t.Errorf("with one damaged picture: %d frames, %d damaged, %v", len(all), damaged, err)
	}

	empty := t.TempDir()
	if _, err := Open(context.Background(), empty, testOptions()); !errors.Is(err, ErrEmpty) {
		t.Errorf("an empty folder: %v", err)
	}
	os.WriteFile(filepath.Join(empty, "a.png"), []byte("text"), 0o666)
	if _, err := Open(context.Background(), empty, testOptions()); err == nil || err == io.EOF || !strings.Contains(err.Error(), "a.png") {
		t.Errorf("a folder of one damaged picture: %v", err)
	}
}

func TestNaturalOrder(t *testing.T) {
	want := []string{"a", "a01", "a1", "a2", "a2b3", "a2b10", "a10", "b", "x099", "x100", "x99999999999999999999999998", "x99999999999999999999999999"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, naturalLess)
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("place %d: %s, want %s", i, got[i], want[i])
		}
	}
}

// stuck never gives anything.
type stuck struct{ end chan struct{} }

func (s stuck) Read([]byte) (int, error) { <-s.end; return 0, io.EOF }

func TestStandardInput(t *testing.T) {
	o := testOptions()
	o.OpenTimeout = 50 * time.Millisecond
	end := make(chan struct{})
	defer close(end)
	o.Stdin = stuck{end}
	if _, err := Open(context.Background(), "-", o); !errors.Is(err, ErrStalled) {
		t.Errorf("an input that never comes: %v", err)
	}
	o.Stdin = strings.NewReader("some text")
	var hint *HintError
	if _, err := Open(context.Background(), "-", o); !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "ffmpeg") {
		t.Errorf("text: %v", err)
	}
	o.Stdin = strings.NewReader("")
	if _, err := Open(context.Background(), "-", o); !errors.Is(err, ErrEmpty) {
		t.Errorf("nothing: %v", err)
	}
	// One frame, then silence: the source stalls, and nothing hangs.
	r, w := io.Pipe()
	defer w.Close()
	go io.WriteString(w, y4m("W3 H2 F10 Cmono", []int{6}, 1))
	o.Stdin, o.ReadTimeout, o.OpenTimeout = r, 50*time.Millisecond, 5*time.Second
	s, err := Open(context.Background(), "-", o)
	if err != nil {
		t.Fatal(err)
	}
	if all, _, err := frames(t, s); len(all) != 1 || !errors.Is(err, ErrStalled) {
		t.Errorf("%d frames, %v", len(all), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.mp4")
	os.WriteFile(empty, nil, 0o666)
	for name, want := range map[string]string{
		filepath.Join(dir, "none.mp4"): "no such file",
		empty:                          "the file is empty",
		"ftp://host/a.mp4":             "http, https, rtsp",
		"http://":                      "not an address",
		"file:///etc/passwd":           "not an address",
		"/dev/null":                    "not a file",
	} {
		if _, err := Open(context.Background(), name, testOptions()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	o := testOptions()
	o.ReadTimeout = 0
	if _, err := Open(context.Background(), dir, o); err == nil {
		t.Error("options without a time-out passed")
	}
}
