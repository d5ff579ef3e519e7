package jpeg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	std "image/jpeg"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"resdet/internal/fixture"
)

// goldens returns JPEG files by name, of every kind that package transform reads.
func goldens(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("../transform/testdata/jpeg/*.jpg")
	if err != nil || len(paths) < 50 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	files := map[string][]byte{}
	for _, path := range paths {
		files[strings.TrimSuffix(filepath.Base(path), ".jpg")] = read(t, path)
	}
	return files
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Grey files show the samples as they leave the transform; Pillow, that is
// libjpeg-turbo, wrote down its own. (Package transform compares colour ones.)
func TestGreyIsPillows(t *testing.T) {
	n := 0
	for name, data := range goldens(t) {
		if !strings.HasPrefix(name, "grey") {
			continue
		}
		n++
		m, err := Decode(data)
		if err != nil {
			t.Fatal(name, err)
		}
		want, err := png.Decode(bytes.NewReader(read(t, "../transform/testdata/jpeg/"+name+".png")))
		if err != nil {
			t.Fatal(name, err)
		}
		b := want.Bounds()
		if m.Bounds() != b {
			t.Fatalf("%s: %v, want %v", name, m.Bounds(), b)
		}
		for y := range b.Dy() {
			for x := range b.Dx() {
				r, _, _, _ := want.At(x, y).RGBA()
				if got := m.(*image.Gray).GrayAt(x, y).Y; got != uint8(r>>8) {
					t.Fatalf("%s: %d,%d is %d, want %d", name, x, y, got, r>>8)
				}
			}
		}
	}
	if n < 8 {
		t.Errorf("%d files", n)
	}
}

// sameButRounding tells how an image differs from that of the standard decoder
// by more than the inverse transform's rounding; "" if it does not.
func sameButRounding(a, b image.Image) string {
	if reflect.TypeOf(a) != reflect.TypeOf(b) || a.Bounds() != b.Bounds() {
		return fmt.Sprintf("%T %v, want %T %v", a, a.Bounds(), b, b.Bounds())
	}
	size := a.Bounds().Size()
	planes := func(m image.Image) (pix [][]byte, stride, width []int) {
		switch m := m.(type) {
		case *image.Gray:
			return [][]byte{m.Pix}, []int{m.Stride}, []int{size.X}
		case *image.YCbCr:
			last := m.COffset(size.X-1, size.Y-1)
			c := last%m.CStride + 1
			return [][]byte{m.Y, m.Cb[:last+1], m.Cr[:last+1]}, []int{m.YStride, m.CStride, m.CStride}, []int{size.X, c, c}
		case *image.RGBA:
			return [][]byte{m.Pix}, []int{m.Stride}, []int{4 * size.X}
		case *image.CMYK:
			return [][]byte{m.Pix}, []int{m.Stride}, []int{4 * size.X}
		}
		return nil, nil, nil
	}
	p, stride, width := planes(a)
	q, _, _ := planes(b)
	for i := range p {
		for y := 0; y < size.Y && y*stride[i]+width[i] <= len(p[i]); y++ {
			for x := range width[i] {
				at := y*stride[i] + x
				if d := int(p[i][at]) - int(q[i][at]); d < -1 || d > 1 {
					return fmt.Sprintf("plane %d at %d,%d is %d, want %d", i, x, y, p[i][at], q[i][at])
				}
			}
		}
	}
	return ""
}

func TestStandardDecoderAgrees(t *testing.T) {
	check := func(name string, data []byte) {
		t.Helper()
		want, err := std.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := Decode(data)
		if err != nil {
			t.Fatal(name, err)
		}
		if d := sameButRounding(got, want); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		h, err := ReadHeader(data)
		if err != nil || image.Pt(h.Width, h.Height) != want.Bounds().Size() {
			t.Errorf("%s: header %+v, %v", name, h, err)
		}
	}
	for name, data := range goldens(t) {
		// In scans of one component the standard decoder counts a restart
		// interval in units of all components and fails.
		if !strings.HasSuffix(name, "_again") {
			check(name, data)
		}
	}
	r := rand.New(rand.NewPCG(7, 8))
	for i := range 200 {
		b := image.Rect(0, 0, 1+r.IntN(70), 1+r.IntN(70))
		colour, grey := image.NewNRGBA(b), image.NewGray(b)
		amplitude := 1 + r.IntN(255)
		for j := range colour.Pix {
			colour.Pix[j] = uint8(128 + j/9%100 - r.IntN(amplitude))
		}
		for j := range grey.Pix {
			grey.Pix[j] = uint8(128 + j/9%100 - r.IntN(amplitude))
		}
		m := image.Image(colour)
		if i%4 == 0 {
			m = grey
		}
		var buf bytes.Buffer
		q := 1 + r.IntN(100)
		if err := std.Encode(&buf, m, &std.Options{Quality: q}); err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprintf("%T %v of quality %d", m, b, q), buf.Bytes())
	}
}

