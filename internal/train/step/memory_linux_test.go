package step

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"resdet/internal/formula"
)

// residentMB returns the process's memory that is no file's, after all that is
// free was given back.
func residentMB(t *testing.T) float64 {
	t.Helper()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	var kB float64
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		t.Skip("the kernel does not say how much memory is in use")
	}
	return kB / 1024
}

// An epoch of mixed shapes takes little more memory than the largest of them:
// programs share the arena, what the host reads and writes, and the weights.
func TestMemoryOfMixedShapes(t *testing.T) {
	if testing.Short() {
		t.Skip("steps of sixteen shapes")
	}
	l := newLearner(t, "resnet18-fpn", formula.Params{Basic: true}, 2)
	for range 2 {
		l.learn(t, 192, 320)
	}
	one := residentMB(t)
	shapes := 0
	for width := 192; width <= 320; width += 64 {
		for _, s := range [][2]int{{192, width}, {160, width}, {width, 160}} {
			l.learn(t, s[0], s[1])
			shapes++
		}
	}
	all := residentMB(t)
	t.Logf("%.0f MB after steps of one shape, %.0f MB after %d more shapes", one, all, shapes)
	if all > 1.3*one {
		t.Errorf("%.0f MB for %d shapes are %.2f times the %.0f MB for one", all, shapes, all/one, one)
	}

	// Between steps most of it can be given back, and a step goes on after.
	l.Rest()
	rest := residentMB(t)
	t.Logf("%.0f MB at rest", rest)
	if rest > all-20 {
		t.Errorf("%.0f MB at rest, %.0f MB before", rest, all)
	}
	before := l.gradients()
	l.learn(t, 192, 320)
	if after := l.gradients(); after <= before {
		t.Errorf("a step after a rest adds nothing to the gradients: %g before, %g after", before, after)
	}
}

// gradients is the square of all gradients' norm.
func (l *learner) gradients() (sum float64) {
	for _, p := range l.Params() {
		for _, g := range p.Gradient() {
			sum += float64(g) * float64(g)
		}
	}
	return sum
}
