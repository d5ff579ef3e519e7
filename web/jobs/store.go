package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// record is what the database holds of a job.
type record struct {
	ID       string    `json:"id"`
	Order    uint64    `json:"order"` // of acceptance
	Kind     Kind      `json:"kind"`
	State    State     `json:"state"`
	Spec     Spec      `json:"spec"`
	Created  time.Time `json:"created"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	// Attempts is how often the job began to run and the process did not say how
	// that ended.
	Attempts int `json:"attempts,omitempty"`
	// Outcome of a finished job.
	Outcome Progress `json:"outcome,omitzero"`
	Fault   *Fault   `json:"fault,omitempty"`
	// Annotated is the file with the drawn pictures, in the job's folder.
	Annotated string `json:"annotated,omitempty"`
	// Curves of a training that is done.
	Curves *Curves `json:"curves,omitempty"`
}

// store keeps the records. Each of its writes is one transaction, on disk when
// it returns.
type store struct{ db *bbolt.DB }

var bucket = []byte("jobs")

// openStore opens the database of a folder, for this process alone.
func openStore(dir string) (*store, error) {
	name := filepath.Join(dir, "jobs.db")
	db, err := openBolt(name)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("jobs: %s is in use by another process: give each server a data directory of its own", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("jobs: %s: %w; move it away to begin without its jobs", name, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("jobs: %s: %w", name, err)
	}
	return &store{db}, nil
}

// openBolt turns bbolt's panics about a file that is not one of its own into
// errors.
func openBolt(name string) (db *bbolt.DB, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("it is damaged: %v", v)
		}
	}()
	return bbolt.Open(name, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
}

func (s *store) close() error { return s.db.Close() }

// all returns every record, in the order of their ids. A record that cannot be
// read is left out and reported.
func (s *store) all(unreadable func(id string, err error)) ([]record, error) {
	var records []record
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
			var r record
			err := json.Unmarshal(v, &r)
			if err == nil {
				err = r.check(string(k))
			}
			if err != nil {
				unreadable(string(k), err)
				return nil
			}
			records = append(records, r)
			return nil
		})
	})
	return records, err
}

// check holds a record against what the queue relies on: its names become
// those of files.
func (r *record) check(key string) error {
	switch {
	case r.ID != key || !validID(key):
		return fmt.Errorf("its id is %q", r.ID)
	case !r.State.Finished() && next[r.State] == nil:
		return fmt.Errorf("its state is %q", r.State)
	case r.Annotated != "" && r.Annotated != annotatedVideo && r.Annotated != annotatedImages:
		return fmt.Errorf("its annotated file is %q", r.Annotated)
	case (r.Kind == Train) != (r.Spec.Train != nil):
		return fmt.Errorf("its kind is %q", r.Kind)
	}
	return r.Spec.validate()
}

// put writes records in one transaction; one with an Order of 0 is given the
// next.
func (s *store) put(records ...*record) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		for _, r := range records {
			if r.Order == 0 {
				n, err := b.NextSequence()
				if err != nil {
					return err
				}
				r.Order = n
			}
			text, err := json.Marshal(r)
			if err != nil {
				return err
			}
			if err := b.Put([]byte(r.ID), text); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *store) remove(id string) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Delete([]byte(id)) })
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// folderBytes is what the files below a folder take.
func folderBytes(dir string) int64 {
	total := int64(0)
	filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}
