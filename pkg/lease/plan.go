package lease

import "fmt"

// MaxShards is how many shards a plan has at most: twice what muster is made for, and far more than Discord gives any bot.
const MaxShards = 200_000

// Cut is a number of shards, cut into ranges: what makes a generation. The zero Cut is none.
type Cut struct {
	Generation int `json:"generation"`
	Shards     int `json:"shards"`
	RangeSize  int `json:"range_size"`
}

// check says what keeps a cut from being one that can be worked with.
func (c Cut) check() error {
	if c.Generation < 1 || min(c.Shards, c.RangeSize) < 1 || max(c.Shards, c.RangeSize) > MaxShards {
		return fmt.Errorf("generation %d, %d shards, ranges of %d: all must be positive, and there may be %d shards", c.Generation, c.Shards, c.RangeSize, MaxShards)
	}
	return nil
}

// Plan is the generation in force, and what there is of others: the one that is being prepared to follow it, and the one before it.
// They are one record, so that nobody sees one of them change without the others.
type Plan struct {
	Generation int `json:"generation"`
	Shards     int `json:"shards"`
	RangeSize  int `json:"range_size"`

	GatewayURL string `json:"gateway_url"` // where Discord says to connect

	Refused int `json:"refused,omitempty"` // the number of shards of the generation before, if Discord refused that; else 0

	// Next is being prepared: its shards identify and run, muted, while this generation serves. Zero: none is.
	Next Cut `json:"next,omitzero"`
	// Former was in force before this generation, which was prepared beside it, so that its sessions are brought to their ends and then
	// gone on with. Zero: this generation was not prepared, and began anew.
	Former Cut `json:"former,omitzero"`
	// Last is the latest generation that ever was prepared, also if that was given up. No number is used twice.
	Last int `json:"last,omitempty"`

	Revision int64 `json:"-"`
	Foreign  `json:"-"`
}

// Ranges is how many ranges the plan has.
func (p Plan) Ranges() int {
	if p.RangeSize == 0 {
		return 0
	}
	return (p.Shards + p.RangeSize - 1) / p.RangeSize
}

// ShardsOf lists the shards of a range in ascending order. It is empty for a range of another generation.
func (p Plan) ShardsOf(r RangeID) []int {
	if r.Generation != p.Generation {
		return nil
	}
	var shards []int
	for shard := r.Index * p.RangeSize; shard < min((r.Index+1)*p.RangeSize, p.Shards); shard++ {
		shards = append(shards, shard)
	}
	return shards
}

// RangeOf is the range a shard is in.
func (p Plan) RangeOf(shard int) RangeID { return RangeID{p.Generation, shard / p.RangeSize} }

// Of is the plan as it is, would be or was when the given generation is in force: this one, Next or Former. It is false for any other.
func (p Plan) Of(generation int) (Plan, bool) {
	if generation == p.Generation && generation != 0 {
		return p, true
	}
	for _, cut := range []Cut{p.Next, p.Former} {
		if generation == cut.Generation && generation != 0 {
			return Plan{Generation: cut.Generation, Shards: cut.Shards, RangeSize: cut.RangeSize, GatewayURL: p.GatewayURL}, true
		}
	}
	return Plan{}, false
}

// NewGeneration is a number that no generation ever had.
func (p Plan) NewGeneration() int { return max(p.Generation, p.Last) + 1 }

// Standing is what a generation is to a plan.
type Standing int

// The standings of a generation.
const (
	InForce   Standing = iota + 1
	Preparing          // its shards run, muted
	Finishing          // its shards are brought to the ends of their streams, and then given up
	Over               // nothing of it is to run
	Unknown            // the plan that it belongs to is later than this one
)

// Standing says what a generation is to this plan.
func (p Plan) Standing(generation int) Standing {
	switch {
	case generation == p.Generation:
		return InForce
	case generation == p.Next.Generation:
		return Preparing
	case generation == p.Former.Generation:
		return Finishing
	case generation < p.NewGeneration():
		return Over
	default:
		return Unknown
	}
}

// flipped is the plan with Next in force.
func (p Plan) flipped() Plan {
	next := p
	next.Generation, next.Shards, next.RangeSize = p.Next.Generation, p.Next.Shards, p.Next.RangeSize
	next.Former, next.Next, next.Refused = Cut{p.Generation, p.Shards, p.RangeSize}, Cut{}, 0
	return next
}
