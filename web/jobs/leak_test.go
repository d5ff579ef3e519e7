package jobs

import (
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// openFiles counts the process's, where the system says.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// TestLeaks: jobs that were done, failed, cancelled, watched, fetched and cut
// off by the queue's end leave no goroutine and no open file.
func TestLeaks(t *testing.T) {
	server, _ := webcam(t)
	round := func() {
		c := testConfig(t)
		c.Hosts, c.Workers, c.LiveTime = []string{"127.0.0.1"}, 2, 50*time.Millisecond
		f := &fake{pause: time.Millisecond}
		q, err := Open(c, f)
		if err != nil {
			t.Fatal(err)
		}
		q.Start()
		for _, data := range [][]byte{zipOf(t, shades(t, 3)...), gzipOf(tarOf(t, shades(t, 3)...)), y4m(5), y4m(5)[:200], []byte("\x00\x00\x00\x18ftypmp42")} {
			j := wait(t, q, submit(t, q, Spec{Annotate: true}, data).ID, finished)
			if f, _, err := q.Results(j.ID); err == nil {
				f.Close()
			}
		}
		for _, path := range []string{"/live", "/film", "/cut", "/away"} {
			j, err := q.Submit(t.Context(), Spec{URL: server.URL + path}, nil, -1)
			if err != nil {
				t.Fatal(err)
			}
			wait(t, q, j.ID, finished)
		}
		j := submit(t, q, Spec{}, y4m(100000))
		wait(t, q, j.ID, is(Running))
		q.Delete(t.Context(), j.ID)
		for _, data := range [][]byte{y4m(100000), zipOf(t, shades(t, 300)...)} {
			wait(t, q, submit(t, q, Spec{Annotate: true}, data[:len(data):len(data)]).ID, func(j Job) bool { return j.State != Queued })
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	round() // what stays for good is there after one
	server.CloseClientConnections()
	goroutines, files := settled()
	for range 3 {
		round()
	}
	server.CloseClientConnections()
	for range 500 {
		if g, f := settled(); g <= goroutines && f <= files {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	g, f := settled()
	var stacks strings.Builder
	pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	t.Errorf("goroutines: %d, then %d; open files: %d, then %d\n%s", goroutines, g, files, f, &stacks)
}

// settled counts goroutines and files once those that are ending have ended.
func settled() (goroutines, files int) {
	runtime.GC() // closes idle files
	time.Sleep(50 * time.Millisecond)
	return runtime.NumGoroutine(), openFiles()
}
