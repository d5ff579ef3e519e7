package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"resdet/internal/fixture"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"resdet": main})
}

// TestScripts runs the command as a user would: testdata/*.txtar. In scripts
// $ROAD is the demo's photo, $SHARED the folder of shared data ("" where it is
// missing; scripts that need it say [!shared] skip). Scripts that need the
// helper process of OpenCV say [!helper] skip.
func TestScripts(t *testing.T) {
	shared := os.Getenv("RESDET_SHARED")
	if shared == "" {
		shared = filepath.Join(filepath.Dir(fixture.Root()), "shared")
	}
	if _, err := os.Stat(shared); err != nil {
		shared = ""
	}
	helper := videoHelper(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("ROAD", filepath.Join(fixture.Root(), "testdata", "road.jpg"))
			e.Setenv("ROOT", fixture.Root())
			e.Setenv("SHARED", shared)
			e.Setenv("RESDET_VIDEO", helper)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "shared":
				return shared != "", nil
			case "helper":
				return helper != missingHelper, nil
			}
			return false, nil
		},
	})
}
