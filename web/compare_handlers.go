package web

import (
	"context"
	"image"
	"sync"

	"github.com/gin-gonic/gin"

	"resdet/internal/box"
)

// compareBody is what two models found in one picture, and where they agree.
type compareBody struct {
	Image   string      `json:"image"`
	Width   int         `json:"width"`
	Height  int         `json:"height"`
	A       sideBody    `json:"a"`
	B       sideBody    `json:"b"`
	Matches []matchBody `json:"matches"`
	OnlyA   []int       `json:"only_a"` // indices into a's detections
	OnlyB   []int       `json:"only_b"`
}

// sideBody is one model's part.
type sideBody struct {
	Model      string             `json:"model"`
	Detections []detectionBody    `json:"detections"`
	MS         map[string]float64 `json:"ms"`
}

// matchBody says that a's and b's detection are of one object.
type matchBody struct {
	A       int     `json:"a"`
	B       int     `json:"b"`
	Overlap float64 `json:"overlap"`
}

// sameObject is the overlap from which two detections of one class are of one
// object: VOC's.
const sameObject = 0.5

func (s *Server) compareRoutes(r *gin.RouterGroup) {
	r.POST("/compare", s.handle(s.compare))
}

func (s *Server) compare(c *gin.Context) error {
	q := parameters(c, append([]string{"a", "b"}, thresholdNames...)...)
	var sides [2]*served
	var settings [2]Settings
	for i, name := range []string{"a", "b"} {
		if q.text(name) == "" {
			q.fail("%s is missing: the name of a model", name)
		}
		if err := q.problem(); err != nil {
			return err
		}
		m, err := s.models.acquire(q.text(name))
		if err != nil {
			return err
		}
		defer m.release()
		sides[i], settings[i] = m, q.settings(m.Model)
	}
	wait, err := s.patienceOf(c)
	if err == nil {
		err = q.problem()
	}
	if err != nil {
		return err
	}
	uploads, err := s.uploads(c)
	defer func() { closeAll(uploads) }()
	switch {
	case err != nil:
		return err
	case len(uploads) > 1:
		return failf(400, "bad_form", "two models are compared on one picture; there are %d", len(uploads))
	}
	for _, m := range sides {
		if err := m.queue.reserve(1); err != nil {
			return err
		}
		defer m.queue.unreserve(1)
	}
	ctx, cancel := context.WithTimeoutCause(c.Request.Context(), wait, errDeadline)
	defer cancel()
	img, decode, err := s.decode(ctx, uploads[0])
	if err != nil {
		return err
	}
	founds, err := both(ctx, sides, img, settings)
	if err != nil {
		return err
	}
	size := img.Bounds()
	body := compareBody{Image: uploads[0].name, Width: size.Dx(), Height: size.Dy()}
	for i, side := range []*sideBody{&body.A, &body.B} {
		*side = sideBody{sides[i].Name, detections(sides[i].Model, founds[i].detections), milliseconds(decode, founds[i])}
	}
	body.Matches, body.OnlyA, body.OnlyB = match(sides, founds[0].detections, founds[1].detections)
	s.answer(c, 200, body)
	return nil
}

// both puts the picture in line for each model at once.
func both(ctx context.Context, sides [2]*served, img image.Image, settings [2]Settings) (founds [2]found, err error) {
	var errs [2]error
	var group sync.WaitGroup
	for i, m := range sides {
		group.Go(func() { founds[i], errs[i] = m.queue.detect(ctx, interactive, img, settings[i]) })
	}
	group.Wait()
	if errs[0] != nil {
		return founds, errs[0]
	}
	return founds, errs[1]
}

// match pairs detections of classes of one name: each of a's, the surest
// first, takes what overlaps it most of b's that are left. What has no
// partner is listed.
func match(sides [2]*served, a, b []Detection) (matches []matchBody, onlyA, onlyB []int) {
	matches, onlyA, onlyB = []matchBody{}, []int{}, []int{} // [], not null
	taken := make([]bool, len(b))
	for i, d := range a {
		best, most := -1, float32(sameObject)
		for j, e := range b {
			if taken[j] || sides[0].Info.Classes[d.Class].Name != sides[1].Info.Classes[e.Class].Name {
				continue
			}
			if overlap := box.IoU(d.Box, e.Box); overlap > most || best < 0 && overlap >= most {
				best, most = j, overlap
			}
		}
		if best < 0 {
			onlyA = append(onlyA, i)
			continue
		}
		taken[best] = true
		matches = append(matches, matchBody{i, best, float64(most)})
	}
	for j, t := range taken {
		if !t {
			onlyB = append(onlyB, j)
		}
	}
	return matches, onlyA, onlyB
}
