package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"text/tabwriter"
)

// readBench reads what bench --json wrote.
func readBench(path string) (*benchReport, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r benchReport
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: not a report of bench --json: %w", path, err)
	}
	if len(r.Stages) == 0 || r.Seconds <= 0 {
		return nil, fmt.Errorf("%s: not a report of bench --json: it has no stages", path)
	}
	return &r, nil
}

// changed is a part of the detection in two reports; a time that is 0 is not
// in that one.
type changed struct {
	name          string
	before, after float64 // seconds
}

// changesShown is how many kernels are listed: most changes are noise.
const changesShown = 12

// printChanges says what became of the times since before. Machines differ
// from hour to hour, so the ratio of the limits stands beside the times'.
func (r benchReport) printChanges(w io.Writer, before benchReport) error {
	fmt.Fprintf(w, "\nsince then:\n")
	if r.Arch != before.Arch || !slices.Equal(r.Input, before.Input) || r.Regions != before.Regions || r.Precision != before.Precision {
		fmt.Fprintf(w, "not the same work: that was %s, %s, input %v, %s\n", before.Arch, before.Precision, before.Input, plural(before.Regions, "region"))
	}
	if r.Device != before.Device {
		fmt.Fprintf(w, "not the same device: that was %s\n", before.Device)
	}
	if a, b := r.Limits.F32, before.Limits.F32; a > 0 && b > 0 {
		fmt.Fprintf(w, "the machine's f32 products run at %.2f of their rate then\n", a/b)
	}
	rows := []changed{{"total", before.Seconds, r.Seconds}}
	for _, s := range r.Stages {
		c := changed{name: s.Name, after: s.Seconds}
		for _, b := range before.Stages {
			if b.Name == s.Name {
				c.before = b.Seconds
			}
		}
		rows = append(rows, c)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "what\tms then\tms now\tratio\n")
	for _, c := range append(rows, r.layerChanges(before)...) {
		switch {
		case c.before == 0:
			fmt.Fprintf(t, "%s\t\t%.2f\tnew\n", c.name, 1e3*c.after)
		case c.after == 0:
			fmt.Fprintf(t, "%s\t%.2f\t\tgone\n", c.name, 1e3*c.before)
		default:
			fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\n", c.name, 1e3*c.before, 1e3*c.after, c.after/c.before)
		}
	}
	return t.Flush()
}

// layerChanges lists the kernels whose times differ most, if both reports have
// kernels. A kernel is known by its stage, name and operations.
func (r benchReport) layerChanges(before benchReport) []changed {
	if len(before.Layers) == 0 {
		return nil
	}
	at := map[string]int{}
	var all []changed
	for i, report := range []benchReport{before, r} {
		for _, l := range report.Layers {
			name := fmt.Sprintf("%d %s %s", l.Stage, l.Name, l.Op)
			if _, ok := at[name]; !ok {
				at[name] = len(all)
				all = append(all, changed{name: name})
			}
			if c := &all[at[name]]; i == 0 {
				c.before += l.Seconds
			} else {
				c.after += l.Seconds
			}
		}
	}
	slices.SortStableFunc(all, func(a, b changed) int {
		return cmp.Compare(math.Abs(b.after-b.before), math.Abs(a.after-a.before))
	})
	return all[:min(len(all), changesShown)]
}
