package transform

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	ours "resdet/internal/jpeg"
)

// The files were decoded by Pillow with libjpeg-turbo's defaults. Single levels
// matter: with Go's image/jpeg, whose inverse transform rounds otherwise (up to 3
// levels in a pixel), 3 % of a detector's boxes differ from the reference's.
func TestJPEGIsPillows(t *testing.T) {
	files, err := filepath.Glob("testdata/jpeg/*.jpg")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".jpg")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			turn, golden := byte('1'), strings.TrimSuffix(name, "_again")
			if strings.HasPrefix(name, "turned") {
				turn, golden = name[len("turned")], "turned"
			}
			file, err := os.Open("testdata/jpeg/" + golden + ".png")
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			want, err := png.Decode(file)
			if err != nil {
				t.Fatal(err)
			}
			img, err := Decode(bytes.NewReader(data), DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			got := opaque(img)
			size := want.Bounds().Size()
			if turn >= '5' {
				size.X, size.Y = size.Y, size.X
			}
			if got.Rect.Size() != size {
				t.Fatalf("size %v, want %v", got.Rect.Size(), size)
			}
			differing := 0
			for y := range size.Y {
				for x := range size.X {
					sx, sy := stored(turn, x, y, want.Bounds().Dx(), want.Bounds().Dy())
					if a, b := got.NRGBAAt(x, y), straight(want.At(sx, sy)); a != b {
						if differing++; differing < 5 {
							t.Errorf("pixel %d,%d is %v, want %v", x, y, a, b)
						}
					}
				}
			}
			if differing > 0 {
				t.Errorf("%d of %d pixels differ", differing, size.X*size.Y)
			}
		})
	}
}

// stored returns which stored pixel of a w × h picture is shown at (x, y), after
// the table in EXIF 2.3, 4.6.4 (where the stored rows' and columns' start is).
func stored(orientation byte, x, y, w, h int) (int, int) {
	switch orientation {
	case '2':
		return w - 1 - x, y
	case '3':
		return w - 1 - x, h - 1 - y
	case '4':
		return x, h - 1 - y
	case '5':
		return y, x
	case '6':
		return y, h - 1 - x
	case '7':
		return w - 1 - y, h - 1 - x
	case '8':
		return w - 1 - y, x
	}
	return x, y
}

func TestDecodeKeepsChroma(t *testing.T) {
	data, err := os.ReadFile("testdata/jpeg/420_77x61.jpg")
	if err != nil {
		t.Fatal(err)
	}
	img, err := Decode(bytes.NewReader(data), DefaultLimits())
	if _, ok := img.(*image.YCbCr); !ok || err != nil {
		t.Errorf("%T, %v", img, err)
	}
}

func TestDecodePNG(t *testing.T) {
	b := image.Rect(0, 0, 21, 13)
	rgba64 := image.NewNRGBA64(b)
	kinds := map[string]interface {
		image.Image
		Set(x, y int, c color.Color)
	}{
		"grey": image.NewGray(b), "grey16": image.NewGray16(b), "alpha": image.NewNRGBA(b), "alpha16": rgba64, "opaque": image.NewRGBA(b),
		"palette": image.NewPaletted(b, color.Palette{color.NRGBA{1, 2, 3, 255}, color.NRGBA{200, 150, 90, 0}, color.NRGBA{40, 50, 60, 99}}),
	}
	for name, m := range kinds {
		for y := range 13 {
			for x := range 21 {
				a := uint8(255)
				if strings.HasPrefix(name, "alpha") {
					a = uint8(x * 12)
				}
				m.Set(x, y, color.NRGBA{uint8(x * 11), uint8(y * 17), uint8(x * y), a})
			}
		}
		var buf bytes.Buffer
		if err := png.Encode(&buf, m); err != nil {
			t.Fatal(err)
		}
		got, err := Decode(&buf, DefaultLimits())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a, b := opaque(got), opaque(m)
		if !bytes.Equal(a.Pix, b.Pix) {
			t.Errorf("%s: pixels changed", name)
		}
	}
}

