package jobs

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// smallLimits are quick to break.
func smallLimits() Limits {
	return Limits{Entries: 50, EntryBytes: 4 << 20, TotalBytes: 8 << 20, Ratio: 100}
}

// unpack reads all pictures of an archive.
func unpack(t testing.TB, data []byte, l Limits) (names []string, err error) {
	t.Helper()
	f, err := recognise(data[:min(len(data), headBytes)])
	if err != nil {
		return nil, err
	}
	a, err := readArchive(t.Context(), bytes.NewReader(data), int64(len(data)), f, l, isPicture)
	if err != nil {
		return nil, err
	}
	err = a.each(t.Context(), func(name string, r io.Reader) error {
		n, err := io.Copy(io.Discard, r)
		if n > l.EntryBytes+1 {
			t.Errorf("%s gave %d bytes", name, n)
		}
		names = append(names, name)
		return err
	})
	return names, err
}

// zipWith builds a zip whose headers edit may change.
func zipWith(t testing.TB, edit func(*zip.FileHeader), members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.name, Method: zip.Deflate}
		edit(h)
		f, err := w.CreateHeader(h)
		if err == nil {
			_, err = f.Write(m.data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes()
}

// tarWith is a tar of one entry with that header.
func tarWith(t testing.TB, h tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if h.Size > 0 {
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes()
}

// patched replaces the first old with new, of the same length, from the given
// place on.
func patched(data []byte, old, new string) []byte {
	return bytes.ReplaceAll(data, []byte(old), []byte(new))
}

// overlapping is a zip whose directory names the same compressed bytes many
// times: a few kilobytes that unpack to gigabytes.
func overlapping(t testing.TB, copies, size int) []byte {
	t.Helper()
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, flate.BestCompression)
	w.Write(make([]byte, size))
	w.Close()
	var b bytes.Buffer
	b.WriteString("PK\x03\x04" + string(make([]byte, 26)) + "")
	b.Write(packed.Bytes())
	start := b.Len()
	for i := range copies {
		name := fmt.Sprintf("%05d.jpg", i)
		h := make([]byte, 46)
		copy(h, "PK\x01\x02")
		binary.LittleEndian.PutUint16(h[10:], zip.Deflate)
		binary.LittleEndian.PutUint32(h[20:], uint32(packed.Len()))
		binary.LittleEndian.PutUint32(h[24:], uint32(size))
		binary.LittleEndian.PutUint16(h[28:], uint16(len(name)))
		b.Write(h)
		b.WriteString(name)
	}
	end := make([]byte, 22)
	copy(end, "PK\x05\x06")
	binary.LittleEndian.PutUint16(end[8:], uint16(copies))
	binary.LittleEndian.PutUint16(end[10:], uint16(copies))
	binary.LittleEndian.PutUint32(end[12:], uint32(b.Len()-start))
	binary.LittleEndian.PutUint32(end[16:], uint32(start))
	b.Write(end)
	return b.Bytes()
}

// TestHostileArchives: each is refused with a reason, before or while it is
// read, and takes next to no memory.
func TestHostileArchives(t *testing.T) {
	small := member{"a.jpg", shade(t, 9)}
	keep := func(*zip.FileHeader) {}
	many := make([]member, 51)
	for i := range many {
		many[i] = member{fmt.Sprint(i, ".jpg"), []byte("x")}
	}
	zeros := member{"zeros.jpg", make([]byte, 3<<20)}
	for _, c := range []struct {
		name string
		data []byte
		want Code
		text string
	}{
		{"zip: traversal", zipOf(t, member{"../../etc/a.jpg", nil}), BadInput, "leads out"},
		{"zip: traversal inside", zipOf(t, member{"x/../../a.jpg", nil}), BadInput, "leads out"},
		{"zip: traversal of Windows", zipOf(t, member{`..\..\a.jpg`, nil}), BadInput, "leads out"},
		{"zip: absolute", zipOf(t, member{"/etc/a.jpg", nil}), BadInput, "not within"},
		{"zip: drive", zipOf(t, member{`C:\a.jpg`, nil}), BadInput, "not within"},
		{"zip: control characters", zipOf(t, member{"a\x00b.jpg", nil}), BadInput, "control"},
		{"zip: long name", zipOf(t, member{strings.Repeat("a", 600) + ".jpg", nil}), BadInput, "600"[:1]},
		{"zip: no name", zipOf(t, member{"", []byte("x")}), BadInput, "no name"},
		{"zip: doubled", zipOf(t, small, small), BadInput, "two entries"},
		{"zip: doubled otherwise spelt", zipOf(t, small, member{"./a.jpg", nil}), BadInput, "two entries"},
		{"zip: link", zipWith(t, func(h *zip.FileHeader) { h.SetMode(fs.ModeSymlink | 0o777) }, small), BadInput, "no file"},
		{"zip: device", zipWith(t, func(h *zip.FileHeader) { h.SetMode(fs.ModeDevice | 0o666) }, small), BadInput, "no file"},
		{"zip: encrypted", zipWith(t, func(h *zip.FileHeader) { h.Flags |= 1 }, small), BadInput, "encrypted"},
		{"zip: method", patched(zipWith(t, keep, small), "\x08\x00\x08\x00", "\x08\x00\x0c\x00"), BadInput, "method"},
		{"zip: many entries", zipOf(t, many...), TooLarge, "50"},
		{"zip: very many entries", overlapping(t, 60000, 10), TooLarge, "50"},
		{"zip: bomb", zipWith(t, keep, zeros), BadInput, "100 times"},
		{"zip: shared bytes", overlapping(t, 40, 200_000), BadInput, "100 times"},
		{"zip: large entry", zipWith(t, func(h *zip.FileHeader) { h.Method = zip.Store }, member{"a.jpg", make([]byte, 5<<20)}), TooLarge, "more than"},
		{"zip: large", zipWith(t, func(h *zip.FileHeader) { h.Method = zip.Store }, zeros, member{"b.jpg", zeros.data}, member{"c.jpg", zeros.data}), TooLarge, "holds"},
		{"zip: no pictures", zipOf(t, member{"a.txt", nil}), BadInput, "no picture"},
		{"zip: nested", zipOf(t, member{"inner.zip", zipOf(t, small)}), BadInput, "no picture"},
		{"zip: empty", zipOf(t), BadInput, "no picture"},
		{"zip: cut", zipOf(t, small)[:60], BadInput, "damaged"},
		{"zip: cut directory", zipOf(t, small)[:len(zipOf(t, small))-30], BadInput, "damaged"},

		{"tar: traversal", tarOf(t, member{"../a.jpg", nil}), BadInput, "leads out"},
		{"tar: absolute", tarOf(t, member{"/a.jpg", nil}), BadInput, "not within"},
		{"tar: doubled", tarOf(t, small, small), BadInput, "two entries"},
		{"tar: link", tarWith(t, tar.Header{Name: "a.jpg", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}), BadInput, "no file"},
		{"tar: hard link", tarWith(t, tar.Header{Name: "a.jpg", Linkname: "b.jpg", Typeflag: tar.TypeLink}), BadInput, "no file"},
		{"tar: device", tarWith(t, tar.Header{Name: "a.jpg", Typeflag: tar.TypeChar}), BadInput, "no file"},
		{"tar: pipe", tarWith(t, tar.Header{Name: "a.jpg", Typeflag: tar.TypeFifo}), BadInput, "no file"},
		{"tar: many entries", tarOf(t, many...), TooLarge, "50"},
		{"tar: large entry", tarOf(t, member{"a.jpg", make([]byte, 5<<20)}), TooLarge, "more than"},
		{"tar: cut", tarOf(t, small)[:600], BadInput, "damaged"},
		{"tar: nested", tarOf(t, member{"inner.tar", tarOf(t, small)}), BadInput, "no picture"},
		{"tar.gz: bomb", gzipOf(tarOf(t, zeros)), BadInput, "100 times"},
		{"tar.gz: bomb behind", gzipOf(append(tarOf(t, small)[:1024], tarOf(t, zeros)...)), BadInput, "100 times"},
		{"tar.gz: cut", gzipOf(tarOf(t, shades(t, 9)...))[:400], BadInput, "damaged"},
		{"gzip: no tar", gzipOf(bytes.Repeat([]byte("text "), 1000)), Unsupported, "not a tar"},
		{"gzip: zeros", gzipOf(make([]byte, 100<<20)), Unsupported, "not a tar"},
		{"gzip: nested", gzipOf(gzipOf(tarOf(t, small))), Unsupported, "not a tar"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			names, err := unpack(t, c.data, smallLimits())
			runtime.ReadMemStats(&after)
			if code(err) != c.want || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, %v (%s)", names, err, code(err))
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
				t.Errorf("it took %d MiB", took>>20)
			}
		})
	}
}

