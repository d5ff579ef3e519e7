package web

import (
	"io"
	"sync"
	"time"
)

// budget bounds the bytes of bodies and pictures that are in the server.
type budget struct {
	limit int64

	mu   sync.Mutex
	used int64
}

func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

func (b *budget) take(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.limit {
		return failf(429, "out_of_memory", "the pictures that wait fill the server's memory").after(time.Second)
	}
	b.used += n
	return nil
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.used -= n
	b.mu.Unlock()
}

// account is what one request has taken from a budget. It is used by one
// goroutine at a time.
type account struct {
	budget *budget
	taken  int64
}

func (a *account) take(n int64) error {
	if err := a.budget.take(n); err != nil {
		return err
	}
	a.taken += n
	return nil
}

func (a *account) give(n int64) {
	a.taken -= n
	a.budget.give(n)
}

func (a *account) close() { a.give(a.taken) }

// readAll reads r to its end, taking what comes as it comes: a length that a
// client only claims costs nothing.
func (a *account) readAll(r io.Reader) ([]byte, error) {
	const first = 32 << 10
	if err := a.take(first); err != nil {
		return nil, err
	}
	data := make([]byte, 0, first)
	for {
		if len(data) == cap(data) {
			if err := a.take(int64(cap(data))); err != nil {
				return nil, err
			}
			data = append(make([]byte, 0, 2*cap(data)), data...)
		}
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, err
		}
	}
}
