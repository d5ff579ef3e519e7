package video

import (
	"fmt"
	"image"

	"resdet/internal/track"
	"resdet/internal/transform"
)

// LeastDrawn is the least score of what is drawn unless the user says
// otherwise: pictures with all that the lines list would show little else than
// boxes.
const LeastDrawn = 0.5

// DrawObjects labels objects of at least that score with their class, and with
// number and colour of their own where they are tracked. It is for
// [Config.Draw].
func DrawObjects(classes []Class, least float32) func(*image.RGBA, []track.Object) {
	return func(m *image.RGBA, objects []track.Object) {
		var marks []transform.Mark
		for _, o := range objects {
			if o.Class < 0 || o.Class >= len(classes) {
				continue
			}
			switch name := classes[o.Class].Name; {
			case o.ID > 0: // also while its score is low: that is what tracks are for
				marks = append(marks, transform.Mark{Box: o.Box, Text: fmt.Sprintf("%s #%d", name, o.ID), Colour: transform.Colour(o.ID)})
			case o.Score >= least:
				marks = append(marks, transform.Mark{Box: o.Box, Text: fmt.Sprintf("%s %.2f", name, o.Score), Colour: transform.Colour(o.Class)})
			}
		}
		transform.DrawMarks(m, marks)
	}
}