func TestPhotos(t *testing.T) {
	for i, data := range photos(t) {
		want, err := std.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if d := sameButRounding(got, want); d != "" {
			t.Errorf("photo %d: %s", i, d)
		}
	}
}

// photos returns 20 photos of VOC 2007.
func photos(t testing.TB) (all [][]byte) {
	voc := fixture.Shared(t, "data", "VOCdevkit", "VOC2007")
	ids := strings.Fields(string(read(t, filepath.Join(voc, "ImageSets", "Main", "minival.txt"))))
	for _, id := range ids[:min(20, len(ids))] {
		all = append(all, read(t, filepath.Join(voc, "JPEGImages", id+".jpg")))
	}
	return all
}

// segment returns where the first segment of a kind begins and ends.
func segment(t testing.TB, data []byte, marker byte) (int, int) {
	t.Helper()
	at := bytes.Index(data, []byte{0xff, marker})
	if at < 0 {
		t.Fatalf("no segment %#x", marker)
	}
	return at, at + 2 + int(binary.BigEndian.Uint16(data[at+2:]))
}

func without(t testing.TB, data []byte, marker byte) []byte {
	from, to := segment(t, data, marker)
	return append(bytes.Clone(data[:from]), data[to:]...)
}

// with sets a byte of the first segment of a kind, counted from its marker.
func with(t testing.TB, data []byte, marker byte, at int, value byte) []byte {
	from, _ := segment(t, data, marker)
	data = bytes.Clone(data)
	data[from+at] = value
	return data
}

