package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// dataLimits are those of archives with data sets, which have an annotation
// for every picture.
func (c Config) dataLimits() Limits {
	l := c.Archive
	l.Entries *= 2
	return l
}

// extract writes an archive's files below a folder, which it makes. Names were
// checked when the archive was read, and [os.Root] sees to it that no file
// lies elsewhere: links, which could lead there, are in no archive that is
// read.
func (a *archive) extract(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return diskOr(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return diskOr(err)
	}
	defer root.Close()
	return a.each(ctx, func(name string, r io.Reader) error {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return nameFault(name, err)
		}
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return nameFault(name, err)
		}
		from := &reading{r: r}
		n, err := io.Copy(f, from)
		if closed := f.Close(); err == nil {
			err = closed
		}
		switch {
		case from.err != nil:
			return damaged(name, from.err)
		case err != nil:
			return diskOr(err)
		case n > a.limits.EntryBytes:
			return faultf(TooLarge, "the archive's entry %q has more than %d bytes", name, a.limits.EntryBytes)
		}
		return nil
	})
}

// nameFault is why a file could not be made by its name in the archive: two
// entries of which one is the other's folder, or a name that is too long.
func nameFault(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return faultf(BadInput, "the archive has %q as a file and as a folder", name)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return faultf(BadInput, "the archive's entry %q has too long a name", name)
	}
	return diskOr(fmt.Errorf("%s: %w", name, err))
}

// reading tells faults of an archive from those of the disk.
type reading struct {
	r   io.Reader
	err error
}

func (r *reading) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
