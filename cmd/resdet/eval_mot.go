package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"resdet/eval"
)

// runEvalMOT scores a tracker's output, both files in MOT Challenge's format.
func runEvalMOT(s streams, o evalOptions) error {
	path, ok := strings.CutPrefix(o.data, "mot:")
	switch {
	case !ok || path == "":
		return usagef("--protocol mot: --data must be mot:GT.txt")
	case o.detections == "":
		return usagef("--protocol mot: --detections must be a tracker's output in MOT Challenge's format")
	case o.report != "":
		return usagef("--protocol mot: there is no report; use --json")
	}
	gt, err := readMOTFile(path)
	if err != nil {
		return err
	}
	found, err := readMOTFile(o.detections)
	if err != nil {
		return err
	}
	r, err := eval.MOT(gt, found, eval.MOTOptions{Preprocess: o.preprocess})
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(s.out, struct {
			Protocol string `json:"protocol"`
			eval.MOTResult
		}{"mot", r})
	}
	w := bufio.NewWriter(s.out)
	fmt.Fprintf(w, "%s, %d frames, %d objects in %d tracks; IoU ≥ 0.5\n%s\n\n", path, r.Frames, r.Objects, r.UniqueObjects, o.detections)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, m := range []struct {
		name  string
		value eval.Value
	}{{"MOTA", r.MOTA}, {"MOTP (1 − IoU)", r.MOTP}, {"IDF1", r.IDF1}, {"precision", r.Precision}, {"recall", r.Recall}} {
		fmt.Fprintf(t, "%s\t%s\t\n", m.name, percent(m.value, r.Objects))
	}
	if h := r.HOTA; h != nil {
		fmt.Fprintf(t, "HOTA\t%s\t\nDetA\t%s\t\nAssA\t%s\t\n", eval.Value(h.HOTA).Percent(1), eval.Value(h.DetA).Percent(1), eval.Value(h.AssA).Percent(1))
	}
	fmt.Fprintf(t, "identity switches\t%d\t\nmisses\t%d\t\nfalse positives\t%d\t\n", r.Switches, r.Misses, r.FalsePositives)
	t.Flush()
	if r.HOTAError != "" {
		fmt.Fprintf(w, "\nno HOTA: %s\n", r.HOTAError)
	}
	return w.Flush()
}

func readMOTFile(path string) ([]eval.MOTRow, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return eval.ReadMOT(f, path)
}
