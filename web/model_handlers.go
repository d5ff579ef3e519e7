package web

import "github.com/gin-gonic/gin"

// modelsBody is the answer of /v1/models.
type modelsBody struct {
	Models []modelBody `json:"models"`
}

type modelBody struct {
	Name       string             `json:"name"`
	Arch       string             `json:"arch"`
	Classes    []Class            `json:"classes"`
	Input      inputBody          `json:"input"`
	Precision  string             `json:"precision"`
	Thresholds thresholdsBody     `json:"thresholds"`
	Scores     map[string]float64 `json:"scores"`
	Provenance provenanceBody     `json:"provenance"`
	Default    bool               `json:"default"`
}

// inputBody is the rule by which pictures are scaled and padded.
type inputBody struct {
	ShortSide int `json:"short_side"`
	LongSide  int `json:"long_side"`
	Multiple  int `json:"multiple"`
}

// thresholdsBody are the model's own, used where a request does not say.
type thresholdsBody struct {
	Score float32 `json:"score"`
	NMS   float32 `json:"nms"`
	Max   int     `json:"max"`
}

type provenanceBody struct {
	Source  string `json:"source,omitempty"`
	License string `json:"license,omitempty"`
	Data    string `json:"data,omitempty"`
}

func (s *Server) modelRoutes(r *gin.RouterGroup) {
	r.GET("/models", func(c *gin.Context) {
		body := modelsBody{Models: []modelBody{}}
		for i, m := range s.models.all() {
			b := describe(m.Model)
			b.Default = i == 0
			body.Models = append(body.Models, b)
			m.release()
		}
		s.answer(c, 200, body)
	})
}

func describe(m Model) modelBody {
	scores := m.Info.Scores
	if scores == nil {
		scores = map[string]float64{}
	}
	t := m.Info.Transform
	return modelBody{
		Name: m.Name, Arch: m.Info.Arch, Classes: m.Info.Classes, Precision: m.Info.Precision, Scores: scores,
		Input:      inputBody{t.ShortSide, t.LongSide, t.PadMultiple},
		Thresholds: thresholdsBody{m.Settings.Score, m.Settings.NMS, m.Settings.Max},
		Provenance: provenanceBody{m.Info.Source, m.Info.License, m.Info.Data},
	}
}
