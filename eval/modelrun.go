package eval

// ModelRun says which model gave the detections, how it was run and what that
// cost.
type ModelRun struct {
	Model     string `json:"file"`
	Arch      string `json:"arch"`
	Device    string `json:"device"`
	Precision string `json:"precision"`
	Threads   int    `json:"threads"`
	// The model's thresholds in this run.
	Score   float64 `json:"score"`
	NMS     float64 `json:"nms"`
	MaxDets int     `json:"max_dets"`
	// Classes of the model that the data set has, of how many.
	Mapped  int `json:"classes_in_data"`
	Classes int `json:"classes"`

	Parameters int64   `json:"parameters"`
	GMAC       float64 `json:"gmac"`           // per image, mean
	Millis     float64 `json:"ms_per_image"`   // median, without compiling for new shapes
	PeakMB     float64 `json:"peak_memory_mb"` // of the process while it ran
}

// Costs are those of the two models of a comparison.
type Costs struct {
	Baseline  *ModelRun `json:"baseline"`
	Candidate *ModelRun `json:"candidate"`
}