func TestDecodePNGOrientation(t *testing.T) {
	var buf bytes.Buffer
	if err := png.Encode(&buf, formula(7, 4)); err != nil {
		t.Fatal(err)
	}
	const afterIHDR = 8 + 25
	data := buf.Bytes()
	data = bytes.Join([][]byte{data[:afterIHDR], chunk("eXIf", exif(6)), data[afterIHDR:]}, nil)
	img, err := Decode(bytes.NewReader(data), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if img.Bounds().Dx() != 4 || opaque(img).NRGBAAt(3, 0) != formula(7, 4).NRGBAAt(0, 0) {
		t.Errorf("not turned: %v", img.Bounds())
	}
}

func TestDecodeErrors(t *testing.T) {
	jpg, err := os.ReadFile("testdata/jpeg/420_77x61.jpg")
	if err != nil {
		t.Fatal(err)
	}
	progressive, err := os.ReadFile("testdata/jpeg/progressive_50x37.jpg")
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, formula(64, 48)); err != nil {
		t.Fatal(err)
	}
	whole := buf.Bytes()
	for _, k := range []struct {
		name   string
		data   []byte
		limits Limits
		is     error
		want   string
	}{
		{"empty", nil, DefaultLimits(), ErrFormat, "empty"},
		{"text", []byte("Dear sir,\nhere is the photo.\n"), DefaultLimits(), ErrFormat, "it is text"},
		{"binary", []byte{0, 1, 2, 3, 4}, DefaultLimits(), ErrFormat, "00 01 02 03"},
		{"gif", []byte("GIF89a........"), DefaultLimits(), ErrFormat, "GIF"},
		{"webp", []byte("RIFF\x00\x00\x00\x00WEBPVP8 "), DefaultLimits(), ErrFormat, "WebP"},
		{"tiff", []byte("II*\x00\x08\x00\x00\x00"), DefaultLimits(), ErrFormat, "TIFF"},
		{"bmp", []byte("BM\x36\x00\x00\x00\x00\x00"), DefaultLimits(), ErrFormat, "BMP"},
		{"heic", []byte("\x00\x00\x00\x18ftypheic\x00\x00"), DefaultLimits(), ErrFormat, "heic"},
		{"jpeg header only", jpg[:20], DefaultLimits(), ErrDamaged, "cut off"},
		{"jpeg cut in half", jpg[:len(jpg)/2], DefaultLimits(), ErrDamaged, "cut off"},
		{"jpeg cut by 40 bytes", jpg[:len(jpg)-40], DefaultLimits(), ErrDamaged, "cut off"},
		{"progressive without its end", progressive[:len(progressive)-2], DefaultLimits(), ErrDamaged, "cut off"},
		{"jpeg of noise", append([]byte("\xff\xd8\xff\xe0"), bytes.Repeat([]byte{7, 9}, 400)...), DefaultLimits(), ErrDamaged, "jpeg"},
		{"png cut in half", whole[:len(whole)/2], DefaultLimits(), ErrDamaged, "cut off"},
		{"png spoilt", spoil(whole, len(whole)/2), DefaultLimits(), ErrDamaged, "png"},
		{"png bomb", bomb(40000, 40000, 8, 2), DefaultLimits(), ErrTooLarge, "40000x40000"},
		{"png of one long row", bomb(90_000_000, 1, 8, 0), DefaultLimits(), ErrTooLarge, "90000000x1"},
		{"memory of png", whole, Limits{Bytes: 1 << 20, Pixels: 1e6, Memory: 4*64*48 - 1}, ErrTooLarge, "MiB"},
		{"png of few bytes", bomb(9000, 9000, 8, 0), DefaultLimits(), ErrDamaged, "cannot be in"},
		{"jpeg bomb", resizedJPEG(jpg, 65500, 65500), DefaultLimits(), ErrTooLarge, "65500x65500"},
		{"jpeg of few bytes", resizedJPEG(jpg, 9000, 9000), DefaultLimits(), ErrDamaged, "cannot be in"},
		{"memory of progressive", resizedJPEG(progressive, 700, 700), Limits{Bytes: 1 << 20, Pixels: 1e6, Memory: 2 << 20}, ErrTooLarge, "takes 2 MiB"},
		{"many scans", append(bytes.Clone(progressive[:len(progressive)-2]), bytes.Repeat([]byte("\xff\xda\x00\x08\x01\x01\x00\x00\x00\x10\x00\x00\x00\x00\x00"), 300)...), DefaultLimits(), ErrDamaged, "scans"},
		{"bytes", jpg, Limits{Bytes: 1000, Pixels: 1e6, Memory: 1 << 20}, ErrTooLarge, "1000 bytes"},
	} {
		t.Run(strings.ReplaceAll(k.name, " ", "_"), func(t *testing.T) {
			before := allocated()
			img, err := Decode(bytes.NewReader(k.data), k.limits)
			taken := allocated() - before
			if img != nil || err == nil || !errors.Is(err, k.is) || !strings.Contains(err.Error(), k.want) {
				t.Errorf("%T, %v; want %v with %q", img, err, k.is, k.want)
			}
			// The decoders' own buffers are about 50 kB.
			if limit := uint64(8*len(k.data) + 256<<10); taken > limit {
				t.Errorf("allocated %d bytes, limit %d", taken, limit)
			}
		})
	}
}

func TestDecodePassesOnReadErrors(t *testing.T) {
	broken := errors.New("line is dead")
	for _, r := range []io.Reader{
		iotest.ErrReader(broken),
		io.MultiReader(strings.NewReader("\xff\xd8\xff"+strings.Repeat(" ", 600)), iotest.ErrReader(broken)),
	} {
		if _, err := Decode(r, DefaultLimits()); !errors.Is(err, broken) {
			t.Error(err)
		}
	}
}