// A zip entry that is not what its directory says fails, or gives no more than
// was said.
func TestLyingZip(t *testing.T) {
	honest := zipWith(t, func(*zip.FileHeader) {}, member{"a.jpg", bytes.Repeat([]byte("0123456789"), 100)}, member{"b.jpg", []byte("b")})
	size := []byte{0xe8, 3, 0, 0} // 1000
	at := bytes.LastIndex(honest, size)
	lying := bytes.Clone(honest)
	copy(lying[at:], []byte{10, 0, 0, 0})
	if _, err := unpack(t, honest, smallLimits()); err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(t, lying, smallLimits()); err == nil {
		t.Error("an entry was longer than said, and nobody noticed")
	}
}

func TestArchiveIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	cancel(why)
	data := tarOf(t, shades(t, 3)...)
	if _, err := readArchive(ctx, bytes.NewReader(data), int64(len(data)), formatTar, smallLimits(), isPicture); !errors.Is(err, why) {
		t.Errorf("opening: %v", err)
	}
	data = zipOf(t, shades(t, 3)...)
	a, err := readArchive(ctx, bytes.NewReader(data), int64(len(data)), formatZip, smallLimits(), isPicture)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.each(ctx, func(string, io.Reader) error { return nil }); !errors.Is(err, why) {
		t.Errorf("reading: %v", err)
	}
}

