//go:build linux

package jobs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestDiskFull: on a disk of two megabytes an upload that does not fit is
// refused, a job whose results do not fit fails with that reason, and the queue
// goes on when there is room again.
func TestDiskFull(t *testing.T) {
	c := testConfig(t)
	if err := syscall.Mount("tmpfs", c.Dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	defer syscall.Unmount(c.Dir, syscall.MNT_DETACH)
	q, err := Open(c, &fake{})
	if err != nil {
		t.Fatal(err)
	}
	q.Start()
	defer q.Close()
	if _, err := q.Submit(t.Context(), Spec{}, bytes.NewReader(y4m(30000)), -1); code(err) != NoSpace || !strings.Contains(err.Error(), "full") {
		t.Errorf("an upload of 4 MB: %v", err)
	}
	small := y4m(9000) // 1.2 MB, and as much of results
	j := wait(t, q, submit(t, q, Spec{}, small).ID, finished)
	if j.State != Failed || j.Fault.Code != NoSpace || strings.Contains(j.Fault.Message, c.Dir) {
		t.Errorf("%+v %v", j, j.Fault)
	}
	if j = wait(t, q, submit(t, q, Spec{}, y4m(50)).ID, finished); j.State != Done {
		t.Errorf("when there is room again: %+v %v", j, j.Fault)
	}
	// Not even the end of a job can be recorded: it has failed all the same.
	filler := make([]byte, 4<<20)
	running := &fake{hold: make(chan struct{})}
	q.detector = running
	j = submit(t, q, Spec{}, y4m(2))
	wait(t, q, j.ID, is(Running))
	os.WriteFile(c.Dir+"/filler", filler, 0o600) // as much of it as there is room for
	close(running.hold)
	if j = wait(t, q, j.ID, finished); j.State != Failed && j.State != Done {
		t.Errorf("%+v", j)
	}
	os.Remove(c.Dir + "/filler")
	if j = wait(t, q, submit(t, q, Spec{}, y4m(2)).ID, finished); j.State != Done {
		t.Errorf("after that: %+v %v", j, j.Fault)
	}
}

func TestDiskFaults(t *testing.T) {
	for err, want := range map[error]Code{
		syscall.ENOSPC: NoSpace, syscall.EDQUOT: NoSpace, &os.PathError{Err: syscall.ENOSPC}: NoSpace,
		fmt.Errorf("x: %w", syscall.EIO): Internal, syscall.EROFS: Internal, errors.New("x"): "",
	} {
		if got := diskFault(err); code(got) != want {
			t.Errorf("%v becomes %v", err, got)
		}
	}
}
