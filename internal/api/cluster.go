// Package api is what the coordinator's HTTP API speaks: the JSON of /v1/cluster, for its server, the command line and tests.
package api

import "time"

// Cluster is the answer of GET /v1/cluster: the cluster as one coordinator sees it.
type Cluster struct {
	Cluster     string     `json:"cluster"`
	Revision    int64      `json:"revision"` // of etcd
	Generation  int        `json:"generation"`
	Shards      int        `json:"shards"`
	RangeSize   int        `json:"range_size"`
	Next        *Next      `json:"next,omitempty"` // nil: no other number of shards is being prepared
	Finishing   int        `json:"finishing"`      // ranges of the former generation that are being brought to their ends
	Leader      string     `json:"leader"`         // a coordinator's id; empty if there is none
	Term        int64      `json:"term"`
	AnsweredBy  string     `json:"answered_by"`
	At          time.Time  `json:"at"`
	UnreadSince *time.Time `json:"unread_since,omitempty"` // since when etcd does not answer AnsweredBy; nil: it does
	Troubles    []Trouble  `json:"troubles"`               // what is wrong, the worst first; see [Troubles]
	Halted      []Halt     `json:"halted"`
	Refused     []Refusal  `json:"refused"`
	Alarm       string     `json:"alarm,omitempty"` // why a refused plan is not replaced, and what a person has to do
	Directives  Directives `json:"directives"`
	Budget      Budget     `json:"budget"`
	Workers     []Worker   `json:"workers"`
	Ranges      []Range    `json:"ranges"`
	Buckets     []Bucket   `json:"buckets"`
	ShardStates []Shard    `json:"shard_states"`
}

// Ordered is the answer to an order: what stands now, as in a Cluster of this revision or a later one.
type Ordered struct {
	Revision   int64      `json:"revision"`
	Directives Directives `json:"directives"`
}

// Directives are the operators' orders that stand.
type Directives struct {
	Down      *Down      `json:"down"` // null: the cluster is up
	Reshard   *Reshard   `json:"reshard"`
	Rebalance *Rebalance `json:"rebalance"`
	Drains    []Drain    `json:"drains"`
}

// Down is the order to hold the cluster without sockets.
type Down struct {
	EndSessions bool      `json:"end_sessions"`
	At          time.Time `json:"at"`
}

// Reshard is the order to change the number of shards.
type Reshard struct {
	Shards  int       `json:"shards"`
	Abort   bool      `json:"abort,omitempty"`   // it is being given up
	Refused string    `json:"refused,omitempty"` // why it will not be done
	At      time.Time `json:"at"`
}

// Rebalance is the order to even out load now.
type Rebalance struct {
	At time.Time `json:"at"`
}

// Drain is the order that an incarnation of a worker hands over all it has.
type Drain struct {
	Worker      string    `json:"worker"`
	Incarnation int64     `json:"incarnation"`
	At          time.Time `json:"at"`
}

// Next is another number of shards that is being prepared beside the one in force.
type Next struct {
	Generation int `json:"generation"`
	Shards     int `json:"shards"`
	Ready      int `json:"ready"` // of them, shards that may be put in force
}

// Halt is a reason why the fleet must not connect.
type Halt struct {
	Worker string `json:"worker"`
	Shard  int    `json:"shard"`
	Reason string `json:"reason"`
}

// Refusal says that Discord does not accept the number of shards, as it told one worker.
type Refusal struct {
	Worker string `json:"worker"`
	Shard  int    `json:"shard"`
	Code   int    `json:"code"` // Discord's close code
	Reason string `json:"reason"`
}

// Budget is what is left of Discord's session start limit.
type Budget struct {
	Total          int       `json:"total"`
	Remaining      int       `json:"remaining"`
	Reserve        int       `json:"reserve"` // the part of Total that only shards which had a session before may use
	MaxConcurrency int       `json:"max_concurrency"`
	ResetAt        time.Time `json:"reset_at"`
	Waiting        int       `json:"waiting"` // shards that want to identify and cannot before ResetAt
}

// Bucket is one of Discord's identify buckets (shard_id % max_concurrency), and its last permit.
type Bucket struct {
	Bucket int    `json:"bucket"`
	State  string `json:"state"` // open, claimed, sent or void
	Shard  int    `json:"shard"` // that it was for
}

// Worker is a worker that is alive.
type Worker struct {
	ID              string    `json:"id"`
	Incarnation     int64     `json:"incarnation"`
	Host            string    `json:"host"`
	Zone            string    `json:"zone,omitempty"`
	Capacity        int       `json:"capacity"`
	MaxShards       int       `json:"max_shards,omitempty"` // 0: any number
	Draining        bool      `json:"draining"`             // it leaves, or is to hand over everything by order
	Started         time.Time `json:"started"`
	Shards          int       `json:"shards"`
	EventsPerSecond float64   `json:"events_per_second"`
	BytesPerSecond  float64   `json:"bytes_per_second"`
	BufferedBytes   int64     `json:"buffered_bytes"`
	RedisFailing    bool      `json:"redis_failing"` // Redis takes no writes from it
	Events          uint64    `json:"events"`
	Entries         uint64    `json:"entries"`
	Identifies      uint64    `json:"identifies"`
	Resumes         uint64    `json:"resumes"`
	Gaps            uint64    `json:"gaps"`
}

// Range is a range of shards and who has it.
type Range struct {
	Range  int    `json:"range"`
	First  int    `json:"first_shard"`
	Last   int    `json:"last_shard"`
	Owner  string `json:"owner"` // empty: nobody
	MoveTo string `json:"move_to,omitempty"`
	Moving bool   `json:"moving,omitempty"`

	EventsPerSecond float64 `json:"events_per_second,omitempty"` // as its owner measured it last; 0 also if it has not
}

// Shard states. All but the first are not a session's.
const (
	StateLive       = "live"       // the one state of a session in which events come
	StateUnassigned = "unassigned" // no living worker owns the shard
	StateUnknown    = "unknown"    // its worker has not said how it is
	StateDown       = "down"       // its worker holds it without a socket, since the cluster is down by order
	StateHalted     = "halted"     // the same, since the fleet is halted
)

// Shard is one shard as its worker sees it.
type Shard struct {
	Shard     int     `json:"shard"`
	Worker    string  `json:"worker"`
	State     string  `json:"state"`
	Epoch     uint64  `json:"epoch"`
	LatencyMS float64 `json:"latency_ms"`
	Error     string  `json:"error,omitempty"`
}
