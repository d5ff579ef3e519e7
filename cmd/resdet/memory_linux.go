package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// resetPeak makes the kernel forget the process's peak of memory, so that two
// models of one process can be told apart. Where it is not allowed, the peak
// stays that of the whole process.
func resetPeak() {
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // best effort, see above
}

// peakMB returns the most memory that the process has had resident since
// resetPeak, in MB; 0 where the kernel does not say.
func peakMB() float64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			if err == nil {
				return kb / 1024
			}
		}
	}
	return 0
}