func TestErrors(t *testing.T) {
	files := goldens(t)
	plain, progressive, restarts := files["420_80x64"], files["progressive_50x37"], files["hard2x2q100_27x21"]
	// Frame: marker 2, length 2, precision, height 2, width 2, components, then
	// three bytes each. Scan: marker 2, length 2, components, two bytes each, three.
	cut := func(b []byte, n int) []byte { return b[:len(b)-n] }
	end := len(plain) - 2
	at := bytes.Index(restarts, []byte{0xff, 0xd0})
	secondScan := func() []byte {
		_, to := segment(t, progressive, sos)
		i := to + bytes.Index(progressive[to:], []byte{0xff, dht})
		return append(bytes.Clone(progressive[:i]), 0xff, eoi)
	}()
	for _, k := range []struct {
		name string
		data []byte
		want string
	}{
		{"png", []byte("\x89PNG\r\n"), "does not begin"},
		{"no frame", []byte{0xff, soi, 0xff, eoi}, "without a frame"},
		{"scan first", without(t, plain, sof0), "before the frame"},
		{"two frames", func() []byte {
			from, to := segment(t, plain, sof0)
			return bytes.Join([][]byte{plain[:to], plain[from:]}, nil)
		}(), "two frame headers"},
		{"12 bits", with(t, plain, sof0, 4, 12), "12 bits"},
		{"no rows", with(t, with(t, plain, sof0, 5, 0), sof0, 6, 0), "80x0"},
		{"two components", append([]byte{0xff, soi, 0xff, sof0, 0, 14, 8, 0, 8, 0, 8, 2}, 1, 0x11, 0, 2, 0x11, 0), "2 colour components"},
		{"short frame", with(t, plain, sof0, 9, 4), "frame's header"},
		{"one name for two", with(t, plain, sof0, 13, 1), "two components are called 1"},
		{"factors", with(t, plain, sof0, 11, 0x31), "[3x1 1x1 1x1]"},
		{"factors 0", with(t, plain, sof0, 14, 0), "[2x2 0x0 1x1]"},
		{"arithmetic", with(t, plain, sof0, 1, 0xc9), "arithmetic coding is not supported"},
		{"lossless", with(t, plain, sof0, 1, 0xc3), "lossless coding is not supported"},
		{"hierarchical", with(t, plain, sof0, 1, 0xc5), "hierarchical coding is not supported"},
		{"unknown segment", with(t, plain, dqt, 1, 0x02), "unknown segment 0x2"},
		{"segment of no length", with(t, with(t, plain, dqt, 2, 0), dqt, 3, 1), "length 1"},
		{"no quantization", without(t, without(t, plain, dqt), dqt), "quantization table 0 is missing"},
		{"quantization 7", with(t, plain, dqt, 4, 7), "quantization table 7"},
		{"short quantization", with(t, plain, dqt, 4, 0x10), "bytes, want 128"},
		{"no Huffman table", without(t, plain, dht), "Huffman table 0 of DC coefficients is missing"},
		{"Huffman table 9", with(t, plain, dht, 4, 9), "table 9"},
		{"many codes", with(t, plain, dht, 5, 200), "Huffman table of"},
		{"impossible codes", with(t, with(t, plain, dht, 5, 3), dht, 6, 0), "Huffman table"},
		{"component of scan", with(t, plain, sos, 5, 9), "component 9"},
		{"component twice", with(t, plain, sos, 7, 1), "component 1 twice"},
		{"table of scan", with(t, plain, sos, 6, 0x22), "Huffman tables 2 and 2"},
		{"short scan", with(t, plain, sos, 4, 2), "scan's header"},
		{"progressive band", with(t, progressive, sos, 12, 5), "coefficients 0 to 5"},
		{"progressive bits", with(t, progressive, sos, 13, 0x31), "bits 3 to 1"},
		{"marker in data", append(bytes.Clone(plain[:end-200]), 0xff, eoi), "at a marker 0xd9"},
		{"restart", append(append(bytes.Clone(restarts[:at]), 0xff, 0xd5), restarts[at+2:]...), "where the restart marker 0xd0"},
		{"scans missing", func() []byte { // one component of three, progressive
			_, to := segment(t, progressive, sof2)
			return append(bytes.Clone(progressive[:to]), 0xff, eoi)
		}(), "no scan has component 1"},
		{"empty", nil, "cut off"},
		{"header only", plain[:30], "cut off"},
		{"cut in data", cut(plain, 300), "cut off"},
		{"cut in restarts", restarts[:at+1], "cut off"},
		{"progressive without end", cut(progressive, 2), "cut off"},
	} {
		m, err := Decode(k.data)
		if err == nil || m != nil || !strings.Contains(err.Error(), k.want) || !strings.HasPrefix(err.Error(), "jpeg: ") {
			t.Errorf("%s: %T, %v; want %q", k.name, m, err, k.want)
		}
		if k.want == "cut off" != errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", k.name, err)
		}
	}
	if _, err := Decode(secondScan); err != nil { // blurred, but all there
		t.Error(err)
	}
}

// However a file is cut, it is called so; but a sequential one that lacks only
// its end marker is whole.
func TestCutAnywhere(t *testing.T) {
	for _, name := range []string{"420_17x1", "hard1x1q100_27x21", "hard2x2q3_27x21_again", "greyhard1_26x19", "cmyk_40x30"} {
		data := goldens(t)[name]
		want, err := Decode(data)
		if err != nil {
			t.Fatal(name, err)
		}
		for n := range data {
			m, err := Decode(data[:n])
			whole := n >= len(data)-2 && !strings.HasSuffix(name, "_again")
			if whole && (err != nil || !reflect.DeepEqual(m, want)) || !whole && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, %d of %d bytes: %T, %v", name, n, len(data), m, err)
			}
			if _, err := ReadHeader(data[:n]); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, header of %d bytes: %v", name, n, err)
			}
		}
	}
}

