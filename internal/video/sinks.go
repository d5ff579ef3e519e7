package video

import (
	"context"
	"encoding/json"
	"fmt"
	"image/jpeg"
	"io"
	"math"
	"os"
	"path/filepath"

	"bufio"
)

// Class names what a detection's Class stands for.
type Class struct {
	Name string
	ID   int // in the model's own data set
}

// jsonLines writes a line of JSON per frame.
type jsonLines struct {
	w       io.Writer
	close   func() error
	classes []Class
}

// NewJSONLines is a sink that writes a line per frame to w:
//
//	{"frame":12,"time":0.96,"width":768,"height":432,"detected":true,
//	 "detections":[{"class":"car","class_id":7,"score":0.98,"box":[x0,y0,x1,y1],"track":3}]}
//
// frame counts the source's frames from 0, time is in seconds, boxes are in
// pixels of the frame; detected is false where objects were carried over from
// other frames, and track stands only with a tracker. close may be nil.
func NewJSONLines(w io.Writer, close func() error, classes []Class) Sink {
	return &jsonLines{w, close, classes}
}

type jsonFrame struct {
	Frame      int          `json:"frame"`
	Time       float64      `json:"time"`
	Width      int          `json:"width"`
	Height     int          `json:"height"`
	Detected   bool         `json:"detected"`
	Detections []jsonObject `json:"detections"`
}

type jsonObject struct {
	Class   string     `json:"class"`
	ClassID int        `json:"class_id"`
	Score   float64    `json:"score"`
	Box     [4]float64 `json:"box"`
	Track   int        `json:"track,omitempty"`
}

// rounded keeps n decimals: pixels to a hundredth, scores to 1e-5.
func rounded(v float32, n float64) float64 { return math.Round(float64(v)*n) / n }

func (j *jsonLines) Draws() bool { return false }

func (j *jsonLines) Write(_ context.Context, r *Result) error {
	size := r.Frame.Image.Bounds()
	line := jsonFrame{
		Frame: r.Frame.Index, Time: math.Round(r.Frame.Time.Seconds()*1e6) / 1e6,
		Width: size.Dx(), Height: size.Dy(), Detected: r.Detected, Detections: make([]jsonObject, 0, len(r.Objects)),
	}
	for _, o := range r.Objects {
		b := o.Box
		if !b.Finite() {
			continue
		}
		out := jsonObject{Score: rounded(o.Score, 1e5), Track: o.ID}
		out.Box = [4]float64{rounded(b.X0, 100), rounded(b.Y0, 100), rounded(b.X1, 100), rounded(b.Y1, 100)}
		if o.Class >= 0 && o.Class < len(j.classes) {
			out.Class, out.ClassID = j.classes[o.Class].Name, j.classes[o.Class].ID
		}
		line.Detections = append(line.Detections, out)
	}
	text, err := json.Marshal(line)
	if err == nil {
		_, err = j.w.Write(append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("video: writing JSON lines: %w", err)
	}
	return nil
}

func (j *jsonLines) Close() error {
	if j.close == nil {
		return nil
	}
	return j.close()
}

// motLines writes MOT Challenge's text format.
type motLines struct {
	w     *bufio.Writer
	close func() error
	first int // index of the first frame, which is frame 1
	begun bool
}

// NewMOT is a sink that writes tracks as the MOT Challenge has them:
// frame,id,left,top,width,height,score,-1,-1,-1 with frames from 1.
func NewMOT(w io.WriteCloser) Sink { return &motLines{w: bufio.NewWriter(w), close: w.Close} }

func (m *motLines) Draws() bool { return false }

func (m *motLines) Write(_ context.Context, r *Result) error {
	if !m.begun {
		m.begun, m.first = true, r.Frame.Index
	}
	for _, o := range r.Objects {
		b := o.Box
		if _, err := fmt.Fprintf(m.w, "%d,%d,%.2f,%.2f,%.2f,%.2f,%.5f,-1,-1,-1\n",
			r.Frame.Index-m.first+1, o.ID, b.X0, b.Y0, b.X1-b.X0, b.Y1-b.Y0, o.Score); err != nil {
			return fmt.Errorf("video: writing MOT lines: %w", err)
		}
	}
	return nil
}

func (m *motLines) Close() error {
	if m.close == nil {
		return nil
	}
	err := m.w.Flush()
	if e := m.close(); err == nil {
		err = e
	}
	m.close = nil
	if err != nil {
		return fmt.Errorf("video: writing MOT lines: %w", err)
	}
	return nil
}

// folder writes each picture to a file of its own.
type folder struct{ dir string }

// NewFolder is a sink that writes frames to dir as 000000.jpg, 000001.jpg, …,
// numbered as in the source.
func NewFolder(dir string) (Sink, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("video: %w", err)
	}
	return &folder{dir}, nil
}

func (d *folder) Draws() bool { return true }

func (d *folder) Write(_ context.Context, r *Result) error {
	name := filepath.Join(d.dir, fmt.Sprintf("%06d.jpg", r.Frame.Index))
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("video: %w", err)
	}
	w := bufio.NewWriter(f)
	err = jpeg.Encode(w, r.Picture, &jpeg.Options{Quality: 92})
	if err == nil {
		err = w.Flush()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		os.Remove(name)
		return fmt.Errorf("video: %s: %w", name, err)
	}
	return nil
}

func (d *folder) Close() error { return nil }
