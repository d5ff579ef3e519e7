// Package replace writes files that are there whole or not at all.
package replace

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
)

// File lets write fill a file that takes path's place once it is on disk. Until
// then, and whenever it fails, what path had before stays as it was and nothing
// else is left in the folder. The file may be read by all and written by its
// owner.
func File(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err = write(w); err != nil {
		return err
	}
	if err = w.Flush(); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	syncFolder(filepath.Dir(path))
	return nil
}

// syncFolder makes a rename in a folder outlast a power failure, where the
// system can.
func syncFolder(path string) {
	dir, err := os.Open(path)
	if err != nil {
		return
	}
	_ = dir.Sync() // not every file system can; the file itself is on disk
	dir.Close()
}
