package coco

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resdet/internal/transform"
)

// tree writes files, with their folders, into a new folder.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		put(t, filepath.Join(dir, filepath.FromSlash(name)), text)
	}
	return dir
}

func put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// jpg is a photo; an orientation from 1 adds EXIF. The upper left pixel block
// is white, the rest grey.
func jpg(w, h, orientation int) string {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.RGBA{90, 90, 90, 255}
			if x < w/4 && y < h/4 {
				c = color.RGBA{255, 255, 255, 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		panic(err)
	}
	s := b.String()
	if orientation == 0 {
		return s
	}
	tiff := []byte("MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01")
	tiff = binary.BigEndian.AppendUint16(tiff, uint16(orientation))
	tiff = append(tiff, 0, 0, 0, 0, 0, 0)
	seg := append([]byte("Exif\x00\x00"), tiff...)
	return s[:2] + "\xff\xe1" + string(binary.BigEndian.AppendUint16(nil, uint16(len(seg)+2))) + string(seg) + s[2:]
}

func pngPhoto(w, h int) string {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, w, h))); err != nil {
		panic(err)
	}
	return b.String()
}

// xmlOf is VOC's XML of an image; an object is "name xmin ymin xmax ymax", and
// more as it is.
func xmlOf(filename string, w, h int, objects ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<annotation>\n<filename>%s</filename>\n<size><width>%d</width><height>%d</height><depth>3</depth></size>\n", filename, w, h)
	for _, o := range objects {
		if strings.HasPrefix(o, "<") {
			b.WriteString(o + "\n")
			continue
		}
		f := strings.Fields(o)
		fmt.Fprintf(&b, "<object><name>%s</name><difficult>0</difficult><bndbox><xmin>%s</xmin><ymin>%s</ymin><xmax>%s</xmax><ymax>%s</ymax></bndbox></object>\n", f[0], f[1], f[2], f[3], f[4])
	}
	b.WriteString("</annotation>\n")
	return b.String()
}

// brightness is the mean level inside a box of a photo, a pixel from its edge.
func brightness(t *testing.T, path string, b Box) float64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := transform.Decode(f, transform.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	sum, n := 0.0, 0.0
	for y := int(b.Y) + 1; y < int(b.Y1())-1; y++ {
		for x := int(b.X) + 1; x < int(b.X1())-1; x++ {
			r, _, _, _ := img.At(x, y).RGBA()
			sum += float64(r >> 8)
			n++
		}
	}
	return sum / n
}
