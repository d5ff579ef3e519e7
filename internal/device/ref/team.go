package ref

import (
	"sync"
	"sync/atomic"
)

// job is work that falls into tasks, independent of each other.
type job interface {
	// do runs one task; worker is below the number of threads and not in use
	// by another goroutine.
	do(worker, task int)
}

// team runs the tasks of jobs on a fixed number of threads. Its goroutines
// live from start to stop, so that idle devices hold none.
type team struct {
	threads int
	job     job
	tasks   int64
	next    atomic.Int64
	wake    chan bool      // true: help with the job; false: go home
	busy    sync.WaitGroup // with the job
	alive   sync.WaitGroup // since start
}

func newTeam(threads int) *team {
	return &team{threads: threads, wake: make(chan bool, threads)}
}

func (t *team) start() {
	t.alive.Add(t.threads - 1)
	for worker := 1; worker < t.threads; worker++ {
		go t.work(worker)
	}
}

func (t *team) stop() {
	for worker := 1; worker < t.threads; worker++ {
		t.wake <- false
	}
	t.alive.Wait() // or the next start would have two of one number
}

func (t *team) work(worker int) {
	defer t.alive.Done()
	for <-t.wake {
		t.drain(worker)
		t.busy.Done()
	}
}

// each runs all tasks of j and returns when they are done.
func (t *team) each(tasks int, j job) {
	t.job, t.tasks = j, int64(tasks)
	t.next.Store(0)
	helpers := min(t.threads, tasks) - 1
	for range helpers {
		t.busy.Add(1)
		t.wake <- true
	}
	t.drain(0)
	t.busy.Wait()
}

func (t *team) drain(worker int) {
	for {
		task := t.next.Add(1) - 1
		if task >= t.tasks {
			return
		}
		t.job.do(worker, int(task))
	}
}
