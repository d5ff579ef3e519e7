package eval

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
)

// lanes is how many samples are drawn together: their weights stand side by
// side in the 16-bit lanes of one word, and one addition counts for all.
const lanes = 4

// differences are those of one figure, by sample; NaN where it is absent.
type differences []float64

// interval returns percentiles 2.5 and 97.5 of the differences that are
// present, interpolated as np.percentile does.
func (d differences) interval() Interval {
	sorted := make([]float64, 0, len(d))
	for _, v := range d {
		if v == v {
			sorted = append(sorted, v)
		}
	}
	if len(sorted) == 0 {
		return Interval{Absent(), Absent()}
	}
	slices.Sort(sorted)
	at := func(q float64) Value {
		x := q * float64(len(sorted)-1)
		i := int(x)
		j := min(i+1, len(sorted)-1)
		return Value(sorted[i] + (sorted[j]-sorted[i])*(x-float64(i)))
	}
	return Interval{at(0.025), at(0.975)}
}

// gains are the differences of all figures.
type gains struct {
	all   [numAreas]differences // mean over classes, by area range
	class []differences         // in range "all"
}

// bootstrap draws the images with replacement, as often as there are images,
// and notes candidate − baseline. Matches are not done again: an image drawn n
// times weighs n in the sums over the rows, which is what evaluating n copies
// of it would give.
func bootstrap(ctx context.Context, baseline, candidate *Result, cfg CompareConfig, areas int) (*gains, error) {
	classes := len(baseline.classes)
	out := &gains{class: make([]differences, classes)}
	for a := range areas {
		out.all[a] = make(differences, cfg.Samples)
	}
	for k := range out.class {
		out.class[k] = make(differences, cfg.Samples)
	}
	plans := make([]plan, classes*areas)
	parallel(classes, func(k int) {
		for a := range areas {
			plans[k*areas+a] = newPlan(baseline, candidate, k, a)
		}
	})
	blocks := (cfg.Samples + lanes - 1) / lanes
	parallelWorkers(blocks, func() func(int) {
		w := newSampler(len(baseline.Images), baseline.Protocol)
		return func(block int) {
			if ctx.Err() != nil {
				return
			}
			w.draw(cfg.Seed, block)
			var sums [2][numAreas][lanes]float64
			var present [numAreas][lanes]int
			for k := range classes {
				for a := range areas {
					p := &plans[k*areas+a]
					if len(p.objects) == 0 {
						if a == 0 {
							w.store(out.class[k], block, [lanes]float64{math.NaN(), math.NaN(), math.NaN(), math.NaN()})
						}
						continue
					}
					w.count(p)
					b, c := w.ap(&p.rows[0]), w.ap(&p.rows[1])
					var diff [lanes]float64
					for l := range lanes {
						diff[l] = c[l] - b[l]
						if w.objects[l] > 0 {
							sums[0][a][l] += b[l]
							sums[1][a][l] += c[l]
							present[a][l]++
						}
					}
					if a == 0 {
						w.store(out.class[k], block, diff)
					}
				}
			}
			for a := range areas {
				var diff [lanes]float64
				for l := range lanes {
					diff[l] = (sums[1][a][l] - sums[0][a][l]) / float64(present[a][l]) // 0/0 is absent
				}
				w.store(out.all[a], block, diff)
			}
		}
	})
	return out, ctx.Err()
}

// sampler evaluates one block of samples after the other; it keeps scratch.
type sampler struct {
	points   []float64 // the protocol's recall points; nil for the area
	weights  []uint64  // by image: how often it was drawn, four lanes of 16 bits
	safe     int       // so many weights may be added before a lane overflows
	objects  [lanes]int
	recalled [lanes][]float64 // by number of hits: the recall points reached, as a share
	base     [2][]uint64      // by key row: the weight of the rows that always count, up to it
	drawn    [2][]uint64      // by key row: its weight
}

// Sums stand in two lanes of 32 bits, which hold any count: word 0 has lanes 0
// and 2, word 1 has lanes 1 and 3.
const evenLanes = 0x0000ffff0000ffff

func newSampler(images int, p Protocol) *sampler {
	return &sampler{points: p.points(), weights: make([]uint64, images)}
}

// draw fills the weights of a block. They depend on seed and block alone.
func (w *sampler) draw(seed uint64, block int) {
	clear(w.weights)
	n := uint32(len(w.weights))
	for l := range lanes {
		rng := rand.NewPCG(seed, uint64(block*lanes+l))
		r := rand.New(rng)
		one := uint64(1) << (16 * l)
		for range n {
			w.weights[r.Uint32N(n)] += one
		}
	}
	most := uint64(1)
	for _, v := range w.weights {
		most = max(most, v&0xffff, v>>16&0xffff, v>>32&0xffff, v>>48)
	}
	w.safe = int(0xffff / most)
}

