package jobs

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// Limits bound what an archive from outside may cost.
type Limits struct {
	// Entries is how many there may be, folders and other files included.
	Entries int
	// EntryBytes is the most of one file, TotalBytes of all entries together,
	// unpacked.
	EntryBytes, TotalBytes int64
	// Ratio is how many times larger than packed an entry or a whole archive may
	// get: pictures are compressed already.
	Ratio int64
}

// DefaultLimits allows ten thousand photos.
func DefaultLimits() Limits {
	return Limits{Entries: 10000, EntryBytes: 64 << 20, TotalBytes: 8 << 30, Ratio: 100}
}

func (l Limits) validate() error {
	if l.Entries < 1 || l.EntryBytes < 1 || l.TotalBytes < 1 || l.Ratio < 1 {
		return fmt.Errorf("jobs: limits of archives must be positive: %+v", l)
	}
	return nil
}

// slack is what may be unpacked from next to nothing without being suspicious.
const slack = 1 << 20

// inflated holds unpacked bytes against the packed ones.
func (l Limits) inflated(plain, packed int64) bool { return plain > slack && plain/l.Ratio > packed }

// archive is a checked archive. Of pictures nothing is ever written to a file
// under a name that it says; of data sets see [archive.extract].
type archive struct {
	from   io.ReaderAt
	size   int64
	format format
	limits Limits
	files  []string // names of those to be read, in their order
	bytes  int64    // of all entries, as they claim
	zipped []*zip.File
}

// openArchive reads a file as [readArchive] does. The caller closes the file.
func openArchive(ctx context.Context, name string, f format, l Limits, wanted func(name string) bool) (*archive, *os.File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, faultf(Internal, "jobs: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, nil, faultf(Internal, "jobs: %w", err)
	}
	a, err := readArchive(ctx, file, info.Size(), f, l, wanted)
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return a, file, nil
}

// readArchive reads a whole archive, apart from the content of zip entries, and
// refuses what no honest program makes: links, names that lead elsewhere,
// encrypted or doubled entries, and more than the limits allow. Of its files
// only those with wanted names are ever read.
func readArchive(ctx context.Context, from io.ReaderAt, size int64, f format, l Limits, wanted func(name string) bool) (*archive, error) {
	a := &archive{from: from, size: size, format: f, limits: l}
	c := check{archive: a, wanted: wanted, seen: map[string]bool{}}
	var err error
	if f == formatZip {
		err = c.zip()
	} else {
		err = a.walk(ctx, c.tar)
	}
	if err == nil && l.inflated(a.bytes, a.size) { // also by entries that share their bytes, and holes
		err = faultf(BadInput, "the archive unpacks to more than %d times its size", l.Ratio)
	}
	if err == nil && !slices.ContainsFunc(a.files, isPicture) {
		err = faultf(BadInput, "there is no picture (.jpg, .jpeg, .png) in the archive")
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// each calls do with every file in order, with a reader of its bytes that is
// good until do returns.
func (a *archive) each(ctx context.Context, do func(name string, r io.Reader) error) error {
	if a.format == formatZip {
		return a.eachZipped(ctx, do)
	}
	index := 0
	return a.walk(ctx, func(h *tar.Header, r io.Reader) error {
		name, err := entryName(h.Name)
		if err != nil || index == len(a.files) || name != a.files[index] || h.Typeflag != tar.TypeReg {
			return err
		}
		index++
		return do(name, r)
	})
}

func (a *archive) eachZipped(ctx context.Context, do func(name string, r io.Reader) error) error {
	left := a.limits.TotalBytes
	for i, f := range a.zipped {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		r, err := f.Open()
		if err != nil {
			return damaged(a.files[i], err)
		}
		limited := &io.LimitedReader{R: r, N: min(a.limits.EntryBytes, left) + 1}
		before := limited.N
		err = do(a.files[i], limited)
		r.Close()
		left -= before - limited.N
		switch {
		case err != nil:
			return err
		case left < 0:
			return faultf(TooLarge, "the archive holds more than %d bytes", a.limits.TotalBytes)
		}
	}
	return nil
}

func damaged(name string, err error) error {
	return faultf(BadInput, "the archive is damaged at %q: %w", name, err)
}

// walk calls do with every entry of a tar.
func (a *archive) walk(ctx context.Context, do func(*tar.Header, io.Reader) error) error {
	packed := bufio.NewReaderSize(io.NewSectionReader(a.from, 0, a.size), 1<<17)
	m := &measured{ctx: ctx, r: packed, most: a.limits.TotalBytes + slack, size: a.size, limits: a.limits}
	if a.format == formatGzip {
		z, err := gzip.NewReader(packed)
		if err != nil {
			return faultf(BadInput, "the archive is damaged: %w", err)
		}
		m.r = z
	}
	t := tar.NewReader(m)
	for n := 0; ; n++ {
		h, err := t.Next()
		switch {
		case err != nil && n == 0 && a.format == formatGzip && m.err == nil:
			return faultf(Unsupported, "what is compressed in it is not a tar archive: %w", err)
		case err == io.EOF:
			return nil
		case err != nil:
			return m.fault(fmt.Sprintf("entry %d", n+1), err)
		case n == a.limits.Entries:
			return faultf(TooLarge, "the archive has more than %d entries", a.limits.Entries)
		}
		if err := do(h, t); err != nil {
			if m.err != nil {
				return m.err
			}
			return err
		}
	}
}

// measured bounds what comes out of a decompressor, and ends with ctx.
type measured struct {
	ctx    context.Context
	r      io.Reader
	read   int64
	most   int64
	size   int64 // of the packed archive
	limits Limits
	err    error // why reading was ended here
}

func (m *measured) Read(b []byte) (int, error) {
	switch {
	case m.err != nil:
		return 0, m.err
	case m.ctx.Err() != nil:
		m.err = context.Cause(m.ctx)
	case m.read > m.most:
		m.err = faultf(TooLarge, "the archive holds more than %d bytes", m.limits.TotalBytes)
	case m.limits.inflated(m.read, m.size):
		m.err = faultf(BadInput, "the archive unpacks to more than %d times its size", m.limits.Ratio)
	default:
		n, err := m.r.Read(b)
		m.read += int64(n)
		return n, err
	}
	return 0, m.err
}

// fault is what reading an entry failed of.
func (m *measured) fault(name string, err error) error {
	if m.err != nil {
		return m.err
	}
	return damaged(name, err)
}

// check collects an archive's wanted files and refuses what is wrong with it.
type check struct {
	*archive
	wanted func(name string) bool
	seen   map[string]bool
}

// entry takes one entry with its mode, its plain size as claimed and, if it is
// known, its packed one.
func (c *check) entry(name string, mode fs.FileMode, plain, packed int64) (wanted bool, err error) {
	if name, err = entryName(name); err != nil {
		return false, err
	}
	if mode.IsDir() {
		return false, nil
	}
	switch c.bytes += max(0, plain); {
	case !mode.IsRegular():
		return false, faultf(BadInput, "the archive's entry %q is no file (a link, a device)", name)
	case c.seen[name]:
		return false, faultf(BadInput, "the archive has two entries %q", name)
	case plain < 0 || c.bytes > c.limits.TotalBytes:
		return false, faultf(TooLarge, "the archive holds more than %d bytes", c.limits.TotalBytes)
	case packed >= 0 && c.limits.inflated(plain, packed):
		return false, faultf(BadInput, "the archive's entry %q unpacks to more than %d times its size", name, c.limits.Ratio)
	}
	c.seen[name] = true
	if !c.wanted(name) {
		return false, nil
	}
	if plain > c.limits.EntryBytes {
		return false, faultf(TooLarge, "the archive's entry %q has more than %d bytes", name, c.limits.EntryBytes)
	}
	c.files = append(c.files, name)
	return true, nil
}

func (c *check) tar(h *tar.Header, _ io.Reader) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader: // git's
		return nil
	case tar.TypeReg, tar.TypeDir:
		_, err := c.entry(h.Name, h.FileInfo().Mode(), h.Size, -1)
		return err
	}
	return faultf(BadInput, "the archive's entry %q is no file (a link, a device)", h.Name)
}

