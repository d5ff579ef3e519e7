package web

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"resdet/internal/box"
)

func TestCompare(t *testing.T) {
	_, h, _ := newTestServer(t, testConfig())
	status, _, answer := call(t, "POST", h.URL+"/v1/compare?a=a&b=b&score=0.1", "image/jpeg", picture(t, 200, 100))
	var got compareBody
	if err := json.Unmarshal(answer, &got); err != nil || status != 200 {
		t.Fatalf("%d %v %s", status, err, answer)
	}
	if got.A.Model != "a" || got.B.Model != "b" || len(got.Matches) != 2 || len(got.OnlyA)+len(got.OnlyB) != 0 || got.Width != 200 {
		t.Errorf("%s", answer)
	}
	for query, want := range map[string]string{"?a=a": "bad_parameter", "?a=a&b=c": "unknown_model", "?a=a&b=b&score=2": "bad_parameter"} {
		_, header, answer := call(t, "POST", h.URL+"/v1/compare"+query, "image/jpeg", picture(t, 20, 10))
		if code := failed(t, header, answer); code != want {
			t.Errorf("%s: %s, want %s", query, code, want)
		}
	}
}

// The classes' names count, not their numbers; a surer detection chooses
// first; each is matched once.
func TestMatch(t *testing.T) {
	side := func(names ...string) *served {
		var m served
		for i, n := range names {
			m.Info.Classes = append(m.Info.Classes, Class{i + 1, n})
		}
		return &m
	}
	at := func(class int, x float32) Detection {
		return Detection{Class: class, Box: box.Box{X0: x, Y0: 0, X1: x + 10, Y1: 10}}
	}
	sides := [2]*served{side("cat", "dog"), side("dog", "cat")}
	a := []Detection{at(0, 0), at(0, 1), at(1, 100), at(1, 200)}
	b := []Detection{at(1, 1), at(0, 100), at(1, 200), at(1, 3)}
	matches, onlyA, onlyB := match(sides, a, b)
	for i := range matches {
		matches[i].Overlap = 0
	}
	want := []matchBody{{A: 0, B: 0}, {A: 1, B: 3}, {A: 2, B: 1}}
	if diff := cmp.Diff(want, matches); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([][]int{{3}, {2}}, [][]int{onlyA, onlyB}); diff != "" {
		t.Error(diff)
	}
}
