package track_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"resdet/internal/fixture"
	"resdet/internal/track"
)

// boxTolerance is in pixels: the reference's values are rounded to 4 decimals.
const boxTolerance = 1e-4

type params struct {
	TrackThresh float64 `json:"track_thresh"`
	TrackBuffer int     `json:"track_buffer"`
	MatchThresh float64 `json:"match_thresh"`
	FrameRate   float64 `json:"frame_rate"`
	MOT20       bool    `json:"mot20"`
	MinBoxArea  float64 `json:"min_box_area"`
	MaxAspect   float64 `json:"max_aspect"`
}

type frame struct {
	Frame  int `json:"frame"`
	Tracks []struct {
		ID    int        `json:"id"`
		TLWH  [4]float64 `json:"tlwh"`
		Score float64    `json:"score"`
		Kept  bool       `json:"kept"`
	} `json:"tracks"`
	Lost []int `json:"lost"`
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// TestReference walks every scene of the original ByteTrack: ids, boxes,
// scores and the lost list of each frame.
func TestReference(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(fixture.Dir(t, "tracking"), "bytetrack_*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no bytetrack_* cases (%v)", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			var p params
			var dets [][][5]float64
			var want []frame
			read(t, filepath.Join(dir, "params.json"), &p)
			read(t, filepath.Join(dir, "detections.json"), &dets)
			read(t, filepath.Join(dir, "expected.json"), &want)
			if len(want) != len(dets) || len(want) == 0 {
				t.Fatalf("%d frames of detections, %d expected", len(dets), len(want))
			}
			cfg := track.Config{TrackThreshold: p.TrackThresh, MatchThreshold: p.MatchThresh, Buffer: p.TrackBuffer, FrameRate: p.FrameRate, MOT20: p.MOT20}
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			tr := track.New(cfg)
			for i, rows := range dets {
				in := make([]track.Detection, len(rows))
				for j, r := range rows {
					in[j] = track.Detection{Box: track.Box{X0: r[0], Y0: r[1], X1: r[2], Y1: r[3]}, Score: r[4]}
				}
				got := tr.Update(in)
				if len(got) != len(want[i].Tracks) {
					t.Fatalf("frame %d: %d tracks, want %d: %v", i+1, len(got), len(want[i].Tracks), got)
				}
				for j, g := range got {
					w := want[i].Tracks[j]
					if g.ID != w.ID || g.Score != w.Score || g.State != track.Tracked || in[g.Detection].Score != g.Score || g.Last != i+1 {
						t.Fatalf("frame %d: got %+v, want %+v", i+1, g, w)
					}
					tlwh := [4]float64{g.Box.X0, g.Box.Y0, g.Box.X1 - g.Box.X0, g.Box.Y1 - g.Box.Y0}
					for k := range tlwh {
						if !(math.Abs(tlwh[k]-w.TLWH[k]) <= boxTolerance) {
							t.Fatalf("frame %d, id %d: box %v, want %v", i+1, g.ID, tlwh, w.TLWH)
						}
					}
					if kept := tlwh[2]*tlwh[3] > p.MinBoxArea && tlwh[2]/tlwh[3] <= p.MaxAspect; kept != w.Kept {
						t.Errorf("frame %d, id %d: kept %v, want %v", i+1, g.ID, kept, w.Kept)
					}
				}
				lost := []int{}
				for _, l := range tr.Lost() {
					if l.State != track.Lost && l.State != track.Removed {
						t.Errorf("frame %d: lost track %d is %v", i+1, l.ID, l.State)
					}
					lost = append(lost, l.ID)
				}
				if d := cmp.Diff(want[i].Lost, lost); d != "" {
					t.Fatalf("frame %d: lost (-want +got):\n%s", i+1, d)
				}
			}
		})
	}
}
