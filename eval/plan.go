package eval

// plan is what one class and area range needs to be evaluated under weights:
// only the rows that can make a difference, in the order of the scores.
type plan struct {
	objects []objectCount // images that have objects to be found
	rows    [2]keyRows    // baseline, candidate
}

type objectCount struct{ image, count int32 }

// keyRows are the rows of one result. Most rows are false positives at every
// threshold: of them only the image is kept, and sums of weights are taken over
// the stretches between key rows. Key rows are the others: hits at some
// threshold, and those that count at some thresholds only.
type keyRows struct {
	base   []int32 // images of the rows that count at every threshold, key rows among them
	images []int32 // by key row
	ends   []int32 // by key row: how many of base come up to it, itself included if it is in base
	at     []threshold
}

// threshold lists the key rows that matter at one IoU threshold, by score: the
// index of the row, shifted by rowFlags, with the flags.
type threshold []int32

const (
	rowHit   = 1 << iota // a true positive
	rowExtra             // counts at this threshold, but not at every one: it is not in base
	rowLast              // a hit, and the next row that counts is none
	rowFlags = iota
)

func newPlan(baseline, candidate *Result, class, area int) plan {
	var p plan
	for n, img := range baseline.Images {
		count := int32(0)
		for i := range img.Truths {
			if t := &img.Truths[i]; t.Class == class && baseline.Protocol.counts(t, area) {
				count++
			}
		}
		if count > 0 {
			p.objects = append(p.objects, objectCount{int32(n), count})
		}
	}
	if len(p.objects) > 0 {
		thresholds := len(baseline.Protocol.overlaps())
		p.rows[0] = newKeyRows(baseline.Rows(class), area, thresholds)
		p.rows[1] = newKeyRows(candidate.Rows(class), area, thresholds)
	}
	return p
}

func newKeyRows(rows []Row, area, thresholds int) keyRows {
	k := keyRows{at: make([]threshold, thresholds)}
	every := uint16(1)<<thresholds - 1
	open := make([]bool, thresholds) // whether a run of hits goes on
	end := func(t int) {
		if open[t] {
			k.at[t][len(k.at[t])-1] |= rowLast
			open[t] = false
		}
	}
	last := 0 // so many rows of base come before a key row
	for i := range rows {
		r := &rows[i]
		counts := every &^ r.skip[area]
		if counts == 0 {
			continue
		}
		if counts == every {
			k.base = append(k.base, r.Image)
			if r.hit[area] == 0 {
				for t := range k.at {
					end(t)
				}
				continue
			}
		}
		j := int32(len(k.images)) << rowFlags
		k.images = append(k.images, r.Image)
		last = len(k.base)
		k.ends = append(k.ends, int32(last))
		if counts != every {
			j |= rowExtra
		}
		for t := range k.at {
			switch {
			case counts>>t&1 == 0:
			case r.hit[area]>>t&1 != 0:
				k.at[t] = append(k.at[t], j|rowHit)
				open[t] = true
			default:
				end(t)
				if counts != every {
					k.at[t] = append(k.at[t], j)
				}
			}
		}
	}
	for t := range k.at {
		end(t)
	}
	k.base = k.base[:last]
	return k
}
