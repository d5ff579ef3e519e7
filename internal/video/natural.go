package video

import "strings"

// naturalLess orders names with numbers in them as people do: frame2 before
// frame10. Equal numbers with other zeros fall back on bytes.
func naturalLess(a, b string) int {
	for x, y := a, b; ; {
		i, j := digitAt(x), digitAt(y)
		if c := strings.Compare(x[:i], y[:j]); c != 0 || i == len(x) || j == len(y) {
			if c == 0 {
				c = len(x) - len(y)
			}
			if c == 0 {
				c = strings.Compare(a, b)
			}
			return c
		}
		m, n := digits(x[i:]), digits(y[j:])
		p, q := strings.TrimLeft(x[i:i+m], "0"), strings.TrimLeft(y[j:j+n], "0")
		if len(p) != len(q) {
			return len(p) - len(q)
		}
		if c := strings.Compare(p, q); c != 0 {
			return c
		}
		x, y = x[i+m:], y[j+n:]
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// digitAt is where the first digit stands, or the length.
func digitAt(s string) int {
	i := 0
	for i < len(s) && !isDigit(s[i]) {
		i++
	}
	return i
}

// digits is how many digits s begins with.
func digits(s string) int {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i
}
