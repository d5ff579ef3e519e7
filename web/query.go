package web

import (
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// query is the parameters of a request's address. The first that is wrong is
// kept in err, so that a handler reads them all and looks once.
type query struct {
	values url.Values
	err    *failure
}

// parameters reads the address, which may have the known parameters, each at
// most once.
func parameters(c *gin.Context, known ...string) *query {
	q := &query{}
	values, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		q.fail("the address is malformed: %v", clip(err.Error()))
		return q
	}
	q.values = values
	for name, v := range values {
		if !slices.Contains(known, name) {
			q.fail("the parameter %q is not known%s", clip(name), oneOf(name, known))
		} else if len(v) > 1 {
			q.fail("%s is given %d times", name, len(v))
		}
	}
	return q
}

func (q *query) fail(format string, args ...any) {
	if q.err == nil {
		q.err = failf(400, "bad_parameter", format, args...)
	}
}

// problem is what was wrong, nil if nothing was.
func (q *query) problem() error {
	if q.err == nil {
		return nil // and not a nil *failure
	}
	return q.err
}

func (q *query) text(name string) string { return q.values.Get(name) }

// number is a parameter in [least, most], or the given default.
func (q *query) number(name string, otherwise, least, most float64) float64 {
	text := q.text(name)
	if text == "" {
		return otherwise
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) || v < least || v > most {
		q.fail("%s=%s is not a number in %g…%g", name, clip(text), least, most)
		return otherwise
	}
	return v
}

// integer is a parameter in [least, most], or the given default.
func (q *query) integer(name string, otherwise, least, most int) int {
	text := q.text(name)
	if text == "" {
		return otherwise
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < least || v > most {
		q.fail("%s=%s is not a whole number in %d…%d", name, clip(text), least, most)
		return otherwise
	}
	return v
}

// flag is a parameter that is true or false, which is what it is if absent.
func (q *query) flag(name string) bool {
	switch text := q.text(name); text {
	case "", "false":
	case "true":
		return true
	default:
		q.fail("%s=%s is neither true nor false", name, clip(text))
	}
	return false
}

// thresholdNames are the parameters that [query.settings] reads.
var thresholdNames = []string{"score", "nms", "max", "classes"}

// settings are a model's thresholds with what the parameters change.
func (q *query) settings(m Model) Settings {
	s := m.Settings
	s.Score = float32(q.number("score", float64(s.Score), 0, 1))
	s.NMS = float32(q.number("nms", float64(s.NMS), leastNMS, 1))
	s.Max = q.integer("max", s.Max, 1, mostDetections)
	if text := q.text("classes"); text != "" {
		only, wrong := m.only(strings.Split(text, ","))
		if s.Only = only; wrong != nil && q.err == nil {
			q.err = wrong
		}
	}
	return s
}

// Bounds of thresholds.
const (
	leastNMS       = 0.01
	mostDetections = 10_000
)

// only are the indexes of the classes with these names.
func (m Model) only(wanted []string) ([]int, *failure) {
	names := make([]string, len(m.Info.Classes))
	for i, c := range m.Info.Classes {
		names[i] = c.Name
	}
	only := []int{}
	for _, name := range wanted {
		i := slices.Index(names, name)
		if i < 0 {
			return only, failf(400, "bad_parameter", "the model %s does not know the class %q%s", m.Name, clip(name), oneOf(name, names))
		}
		if !slices.Contains(only, i) {
			only = append(only, i)
		}
	}
	return only, nil
}

// deadlineHeader tells how long a client will wait for the answer once its
// body is there: "1.5" seconds, or with a unit as "800ms".
const deadlineHeader = "X-Deadline"

// patienceOf is how long the request may take after its body.
func (s *Server) patienceOf(c *gin.Context) (time.Duration, error) {
	text := c.GetHeader(deadlineHeader)
	if text == "" {
		return s.cfg.MaxWait, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d <= 0 {
		return 0, failf(400, "bad_deadline", "%s: %s is not a positive duration like 800ms or 1.5", deadlineHeader, clip(text))
	}
	return min(d, s.cfg.MaxWait), nil
}
