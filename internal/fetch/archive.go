package fetch

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// member returns a file that lies in an archive, which is downloaded and read
// unless the member is in the folder already.
func (c Config) member(ctx context.Context, f File) (Got, error) {
	name := path.Base(f.Member)
	to := filepath.Join(c.Dir, name)
	if _, err := os.Stat(to); err == nil {
		got, err := c.verifyAs(ctx, to, name, f.URL, f.MemberChecks)
		if err != nil {
			return Got{}, fmt.Errorf("%w; it was there already: remove %s to unpack it again", err, to)
		}
		return got, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Got{}, err
	}
	archive := f
	archive.Member = ""
	whole, err := c.get(ctx, archive)
	var failed *downloadError
	if errors.As(err, &failed) {
		failed.member = to
	}
	if err != nil {
		return Got{}, err
	}
	part := to + ".part"
	defer os.Remove(part)
	if err := c.unpack(ctx, whole.Path, f.Member, part); err != nil {
		return Got{}, fmt.Errorf("%s: %w", whole.Path, err)
	}
	got, err := c.verifyAs(ctx, part, name, f.URL, f.MemberChecks)
	if err != nil {
		return Got{}, err
	}
	got.Path, got.Downloaded = to, whole.Downloaded
	if got.Verified == "" {
		got.Verified = whole.Verified
	}
	return got, os.Rename(part, to)
}

// unpack writes one member of a .tgz.
func (c Config) unpack(ctx context.Context, archive, member, to string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(reading{ctx, f})
	if err != nil {
		return err
	}
	// What is passed over is bounded too: an archive may unpack to anything.
	packed := &io.LimitedReader{R: z, N: 4 * c.Limit}
	for t := tar.NewReader(packed); ; {
		h, err := t.Next()
		if err == io.EOF {
			return fmt.Errorf("it has no %s", member)
		}
		if err != nil {
			return err
		}
		if path.Clean(h.Name) != member || h.Typeflag != tar.TypeReg {
			continue
		}
		if h.Size > c.Limit {
			return fmt.Errorf("%s: %w: %d bytes, %d are allowed", member, ErrTooLarge, h.Size, c.Limit)
		}
		out, err := os.Create(to)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, t)
		return errors.Join(err, out.Sync(), out.Close())
	}
}
