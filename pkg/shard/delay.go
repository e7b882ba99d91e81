package shard

import (
	"math/rand/v2"
	"time"
)

// delay is a wait whose length is left open between two bounds. Decisions return delays; only the shell around them
// draws the number, so that the decisions stay plain functions.
type delay struct {
	min, max time.Duration
}

// exactly is a delay without jitter.
func exactly(d time.Duration) delay { return delay{d, d} }

// draw picks a length from [min, max), or min if the two are equal.
func (d delay) draw() time.Duration {
	if d.max <= d.min {
		return d.min
	}
	return d.min + rand.N(d.max-d.min)
}

// atLeast raises the bounds to those of other where they are lower.
func (d delay) atLeast(other delay) delay {
	return delay{max(d.min, other.min), max(d.max, other.max)}
}
