package eval

// ProposalRecall says how many objects the first stage's regions cover: average
// recall over IoU 0.5…0.95, whatever the class, with the best 100, 300 and
// 1000 regions of each image (COCO's AR with useCats=0).
type ProposalRecall struct {
	AR100    Value   `json:"AR100"`
	AR300    Value   `json:"AR300"`
	AR1000   Value   `json:"AR1000"`
	PerImage float64 `json:"proposals_per_image"` // mean
	Objects  int     `json:"objects"`
}

// proposalRecall returns nil if no image has proposals.
func proposalRecall(cfg Config, images []*Image) *ProposalRecall {
	limits := [3]int{100, 300, 1000}
	var hits [3]int // by limit, summed over thresholds
	total, objects := 0, 0
	var taken []bool
	for _, img := range images {
		total += len(img.Proposals)
		var truths []*Truth
		for j := range img.Truths {
			if cfg.Protocol.counts(&img.Truths[j], 0) {
				truths = append(truths, &img.Truths[j])
			}
		}
		objects += len(truths)
		props := img.Proposals[:min(len(img.Proposals), limits[2])]
		iou := make([]float64, len(props)*len(truths))
		for i := range props {
			for j, t := range truths {
				iou[i*len(truths)+j] = overlap(props[i], t.Box, false)
			}
		}
		taken = resize(taken, len(truths))
		for _, threshold := range cocoOverlaps {
			clear(taken)
			for i := range props {
				found, best := -1, threshold
				for j := range truths {
					if v := iou[i*len(truths)+j]; !taken[j] && v >= best {
						found, best = j, v
					}
				}
				if found < 0 {
					continue
				}
				taken[found] = true
				for l, limit := range limits {
					if i < limit {
						hits[l]++
					}
				}
			}
		}
	}
	if total == 0 {
		return nil
	}
	ar := func(hits int) Value {
		if objects == 0 {
			return Absent()
		}
		return Value(float64(hits) / float64(objects*len(cocoOverlaps)))
	}
	return &ProposalRecall{ar(hits[0]), ar(hits[1]), ar(hits[2]), float64(total) / float64(len(images)), objects}
}
