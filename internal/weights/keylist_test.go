package weights_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"resdet/internal/formula"
)

// keyList reads a list of testdata/families (see the README there) with the
// numbers that stand for its capital letters.
func keyList(t testing.TB, name string, numbers map[string]int) []published {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "families", name))
	if err != nil {
		t.Fatal(err)
	}
	var out []published
	for i, line := range strings.Split(string(raw), "\n") {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.HasPrefix(line, "#"):
			continue
		case fields[0] == "include":
			prefix := strings.Join(fields[2:], "")
			for _, p := range keyList(t, fields[1], numbers) {
				out = append(out, array(prefix+p.key, p.shape, p.role))
			}
			continue
		}
		pattern := fields[0]
		for letter, n := range numbers {
			if len(letter) > 1 {
				pattern = strings.ReplaceAll(pattern, letter, fmt.Sprint(n))
			}
		}
		var shape []int
		role := ""
		for _, f := range fields[1:] {
			if n, ok := numbers[f]; ok {
				shape = append(shape, n)
			} else if n, err := strconv.Atoi(f); err == nil {
				shape = append(shape, n)
			} else {
				role = f
			}
		}
		if len(shape) == 0 {
			t.Fatalf("%s:%d: no shape", name, i+1)
		}
		for _, key := range expand(pattern) {
			out = append(out, norms(key, shape, role)...)
		}
	}
	return out
}

// norms lists the arrays of a norm, or the one array.
func norms(key string, shape []int, role string) []published {
	last, isNorm := strings.CutPrefix(role, "norm")
	if !isNorm {
		if last, isNorm = strings.CutPrefix(role, "tracked"); !isNorm {
			return []published{array(key, shape, role)}
		}
	}
	out := []published{
		array(key+".weight", shape, "gamma"+last), array(key+".bias", shape, "beta"),
		array(key+".running_mean", shape, "mean"), array(key+".running_var", shape, "var"),
	}
	if strings.HasPrefix(role, "tracked") {
		out = append(out, array(key+".num_batches_tracked", []int{1}, "count"))
	}
	return out
}

var braces = regexp.MustCompile(`\{([^{}]*)\}`)

// expand lists what a pattern with braces stands for.
func expand(pattern string) []string {
	at := braces.FindStringSubmatchIndex(pattern)
	if at == nil {
		return []string{pattern}
	}
	inner := pattern[at[2]:at[3]]
	var choices []string
	if from, to, ok := strings.Cut(inner, ".."); ok {
		if from >= "a" {
			for c := from[0]; c <= to[0]; c++ {
				choices = append(choices, string(c))
			}
		} else {
			first, _ := strconv.Atoi(from)
			last, _ := strconv.Atoi(to)
			for n := first; n <= last; n++ {
				choices = append(choices, fmt.Sprint(n))
			}
		}
	} else {
		choices = strings.Split(inner, ",")
	}
	var out []string
	for _, c := range choices {
		out = append(out, expand(pattern[:at[0]]+c+pattern[at[1]:])...)
	}
	return out
}

func array(key string, shape []int, role string) published {
	p := published{key: key, shape: shape, role: role}
	p.pattern = func() []float32 { return pattern(key, min(p.len(), period), shape, role) }
	return p
}

// factor is what Caffe's statistics are sums of: 999.982360839843750, as a
// published file has it (1/(1−0.999) of a moving average cut short).
const factor = 999.98236

// period is after how many elements an array's repeat, which spares the time of
// the formula and of encoding them in the largest. It is prime: no two rows are
// alike.
const period = 8191

// pattern is the first n elements by formula under the array's own name in the
// file: they keep a network's activations in range. All but sums have ten bits,
// so that float16 holds them exactly.
func pattern(key string, n int, shape []int, role string) []float32 {
	offset, scale := 0.0, 0.0
	switch role {
	case "gamma":
		offset, scale = 0.75, 0.25
	case "gamma3":
		offset, scale = 0.25, 0.1
	case "beta", "bias":
		scale = 0.05
	case "small":
		scale = 0.005
	case "mean", "sum":
		scale = 0.1
	case "var", "sumvar":
		offset, scale = 1, 0.2
	case "factor":
		return []float32{factor}
	case "count":
		return []float32{17}
	case "zero":
		return make([]float32, n)
	default:
		gain := map[string]float64{"": 1, "stem": 1. / 64, "objectness": 0.3, "anchor": 0.1, "predictor": 0.4, "predictor5": 2, "unnormalised": 0.04}[role]
		fan := 1
		for _, d := range shape[1:] {
			fan *= d
		}
		scale = gain * math.Sqrt(6/float64(fan))
	}
	out := make([]float32, n)
	seed := formula.Seed(key)
	sums := role == "sum" || role == "sumvar"
	for i := range out {
		v := float32(offset + scale*formula.Unit(seed, i))
		v = math.Float32frombits(math.Float32bits(v) &^ 0x1fff)
		if v < 0x1p-14 && v > -0x1p-14 {
			v = 0
		}
		if sums {
			v *= factor
		}
		out[i] = v
	}
	return out
}
