package jobs

import "go.etcd.io/bbolt"

// raw writes anything under an id.
func (s *store) raw(id, text string) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(id), []byte(text)) })
}