func TestNames(t *testing.T) {
	for _, c := range [][2]string{
		{"a.jpg", "a.jpg"}, {`C:\x\a b.jpg`, "a b.jpg"}, {"/etc/passwd", "passwd"}, {"../..", "unnamed"}, {"", "unnamed"}, {" ", "unnamed"},
		{"a\r\nSet-Cookie: x", "aSet-Cookie: x"}, {"\u202egpj.exe", "gpj.exe"}, {"ünï.mp4", "ünï.mp4"}, {"\xff.mp4", "\ufffd.mp4"},
	} {
		if got := cleanName(c[0]); got != c[1] {
			t.Errorf("%q becomes %q, want %q", c[0], got, c[1])
		}
	}
	if n := len(cleanName(strings.Repeat("ü", 1000))); n != maxName {
		t.Errorf("a long name has %d bytes", n)
	}
}

// FuzzArchive: no input makes the reader panic, give a name that leads
// elsewhere, or more bytes than allowed.
func FuzzArchive(f *testing.F) {
	small := member{"sub/a.jpg", shade(f, 9)}
	f.Add(zipOf(f, small, member{"b.png", []byte("x")}))
	f.Add(zipWith(f, func(h *zip.FileHeader) { h.Flags |= 1 }, small))
	f.Add(tarOf(f, small, member{"c.txt", []byte("x")}))
	f.Add(gzipOf(tarOf(f, small)))
	f.Add(overlapping(f, 3, 1000))
	f.Add([]byte("PK\x05\x06" + string(make([]byte, 18))))
	limits := Limits{Entries: 10, EntryBytes: 1 << 16, TotalBytes: 1 << 18, Ratio: 100}
	f.Fuzz(func(t *testing.T, data []byte) {
		format, err := recognise(data[:min(len(data), headBytes)])
		if err != nil || format == formatVideo {
			return
		}
		a, err := readArchive(context.Background(), bytes.NewReader(data), int64(len(data)), format, limits, isPicture)
		if err != nil {
			if code(err) == "" || code(err) == Internal {
				t.Fatalf("an error that is not the input's: %v", err)
			}
			return
		}
		seen := map[string]bool{}
		total := int64(0)
		a.each(context.Background(), func(name string, r io.Reader) error {
			if seen[name] || !fs.ValidPath(name) || len(name) > maxName || !isPicture(name) {
				t.Fatalf("a picture is called %q", name)
			}
			seen[name] = true
			n, err := io.Copy(io.Discard, r)
			if total += n; n > limits.EntryBytes+1 || total > limits.TotalBytes+1 {
				t.Fatalf("%q gave %d bytes, %d in all", name, n, total)
			}
			return err
		})
		if len(seen) > limits.Entries {
			t.Fatalf("%d entries", len(seen))
		}
	})
}

// FuzzRecord: whatever stands in a record of the database, the queue opens.
func FuzzRecord(f *testing.F) {
	f.Add(`{"id":"0123456789abcdef01234567","order":3,"kind":"video","state":"running","spec":{"name":"x","model":"m","settings":{"score":0.5}},"created":"2026-01-02T03:04:05Z","attempts":2}`)
	f.Add(`{"id":"0123456789abcdef01234567","state":"done","annotated":"../../x"}`)
	f.Add(`{"id":"../../../etc/passwd","state":"queued"}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		c := testConfig(t)
		s, err := openStore(c.Dir)
		if err == nil {
			err = s.raw("0123456789abcdef01234567", text)
			s.close()
		}
		if err == nil {
			err = os.Mkdir(filepath.Join(c.Dir, "jobs"), 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		q, err := Open(c, &fake{})
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		for _, j := range q.List() {
			if f, _, err := q.AnnotatedFile(j.ID); err == nil && filepath.Dir(f.Name()) != q.dir(j.ID) {
				t.Fatalf("it opened %s", f.Name())
			}
		}
	})
}
