package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// runLowly runs a command at the lowest priority, as what the system ends first
// where memory runs out. It ends with this process, however that ends.
func runLowly(cmd *exec.Cmd) error {
	ended := make(chan error, 1)
	go func() {
		// A command has the priority of the thread that starts it, and ends with
		// it: the thread is never given back, so that it ends with this goroutine.
		runtime.LockOSThread()
		const lowest = 19
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, lowest) // 0 is this thread
		// Signals of a terminal are for this process, which tells the command.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		err := cmd.Start()
		if err == nil {
			_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid), []byte("800"), 0)
			err = cmd.Wait()
		}
		ended <- err
	}()
	return <-ended
}
