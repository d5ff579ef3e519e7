// Benchtable makes the README's table of speed of what scripts/bench measured.
//
//	lines "who TAB network TAB mode TAB JSON" ─▶ rows with ratios to the fastest peer ─▶ the file, between its markers
//
// who is resdet (JSON of bench) or peer (JSON of scripts/peers/run); mode is
// f32, bf16, int8, these two with words after a comma, train or train bf16.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// What stands around the table in the file.
const (
	begin = "<!-- scripts/bench -->"
	end   = "<!-- end of scripts/bench -->"
)

func main() {
	file := flag.String("write", "", "file whose table is replaced; none: standard output")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *file); err != nil {
		fmt.Fprintln(os.Stderr, "benchtable:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, file string) error {
	m, err := read(in)
	if err != nil {
		return err
	}
	table := m.table()
	if file == "" {
		_, err := io.WriteString(out, table)
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	changed, err := replace(string(text), table)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(changed), 0o644)
}

// replace puts the table between the text's markers.
func replace(text, table string) (string, error) {
	before, rest, ok := strings.Cut(text, begin+"\n")
	_, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		return "", fmt.Errorf("there is no %s … %s", begin, end)
	}
	return before + begin + "\n" + table + end + after, nil
}

// measured are the results in the order of their lines.
type measured struct {
	ours  []ours
	peers []peer
}

type ours struct {
	network, mode string

	Device  string  `json:"device"`
	Input   []int   `json:"input"`
	Regions int     `json:"regions"`
	Seconds float64 `json:"seconds"`
	GFLOPs  float64 `json:"gflops"`
	PeakMB  float64 `json:"peak_mb"`
	Limits  struct {
		F32  float64 `json:"f32_gflops"`
		BF16 float64 `json:"bf16_gflops"`
		Int8 float64 `json:"int8_gops"`
	} `json:"limits"`
}

type peer struct {
	network, mode string

	Peer    string  `json:"peer"`
	Variant string  `json:"variant"`
	Median  float64 `json:"median"`
	Peak    float64 `json:"rss_mb"`
	Clean   *int    `json:"nclean"` // runs that had the machine to themselves
}

func read(in io.Reader) (m measured, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		part := strings.SplitN(lines.Text(), "\t", 4)
		if len(part) != 4 {
			return m, fmt.Errorf("line %d: %d fields, not 4", n, len(part))
		}
		switch part[0] {
		case "resdet":
			o := ours{network: part[1], mode: part[2]}
			if err := json.Unmarshal([]byte(part[3]), &o); err != nil {
				return m, fmt.Errorf("line %d: %w", n, err)
			}
			if o.Seconds <= 0 {
				return m, fmt.Errorf("line %d: no time", n)
			}
			m.ours = append(m.ours, o)
		case "peer":
			p := peer{network: part[1], mode: part[2]}
			if err := json.Unmarshal([]byte(part[3]), &p); err != nil {
				return m, fmt.Errorf("line %d: %w", n, err)
			}
			if p.Median <= 0 {
				return m, fmt.Errorf("line %d: no time", n)
			}
			m.peers = append(m.peers, p)
		default:
			return m, fmt.Errorf("line %d: %q is neither resdet nor peer", n, part[0])
		}
	}
	if err := lines.Err(); err != nil {
		return m, err
	}
	if len(m.ours) == 0 {
		return m, fmt.Errorf("nothing was measured")
	}
	return m, nil
}

// fastest returns the peer to hold a row against. Lower precisions are held
// against the fastest of all that peers have.
func (m measured) fastest(o ours) (peer, bool) {
	var can []peer
	for _, p := range m.peers {
		lower := strings.HasPrefix(o.mode, "bf16") || strings.HasPrefix(o.mode, "int8")
		if p.network == o.network && (p.mode == o.mode || lower && p.mode != "train" || o.mode == "train bf16" && p.mode == "train") {
			can = append(can, p)
		}
	}
	if len(can) == 0 {
		return peer{}, false
	}
	return slices.MinFunc(can, func(a, b peer) int { return cmp.Compare(a.Median, b.Median) }), true
}

func (m measured) table() string {
	var b strings.Builder
	first := m.ours[0]
	fmt.Fprintf(&b, "On %s; matrix products at %.0f GFLOP/s in f32", first.Device, first.Limits.F32)
	if first.Limits.BF16 > 0 {
		fmt.Fprintf(&b, ", %.0f in bf16", first.Limits.BF16)
	}
	if first.Limits.Int8 > 0 {
		fmt.Fprintf(&b, ", %.0f GOP/s in int8", first.Limits.Int8)
	}
	b.WriteString(".\n\n| network | input, regions | GMAC | precision | resdet | peak memory | fastest peer | its memory | ratio |\n|---|---|---|---|---|---|---|---|---|\n")
	disturbed := false
	for _, o := range m.ours {
		theirs, memory, ratio := "–", "–", "–"
		if p, ok := m.fastest(o); ok {
			theirs = fmt.Sprintf("%s, %s", seconds(p.Median), p.name())
			memory, ratio = gigabytes(p.Peak), fmt.Sprintf("**%.2f×**", p.Median/o.Seconds)
			if p.Clean != nil && *p.Clean == 0 {
				disturbed, ratio = true, ratio+" *"
			}
		}
		mode := o.mode
		if of, train := strings.CutPrefix(mode, "train"); train {
			mode = cmp.Or(strings.TrimSpace(of), "f32") + ", a step of training"
		}
		fmt.Fprintf(&b, "| %s | %s | %.0f | %s | **%s** | %s | %s | %s | %s |\n", o.network, o.input(), o.GFLOPs*o.Seconds/2, mode, seconds(o.Seconds), gigabytes(o.PeakMB), theirs, memory, ratio)
	}
	if disturbed {
		b.WriteString("\n\\* something else was running while the peer was measured.\n")
	}
	return b.String()
}

func (o ours) input() string {
	if len(o.Input) != 4 {
		return "–"
	}
	s := fmt.Sprintf("%d×%d", o.Input[2], o.Input[3])
	if o.Regions > 0 {
		s += fmt.Sprintf(", %d", o.Regions)
	}
	return s
}

func (p peer) name() string {
	if p.mode == "train" || p.Variant == "" {
		return p.Peer
	}
	return p.Peer + " " + strings.TrimSuffix(p.Variant, "_all")
}

func seconds(s float64) string {
	if s < 1 {
		return fmt.Sprintf("%.0f ms", 1e3*s)
	}
	return fmt.Sprintf("%.2f s", s)
}

func gigabytes(mb float64) string { return fmt.Sprintf("%.2f GB", mb/1000) }
