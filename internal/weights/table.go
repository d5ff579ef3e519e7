package weights

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"resdet/internal/nd"
)

// Summary says in one line how much fits: "239 of 241 parameters (25.1M)
// matched, 2 missing (1.0k)".
func (r *Report) Summary() string {
	wanted := len(r.index)
	n, elements := r.Count(Matched)
	parts := []string{fmt.Sprintf("%d of %d parameters (%s) matched", n, wanted, Short(elements))}
	for s := Missing; s <= Ignored; s++ {
		n, elements := r.Count(s)
		switch {
		case n == 0:
		case s == ByClass:
			parts = append(parts, fmt.Sprintf("%d %v (%s of %s)", n, s, Short(elements), Short(r.wanted(s))))
		default:
			parts = append(parts, fmt.Sprintf("%d %v (%s)", n, s, Short(elements)))
		}
	}
	return strings.Join(parts, ", ")
}

// wanted returns the elements that the network wants in arrays of a status.
func (r *Report) wanted(s Status) int64 {
	var n int64
	for _, row := range r.Rows {
		if row.Status == s {
			n += int64(row.Want.Len())
		}
	}
	return n
}

// WriteTable writes the whole report: what fits, and what does not. Arrays of
// one layer that share their fate share a line, with the first one's shape; "="
// is what the file calls or shapes as the network does.
func (r *Report) WriteTable(w io.Writer) error {
	return r.table(w, len(r.Rows), func(Status) bool { return true })
}

// table writes the lines that are wanted, at most limit of them, those with
// trouble first.
func (r *Report) table(w io.Writer, limit int, wanted func(Status) bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "STATUS\tNETWORK\tSHAPE\tFILE\tSHAPE\n")
	lines, more := 0, 0
	for _, s := range []Status{Misshapen, ByClass, Missing, Unexpected, Ignored, Matched} {
		if !wanted(s) {
			continue
		}
		for _, l := range r.lines(s) {
			if lines == limit {
				more++
				continue
			}
			lines++
			fmt.Fprintf(t, "%v\t%s\t%s\t%s\t%s\n", s, l.network, l.want, l.file, l.have)
		}
	}
	if err := t.Flush(); err != nil || more == 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "… and %d lines more\n", more)
	return err
}

// line is one or more rows of the same layer.
type line struct {
	network, want, file, have string
}

func (r *Report) lines(s Status) []line {
	var out []line
	var rows []Row // of the last line
	flush := func() {
		if len(rows) > 0 {
			out = append(out, newLine(rows))
		}
		rows = rows[:0]
	}
	for _, row := range r.Rows {
		if row.Status != s {
			continue
		}
		if len(rows) > 0 && (s == Misshapen || layer(row.Key) != layer(rows[0].Key) || layer(row.From) != layer(rows[0].From)) {
			flush()
		}
		rows = append(rows, row)
	}
	flush()
	return out
}

// layer is the name of an array without its last part.
func layer(key string) string { return key[:strings.LastIndexByte(key, '.')+1] }

func newLine(rows []Row) line {
	first := rows[0]
	var keys, froms []string
	for _, row := range rows {
		keys, froms = append(keys, row.Key), append(froms, Printable(row.From))
	}
	l := line{braces(keys), shapeText(first.Want), braces(froms), shapeText(first.Have)}
	if l.file == l.network {
		l.file = "="
	}
	if l.have == l.want {
		l.have = "="
	}
	return l
}

// braces joins names of one layer: "bn1.{weight,bias}".
func braces(keys []string) string {
	prefix := layer(keys[0])
	if len(keys) == 1 || keys[0] == "" {
		return keys[0]
	}
	last := make([]string, len(keys))
	for i, k := range keys {
		last[i] = k[len(prefix):]
	}
	return prefix + "{" + strings.Join(last, ",") + "}"
}

// Printable quotes a name from a file if it holds more than a
// terminal should be sent.
func Printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}

func shapeText(s nd.Shape) string {
	if s == nil {
		return ""
	}
	return s.String()
}

// Short writes a count with three digits: "25.1M".
func Short(n int64) string {
	v, units := float64(n), []string{"", "k", "M", "G", "T"}
	for v >= 999.5 && len(units) > 1 {
		v, units = v/1000, units[1:]
	}
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%.3g%s", v, units[0])
}