// A whole photo that lacks only its end marker is common and harmless.
func TestDecodeWithoutEndMarker(t *testing.T) {
	jpg, err := os.ReadFile("testdata/jpeg/420_77x61.jpg")
	if err != nil {
		t.Fatal(err)
	}
	a, err := Decode(bytes.NewReader(jpg), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	b, err := Decode(bytes.NewReader(jpg[:len(jpg)-2]), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(opaque(a).Pix, opaque(b).Pix) {
		t.Error("differs")
	}
}

func TestMemoryIsEstimatedForRealFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/jpeg/*_??x??.jpg")
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		h, err := jpegHeader(data)
		if err != nil {
			t.Fatal(path, err)
		}
		before := allocated()
		if _, err := ours.Decode(data); err != nil {
			t.Fatal(path, err)
		}
		if taken := int64(allocated() - before); taken > h.memory+64<<10 {
			t.Errorf("%s: took %d bytes, %d expected", path, taken, h.memory)
		}
		if int64(len(data)) < h.least {
			t.Errorf("%s: %d bytes are declared too few, %d", path, len(data), h.least)
		}
	}
	// One colour is what compresses best; it must not count as cut off.
	var buf bytes.Buffer
	flat := image.NewGray(image.Rect(0, 0, 2000, 2000))
	for _, encode := range []func() error{
		func() error { return jpeg.Encode(&buf, flat, &jpeg.Options{Quality: 1}) },
		func() error { return (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&buf, flat) },
	} {
		buf.Reset()
		if err := encode(); err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(&buf, DefaultLimits()); err != nil {
			t.Errorf("one colour: %v", err)
		}
	}
}

func TestOrientation(t *testing.T) {
	if o := orientation(exif(8)); o != 8 {
		t.Error(o)
	}
	little := []byte("II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00")
	if o := orientation(little); o != 3 {
		t.Error(o)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "short": exif(8)[:7], "no directory": exif(8)[:9], "no entry": exif(8)[:15], "nine": exif(9), "zero": exif(0),
		"other order": append([]byte("MI"), exif(6)[2:]...), "far directory": []byte("MM\x00*\xff\xff\xff\xff\x00\x01"),
	} {
		if o := orientation(b); o != 1 {
			t.Errorf("%s: %d", name, o)
		}
	}
}

func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob("testdata/jpeg/*_?x?.*")
	for _, path := range files {
		if data, err := os.ReadFile(path); err == nil {
			f.Add(data)
		}
	}
	for _, name := range []string{"progressive_50x37", "cmyk_40x30", "turned6_35x22", "410_48x32"} {
		if data, err := os.ReadFile("testdata/jpeg/" + name + ".jpg"); err == nil {
			f.Add(data)
		}
	}
	f.Add(bomb(40000, 40000, 8, 2))
	f.Add(append(bomb(3, 2, 16, 6), chunk("eXIf", exif(6))...))
	limits := Limits{Bytes: 1 << 16, Pixels: 1 << 16, Memory: 1 << 20}
	c := DefaultConfig()
	c.ShortSide, c.LongSide = 16, 32
	s := NewScratch(2)
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := Decode(bytes.NewReader(data), limits)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTooLarge) {
				t.Errorf("unclassified: %v", err)
			}
			return
		}
		size := img.Bounds().Size()
		view, shape := c.Plan(size.X, size.Y)
		if err := c.Write(make([]float32, shape.Len()), shape[2], shape[3], img, view, s); err != nil {
			t.Error(err)
		}
	})
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func spoil(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 0x55
	return data
}

func chunk(kind string, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = append(append(b, kind...), body...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

// bomb is a PNG that claims a size and holds nothing.
func bomb(w, h uint32, depth, colour byte) []byte {
	ihdr := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, w), h)
	ihdr = append(ihdr, depth, colour, 0, 0, 0)
	return bytes.Join([][]byte{[]byte("\x89PNG\r\n\x1a\n"), chunk("IHDR", ihdr), chunk("IDAT", []byte{0x78, 0x9c}), chunk("IEND", nil)}, nil)
}

// resizedJPEG changes the size that a JPEG's frame header claims.
func resizedJPEG(data []byte, w, h uint16) []byte {
	data = bytes.Clone(data)
	at := max(bytes.Index(data, []byte{0xff, 0xc0}), bytes.Index(data, []byte{0xff, 0xc2}))
	binary.BigEndian.PutUint16(data[at+5:], h)
	binary.BigEndian.PutUint16(data[at+7:], w)
	return data
}

func exif(orientation byte) []byte {
	return []byte{'M', 'M', 0, '*', 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0}
}