// What libjpeg skips is skipped: fill bytes, a restart marker after the last
// unit, stray bytes between segments; and Pillow's reading of CMYK without
// Adobe's marker.
func TestHarmlessOddities(t *testing.T) {
	files := goldens(t)
	plain := files["420_80x64"]
	from, _ := segment(t, plain, dqt)
	end := len(plain) - 2
	for name, pair := range map[string][2][]byte{
		"fill bytes":   {plain, bytes.Join([][]byte{plain[:from], {0xff, 0xff}, plain[from:]}, nil)},
		"stray bytes":  {plain, bytes.Join([][]byte{plain[:end], {1, 2, 0xff, 0, 3}, plain[end:]}, nil)},
		"last restart": {plain, bytes.Join([][]byte{plain[:end], {0xff, 0xd3}, plain[end:]}, nil)},
		"after end":    {plain, append(bytes.Clone(plain), "more"...)},
		"no Adobe":     {files["cmyk_40x30"], without(t, files["cmyk_40x30"], app14)},
	} {
		a, err := Decode(pair[0])
		if err != nil {
			t.Fatal(name, err)
		}
		if b, err := Decode(pair[1]); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: another picture, %v", name, err)
		}
	}
	h, err := ReadHeader(files["turned6_35x22"])
	if err != nil || !bytes.HasPrefix(h.EXIF, []byte("MM\x00*")) {
		t.Errorf("EXIF %q, %v", h.EXIF, err)
	}
}

// YCCK files are CMYK with the first three components as YCbCr.
func TestYCCK(t *testing.T) {
	_, to := segment(t, goldens(t)["cmyk_40x30"], app14)
	data := bytes.Clone(goldens(t)["cmyk_40x30"])
	data[to-1] = 2
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	want, err := std.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got.(*image.CMYK).Pix {
		if d := int(v) - int(want.(*image.CMYK).Pix[i]); d < -3 || d > 3 { // a level of Cb is 1.8 of blue
			t.Fatalf("byte %d is %d, want %d", i, v, want.(*image.CMYK).Pix[i])
		}
	}
}

func TestScansAreBounded(t *testing.T) {
	data := goldens(t)["progressive_50x37"]
	data = data[:len(data)-2]
	// 7 × 5 blocks, each with one more bit of the first coefficient.
	extra := []byte{0xff, sos, 0, 8, 1, 1, 0, 0, 0, 0x10, 0, 0, 0, 0, 0}
	for n, ok := range map[int]bool{150: true, 200: false} {
		_, err := Decode(append(append(bytes.Clone(data), bytes.Repeat(extra, n)...), 0xff, eoi))
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "more than 200 scans") {
			t.Errorf("%d more scans: %v", n, err)
		}
	}
}

func TestHeaderTellsMemory(t *testing.T) {
	for name, data := range goldens(t) {
		h, err := ReadHeader(data)
		if err != nil {
			t.Fatal(name, err)
		}
		if taken := allocates(func() { Decode(data) }); taken < h.Memory || taken > h.Memory+32<<10 {
			t.Errorf("%s: took %d bytes, %d expected", name, taken, h.Memory)
		}
	}
}

func allocates(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

func FuzzDecode(f *testing.F) {
	for name, data := range goldens(f) {
		if len(data) < 1300 && !strings.HasPrefix(name, "flat") {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ReadHeader(data)
		if err != nil {
			if m, err := Decode(data); err == nil {
				t.Errorf("decoded to %T, but the header was refused", m)
			}
			return
		}
		if h.Memory > 1<<20 {
			return
		}
		var m image.Image
		taken := allocates(func() { m, err = Decode(data) })
		if taken > h.Memory+64<<10 {
			t.Errorf("took %d bytes, %d expected", taken, h.Memory)
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), "jpeg: ") {
				t.Error(err)
			}
			return
		}
		if m.Bounds() != image.Rect(0, 0, h.Width, h.Height) {
			t.Errorf("%v, header %+v", m.Bounds(), h)
		}
	})
}

// On 20 photos of 500 × 375 this is 1.8 to 3.6 times as fast as the standard
// decoder, by how busy the machine is otherwise.
func BenchmarkDecode(b *testing.B) {
	files := photos(b)
	for name, decode := range map[string]func([]byte) (image.Image, error){
		"resdet":   Decode,
		"standard": func(data []byte) (image.Image, error) { return std.Decode(bytes.NewReader(data)) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				for _, data := range files {
					if _, err := decode(data); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
