package data

import "math/rand/v2"

// Position is a place in a run's sequence of batches: the next one is Batch of
// Epoch, both from 0. The zero Position is the beginning.
type Position struct {
	Epoch int `json:"epoch"`
	Batch int `json:"batch"`
}

// Sampler orders the images of a set: in every epoch another permutation, cut
// into batches of images of one kind, wide or high, so that little is padded.
// Each image comes once; where a kind does not fill its last batch, its first
// images come again. What it gives follows from its fields alone.
type Sampler struct {
	seed     uint64
	batch    int
	portrait []bool
}

// NewSampler returns the sampler of a set.
func NewSampler(s *Set, batch int, seed uint64) *Sampler {
	return &Sampler{seed: seed, batch: batch, portrait: s.portrait}
}

// Batches returns how many an epoch has.
func (s *Sampler) Batches() int {
	high := 0
	for _, p := range s.portrait {
		if p {
			high++
		}
	}
	up := func(n int) int { return (n + s.batch - 1) / s.batch }
	return up(high) + up(len(s.portrait)-high)
}

// Epoch returns the batches of an epoch, each a list of indices in the set.
func (s *Sampler) Epoch(epoch int) [][]int {
	order := random(s.seed, epoch, streamOrder).Perm(len(s.portrait))
	var batches [][]int
	var open, first [2][]int // by kind: the batch being filled, the first images
	for _, i := range order {
		k := 0
		if s.portrait[i] {
			k = 1
		}
		if len(first[k]) < s.batch {
			first[k] = append(first[k], i)
		}
		if open[k] = append(open[k], i); len(open[k]) == s.batch {
			batches = append(batches, open[k])
			open[k] = nil
		}
	}
	for k, b := range open {
		if len(b) == 0 {
			continue
		}
		for n := 0; len(b) < s.batch; n++ {
			b = append(b, first[k][n%len(first[k])])
		}
		batches = append(batches, b)
	}
	return batches
}

// Next returns the position after p.
func (s *Sampler) Next(p Position) Position {
	if p.Batch++; p.Batch >= s.Batches() {
		p = Position{Epoch: p.Epoch + 1}
	}
	return p
}

// What random numbers are for; images have their index from 0 on.
const (
	streamOrder = -1 - iota
	streamBatch
)

// random returns the random numbers for one thing of an epoch.
func random(seed uint64, epoch, thing int) *rand.Rand {
	return rand.New(rand.NewPCG(mix(seed^mix(uint64(epoch)+1)), uint64(int64(thing))))
}

// mix spreads a small number's bits over the word (SplitMix64, Steele et al.
// 2014): generators of neighbouring seeds must have nothing in common.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