// store writes a block's figures to its samples.
func (w *sampler) store(to differences, block int, values [lanes]float64) {
	copy(to[block*lanes:], values[:])
}

// count notes the number of objects in each lane, and what recall each number
// of hits gives.
func (w *sampler) count(p *plan) {
	w.objects = [lanes]int{}
	for _, o := range p.objects {
		v := w.weights[o.image]
		for l := range lanes {
			w.objects[l] += int(v>>(16*l)&0xffff) * int(o.count)
		}
	}
	for l := range lanes {
		w.recalled[l] = reached(w.recalled[l], w.points, w.objects[l])
	}
}

// reached returns, for 0…n hits of n objects, the share of the recall points
// that are reached, or the recall itself where points is nil.
func reached(out, points []float64, n int) []float64 {
	out = resize(out, n+1)
	if points == nil {
		for c := range out {
			out[c] = float64(c) / float64(max(n, 1))
		}
		return out
	}
	c := 0
	for i, r := range points {
		need := int(math.Ceil(r * float64(n))) // give or take one by rounding
		for need > 0 && float64(need-1)/float64(n) >= r {
			need--
		}
		for need <= n && float64(need)/float64(n) < r {
			need++
		}
		share := float64(i) / float64(len(points))
		for ; c < min(need, n+1); c++ {
			out[c] = share
		}
	}
	for ; c <= n; c++ {
		out[c] = 1
	}
	return out
}

// ap returns the average precision in each lane, mean over the IoU thresholds.
func (w *sampler) ap(rows *keyRows) [lanes]float64 {
	w.prefix(rows)
	var sums [lanes]float64
	for _, t := range rows.at {
		for word := range 2 {
			a, b := w.integrate(t, word)
			sums[word] += a
			sums[word+2] += b
		}
	}
	for l := range sums {
		sums[l] /= float64(len(rows.at))
		if w.objects[l] == 0 {
			sums[l] = math.NaN()
		}
	}
	return sums
}

// prefix sums the weights of the rows that count at every threshold up to each
// key row, in all lanes at once.
func (w *sampler) prefix(rows *keyRows) {
	n := len(rows.images)
	for word := range 2 {
		w.base[word], w.drawn[word] = resize(w.base[word], n), resize(w.drawn[word], n)
	}
	var even, odd uint64
	start := int32(0)
	for j, end := range rows.ends {
		for start < end {
			part := rows.base[start:min(end, start+int32(w.safe))]
			start += int32(len(part))
			sum := uint64(0)
			for _, image := range part {
				sum += w.weights[image]
			}
			even += sum & evenLanes
			odd += sum >> 16 & evenLanes
		}
		v := w.weights[rows.images[j]]
		w.base[0][j], w.base[1][j] = even, odd
		w.drawn[0][j], w.drawn[1][j] = v&evenLanes, v>>16&evenLanes
	}
}

// integrate returns the AP at one threshold in the two lanes of a word. It
// walks from the lowest score up, so that the envelope is the largest precision
// so far; precision matters only at the last hit of a run of hits, because it
// rises within one.
func (w *sampler) integrate(rows threshold, word int) (float64, float64) {
	base, drawn := w.base[word], w.drawn[word]
	recalledA, recalledB := w.recalled[word], w.recalled[word+2]
	var hits, extra uint64 // at the row, in two lanes; extra: rows that are not in base
	for _, r := range rows {
		v := drawn[r>>rowFlags]
		if r&rowHit != 0 {
			hits += v
		}
		if r&rowExtra != 0 {
			extra += v
		}
	}
	var sumA, sumB, envelopeA, envelopeB, lastA, lastB float64
	for i := len(rows) - 1; i >= 0; i-- {
		r := rows[i]
		v := drawn[r>>rowFlags]
		if r&rowLast != 0 {
			total := base[r>>rowFlags] + extra
			a, b := uint32(hits), uint32(hits>>32)
			reachedA, reachedB := recalledA[a], recalledB[b]
			sumA += envelopeA * (lastA - reachedA)
			sumB += envelopeB * (lastB - reachedB)
			lastA, lastB = reachedA, reachedB
			// With no weight at all so far the hits are 0 too: 0/1.
			envelopeA = math.Float64frombits(max(math.Float64bits(envelopeA), math.Float64bits(float64(a)/float64(max(uint32(total), 1)))))
			envelopeB = math.Float64frombits(max(math.Float64bits(envelopeB), math.Float64bits(float64(b)/float64(max(total>>32, 1)))))
		}
		if r&rowHit != 0 {
			hits -= v
		}
		if r&rowExtra != 0 {
			extra -= v
		}
	}
	return sumA + envelopeA*lastA, sumB + envelopeB*lastB
}
