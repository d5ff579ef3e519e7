package spell

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	known := []string{"score", "nms", "max", "max-body", "max-jobs"}
	for name, want := range map[string]string{
		"scor": "score", "scroe": "score", "nmss": "nms", "max_body": "max-body", "maxjob": "max-jobs",
		"threshold": "", "": "", "x": "", strings.Repeat("score", 1000): "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", name, got, want)
		}
	}
}
