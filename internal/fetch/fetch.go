package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// File is a published file.
type File struct {
	// Name is the file's in the folder: one element of a path.
	Name string
	// URL is the publisher's address.
	URL string
	// Checks are what the publisher says of the file; all must hold.
	Checks []Check
	// Member, if not "", is the path of what is wanted in the archive (.tgz) that
	// the file is, and MemberChecks are of that.
	Member       string
	MemberChecks []Check
}

// Check is a checksum, or its first digits.
type Check struct {
	Algorithm string // "sha256", "sha1" or "md5"
	Hex       string // lower case; a prefix of the whole is enough
	Read      string // where it was read
}

// Config says where files go and what a download may do. Start from
// [DefaultConfig].
type Config struct {
	// Dir is the folder; it is made if it is missing.
	Dir string
	// Limit is the most bytes a file may have; the largest published detectors
	// have under 1 GB.
	Limit int64
	// Redirects is how many are followed.
	Redirects int
	// Attempts is how many times in a row a download may get no further before
	// it is given up; Wait is the pause before the second, doubled each time.
	Attempts int
	Wait     time.Duration
	// Stall is how long a server may be silent.
	Stall time.Duration
	// Loopback allows plain HTTP to this machine, for tests.
	Loopback bool
	// Progress, if not nil, is called with the bytes so far and in all (−1:
	// unknown), from the goroutine that called Get.
	Progress func(done, total int64)
}

// DefaultConfig is for files of models: at most 4 GiB, ten redirects (as Go's
// and curl's usual limits), five attempts.
func DefaultConfig(dir string) Config {
	return Config{Dir: dir, Limit: 4 << 30, Redirects: 10, Attempts: 5, Wait: time.Second, Stall: time.Minute}
}

// CacheDir returns the folder for downloads: RESDET_CACHE, or "resdet" in the
// user's cache folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("RESDET_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("fetch: %w (RESDET_CACHE names a folder for downloads)", err)
	}
	return filepath.Join(dir, "resdet"), nil
}

// Got is a file that is there and verified.
type Got struct {
	Path   string
	SHA256 string
	Bytes  int64
	// Verified says by what: "sha256 258fb6c6…", or "" if nothing is published;
	// then the file is the one that was pinned at its first download.
	Verified string
	// Downloaded is false if the file was there.
	Downloaded bool
}

// Get returns the file, which it downloads unless it is in the folder. When
// ctx ends, what has arrived stays, and the next Get goes on from there.
func (c Config) Get(ctx context.Context, f File) (Got, error) {
	got, err := c.get(ctx, f)
	if err != nil {
		return Got{}, fmt.Errorf("fetch: %s: %w", f.Name, err)
	}
	return got, nil
}

func (c Config) get(ctx context.Context, f File) (Got, error) {
	if filepath.Base(f.Name) != f.Name || f.Name == "." || f.Name == ".." {
		return Got{}, fmt.Errorf("%q is no file name", f.Name)
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return Got{}, fmt.Errorf("%w (RESDET_CACHE names another folder for downloads)", err)
	}
	if f.Member != "" {
		return c.member(ctx, f)
	}
	path := filepath.Join(c.Dir, f.Name)
	_, err := os.Stat(path)
	switch {
	case err == nil:
		got, err := c.verify(ctx, path, f)
		if err != nil {
			return Got{}, fmt.Errorf("%w; it was there already: remove %s to download it again", err, path)
		}
		return got, nil
	case !errors.Is(err, fs.ErrNotExist):
		return Got{}, err
	}
	part := path + ".part"
	if err := c.download(ctx, f.URL, part); err != nil {
		return Got{}, &downloadError{error: err, url: f.URL, path: path}
	}
	got, err := c.verify(ctx, part, f)
	if err != nil {
		if ctx.Err() == nil { // it would be no better the next time
			forget(part)
		}
		return Got{}, err
	}
	if err := os.Rename(part, path); err != nil {
		return Got{}, err
	}
	forget(part)
	got.Path, got.Downloaded = path, true
	return got, nil
}

// downloadError adds what a user without a network can do.
type downloadError struct {
	error
	url, path string
	member    string // where the only file that is wanted of the archive may be put instead
}

func (e *downloadError) Unwrap() error { return e.error }

// Hint says what can be done about it.
func (e *downloadError) Hint() string {
	if errors.Is(e.error, context.Canceled) {
		return "the same command goes on from where it was"
	}
	where := e.path
	if e.member != "" {
		where += ", or what is wanted of it at " + e.member
	}
	return fmt.Sprintf("fetch %s by hand and put it at %s: the same command then finds it there and verifies it", e.url, where)
}