func (c *check) zip() error {
	// The directory is read until it ends, whatever count the file gives: what
	// may be read of it bounds the memory.
	r := &rationed{from: c.from, left: int64(c.limits.Entries)*maxDirectoryEntry + 1<<20}
	z, err := zip.NewReader(r, c.size)
	switch {
	case r.left < 0:
		return faultf(TooLarge, "the archive has more than %d entries", c.limits.Entries)
	case err != nil:
		return faultf(BadInput, "the zip archive is damaged: %w", err)
	case len(z.File) > c.limits.Entries:
		return faultf(TooLarge, "the archive has more than %d entries", c.limits.Entries)
	}
	r.free = true
	for _, f := range z.File {
		const encrypted = 1 // bit 0 of the flags
		if f.Flags&encrypted != 0 {
			return faultf(BadInput, "the archive's entry %q is encrypted", f.Name)
		}
		if f.UncompressedSize64 > 1<<62 || f.CompressedSize64 > uint64(c.size) {
			return faultf(BadInput, "the archive's entry %q claims impossible sizes", f.Name)
		}
		wanted, err := c.entry(f.Name, f.Mode(), int64(f.UncompressedSize64), int64(f.CompressedSize64))
		if err != nil {
			return err
		}
		if wanted && f.Method != zip.Store && f.Method != zip.Deflate {
			return faultf(BadInput, "the archive's entry %q is compressed by method %d: only stored and deflated ones can be read", f.Name, f.Method)
		}
		if wanted {
			c.zipped = append(c.zipped, f)
		}
	}
	return nil
}

// maxDirectoryEntry is the usual size of a zip directory's entry several times.
const maxDirectoryEntry = 512

// rationed reads a file, at first only so many bytes of it.
type rationed struct {
	from io.ReaderAt
	left int64
	free bool
}

func (r *rationed) ReadAt(b []byte, at int64) (int, error) {
	if !r.free {
		if r.left -= int64(len(b)); r.left < 0 {
			return 0, errors.New("the directory is too long")
		}
	}
	return r.from.ReadAt(b, at)
}
