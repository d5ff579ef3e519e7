package train

import "testing"

// FuzzYAML reads configuration files of strangers: any text gives a recipe or
// an error.
func FuzzYAML(f *testing.F) {
	for _, text := range []string{
		"", "seed: 1\n", "solver:\n  groups:\n    - match: x\n      decay: 0\n", "archs: {a: {save: 3}}", "a: &x {b: 1}\nsolver: *x\n",
		"<<: {seed: 3}\n", "? [1]\n: 2\n", "solver: null", "- 1\n- 2\n", "schedule: {decay: [1, [2]]}", "\xff", "seed: !!binary aGk=", "losses:\n\tx: 1",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseYAML("fuzz.yaml", []byte(text))
		if err != nil {
			return
		}
		r := file{Recipe: recipe()}
		if d.Check(&r) != nil || d.Decode(&r) != nil {
			return
		}
		_ = r.Validate() // may refuse it, must not fail
	})
}
