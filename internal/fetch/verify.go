package fetch

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"resdet/internal/replace"
)

// ChecksumError says that a file is not the published one.
type ChecksumError struct {
	Path, Algorithm string
	Got, Want       string // hexadecimal; Want may be the first digits only
	Read            string // where Want was read
}

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%s has the %s %s, not %s (%s)", e.Path, e.Algorithm, e.Got, e.Want, e.Read)
}

// verify holds a file against its checks and against what was pinned, and
// pins it if nothing was.
func (c Config) verify(ctx context.Context, path string, f File) (Got, error) {
	return c.verifyAs(ctx, path, f.Name, f.URL, f.Checks)
}

func (c Config) verifyAs(ctx context.Context, path, name, address string, checks []Check) (Got, error) {
	sums, bytes, err := digests(ctx, path)
	if err != nil {
		return Got{}, err
	}
	got := Got{Path: path, SHA256: sums["sha256"], Bytes: bytes}
	var by []string
	for _, check := range checks {
		sum, ok := sums[check.Algorithm]
		if !ok || check.Hex == "" {
			return Got{}, fmt.Errorf("a check by %q %q is not known", check.Algorithm, check.Hex)
		}
		if !strings.HasPrefix(sum, check.Hex) {
			return Got{}, &ChecksumError{path, check.Algorithm, sum, check.Hex, check.Read}
		}
		text := check.Algorithm + " " + check.Hex
		if len(check.Hex) < len(sum) {
			text += "…"
		}
		by = append(by, text)
	}
	got.Verified = strings.Join(by, ", ")
	return got, c.pin(path, name, pinned{got.SHA256, got.Bytes, address})
}

// digests reads a file once.
func digests(ctx context.Context, path string) (map[string]string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	hashes := map[string]hash.Hash{"sha256": sha256.New(), "sha1": sha1.New(), "md5": md5.New()}
	n, err := io.Copy(io.MultiWriter(hashes["sha256"], hashes["sha1"], hashes["md5"]), reading{ctx, f})
	if err != nil {
		return nil, 0, err
	}
	sums := map[string]string{}
	for name, h := range hashes {
		sums[name] = hex.EncodeToString(h.Sum(nil))
	}
	return sums, n, nil
}

// reading is a reader that ends with its context.
type reading struct {
	ctx context.Context
	r   io.Reader
}

func (r reading) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(b)
}

// pinned is what is remembered of a file's first download.
type pinned struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	URL    string `json:"url"`
}

// pinFile is where, in the folder of the downloads.
const pinFile = "checksums.json"

// pin remembers a file by its name in the folder, or compares it with what is
// remembered.
func (c Config) pin(path, name string, p pinned) error {
	file := filepath.Join(c.Dir, pinFile)
	pins := map[string]pinned{}
	b, err := os.ReadFile(file)
	switch {
	case err == nil:
		if err := json.Unmarshal(b, &pins); err != nil {
			return fmt.Errorf("%s: %w (remove it to pin all files again)", file, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if old, ok := pins[name]; ok && old.SHA256 != p.SHA256 {
		return &ChecksumError{path, "sha256", p.SHA256, old.SHA256, "pinned in " + file + " at the first download; remove it there if the change is known to be right"}
	} else if ok {
		return nil
	}
	pins[name] = p
	if b, err = json.MarshalIndent(pins, "", "  "); err != nil {
		return err
	}
	return replace.File(file, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
}
