package lease

import (
	"cmp"
	"fmt"
	"time"
)

// The records, as they are in etcd: JSON, in snake case, unknown fields ignored, and kept where a record is written back (Foreign). What identifies a record (its key)
// and what fences it (etcd's revisions) is not repeated in its value.

// Worker is a worker that is alive.
type Worker struct {
	ID          string `json:"-"`
	Incarnation int64  `json:"-"` // create revision of its key

	UUID      string    `json:"uuid"` // of this process, to tell it from another that has the same id
	Host      string    `json:"host"`
	Zone      string    `json:"zone,omitempty"`       // failure domain; load is spread over zones as over workers
	Capacity  int       `json:"capacity"`             // relative to other workers; 1 is ordinary
	MaxShards int       `json:"max_shards,omitempty"` // it must not have more; 0: any number
	Started   time.Time `json:"started"`
	Draining  bool      `json:"draining,omitempty"` // wants to hand over everything and leave

	// Lock names something that its process has held since before it registered, and loses only by ending. Whoever can see that it
	// is not held any more may bury the worker, see [Store.Bury]. Empty: there is no such thing.
	Lock string `json:"lock,omitempty"`
}

// Ref names one incarnation of a worker. The zero Ref is nobody.
type Ref struct {
	Worker      string `json:"worker"`
	Incarnation int64  `json:"incarnation"`
}

// Ref names this incarnation.
func (w Worker) Ref() Ref { return Ref{w.ID, w.Incarnation} }

// Range is a range as its keys have it.
type Range struct {
	ID    RangeID
	Owner Ref   // nobody, if the last owner released it or there never was one
	Fence int64 // modification revision of its owner key; 0 if it never had an owner
	Move  *Move // nil if it is not to be handed over
}

// Move is the leader's intent that a range's owner hands it over.
type Move struct {
	To       Ref   `json:"to"`              // nobody: release it, for want of a worker that could have it
	Ready    bool  `json:"ready,omitempty"` // To has said that it is prepared
	Revision int64 `json:"-"`
}

// Assignment is what a worker has to do with one range. It copies what the owner and move keys say, in one place that a
// worker can watch.
type Assignment struct {
	Range       RangeID `json:"-"`
	Incarnation int64   `json:"incarnation"` // of the worker it is meant for
	Fence       int64   `json:"fence"`       // of the ownership it speaks of; written as 0 where it is the key's own revision
	HandOver    bool    `json:"hand_over,omitempty"`
	To          Ref     `json:"to,omitzero"`     // whom to hand over to; nobody: release
	Ready       bool    `json:"ready,omitempty"` // To is prepared
	Move        int64   `json:"-"`               // revision of the move, if HandOver
}

// Notice tells a worker that a range is to be handed over to it, so that it can prepare. It gives no right to the range. It is where
// an Assignment would be, and the transaction that ends the move deletes it or puts one in its place.
type Notice struct {
	Range       RangeID `json:"-"`
	Incarnation int64   `json:"incarnation"` // of the worker it is meant for
	Prepare     bool    `json:"prepare"`     // true: tells it from an Assignment
	Owner       Ref     `json:"owner"`       // who is to hand over
	OwnerFence  int64   `json:"owner_fence"`
	Move        int64   `json:"-"` // revision of the move
}

// Session is what a new owner needs to RESUME a shard: everything but the sequence number, which is where the shard's
// Redis stream ends. ID is empty from the moment a slot was claimed for Epoch until Discord said READY.
type Session struct {
	Epoch     uint64 `json:"epoch"`
	ID        string `json:"session_id"`
	ResumeURL string `json:"resume_url"`
	Shards    int    `json:"shards"`          // total the session was identified with
	Muted     bool   `json:"muted,omitempty"` // its events are not in the shard's stream, which is the former generation's: see [Ownership.Unmute]
	From      int64  `json:"from,omitempty"`  // of a session that was muted: the sequence number that its first entry comes after

	Revision int64 `json:"-"`
}

// String leaves the session id out, as logs must.
func (s Session) String() string {
	if s.ID == "" {
		return "no session"
	}
	return "session"
}

// GoString is String, for %#v.
func (s Session) GoString() string { return s.String() }

// RequestID names an identify request. A shard can have two for a moment, of its former and of its present owner.
type RequestID struct {
	Worker string
	Shard  ShardID
}

// IdentifyRequest is a shard's wish to IDENTIFY and, once Granted, the slot it may claim.
type IdentifyRequest struct {
	Worker   string  `json:"-"`
	Shard    ShardID `json:"-"`
	Revision int64   `json:"-"` // if Granted, also the revision of the slot

	Incarnation int64 `json:"incarnation"`
	Fence       int64 `json:"fence"`
	Repair      bool  `json:"repair,omitempty"` // it had a session before: may use the budget's reserve
	Granted     bool  `json:"granted,omitempty"`
	Bucket      int   `json:"bucket"` // set when granted

	Foreign `json:"-"`
}

// SlotState is how far the last permit of a bucket has come.
type SlotState string

// A slot is opened by the leader, claimed by the worker just before it sends IDENTIFY, and sent when it did.
// The leader voids a slot that is not claimed in time.
const (
	SlotOpen    SlotState = "open"
	SlotClaimed SlotState = "claimed"
	SlotSent    SlotState = "sent"
	SlotVoid    SlotState = "void"
)

// Slot is the last identify permit of one bucket.
type Slot struct {
	Bucket   int   `json:"-"`
	Revision int64 `json:"-"`

	State  SlotState     `json:"state"`
	Shard  ShardID       `json:"shard"`
	Worker Ref           `json:"worker"`
	Delta  time.Duration `json:"delta_ns,omitempty"` // if sent: from just before the claim to the IDENTIFY

	Foreign `json:"-"`
}

// Budget is how many IDENTIFYs Discord still accepts. Only the leader writes it.
type Budget struct {
	Revision int64 `json:"-"`

	Total          int       `json:"total"`
	Remaining      int       `json:"remaining"`
	MaxConcurrency int       `json:"max_concurrency"`
	ResetAt        time.Time `json:"reset_at"` // by the leader's clock; for people, and to know when to ask again

	Foreign `json:"-"`
}

// Status is what a worker says of itself, for people and for balance. Nothing is decided for safety by it.
type Status struct {
	Worker string `json:"-"`

	Shards map[int]ShardStatus `json:"shards"`
	Next   map[int]ShardStatus `json:"next,omitempty"` // of the generation that is being prepared
	// Loads are the events a second of the ranges it runs, to two significant digits; of those only whose shards were all live for the
	// whole time that was measured.
	Loads           map[RangeID]float64 `json:"loads,omitempty"`
	EventsPerSecond float64             `json:"events_per_second"`
	BytesPerSecond  float64             `json:"bytes_per_second"`
	BufferedBytes   int64               `json:"buffered_bytes"`
	RedisFailing    bool                `json:"redis_failing,omitempty"` // Redis takes no writes from this worker
	// Counters since the worker started.
	Events     uint64 `json:"events"`
	Entries    uint64 `json:"entries"`
	Identifies uint64 `json:"identifies"`
	Resumes    uint64 `json:"resumes"`
	Gaps       uint64 `json:"gaps"`
}

// StateMuted is the state of a shard of the generation being prepared that may be put in force: its session is live, and can be
// gone on with from a point that lies far enough back.
const StateMuted = "muted"

// States of a shard that its worker holds without running it.
const (
	StateDown   = "down"   // the cluster is down by order
	StateHalted = "halted" // the fleet is halted
)

// ShardStatus is one shard as its worker sees it: a session's state, or one of those above.
type ShardStatus struct {
	Generation int     `json:"generation"` // that the shard is of
	State      string  `json:"state"`
	Epoch      uint64  `json:"epoch"`
	LatencyMS  float64 `json:"latency_ms"`
	Error      string  `json:"error,omitempty"` // why it is not ready, if it is known
}

// Halt says why the whole fleet must not connect. It lasts as long as the worker that raised it.
type Halt struct {
	Worker string `json:"-"`

	Reason string    `json:"reason"`
	Shard  int       `json:"shard"`
	At     time.Time `json:"at"`
}

// Refusal says that Discord does not accept a generation's number of shards, as it told one worker: the first such answer that worker
// got in the generation. It lasts as long as the worker, and is about nothing once another generation is in force.
type Refusal struct {
	Worker     string `json:"-"`
	Generation int    `json:"-"`

	Shard  int       `json:"shard"`
	Code   int       `json:"code"` // Discord's close code
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// RefusalID names a refusal. A worker may have been refused both the generation in force and the one that is being prepared.
type RefusalID struct {
	Worker     string
	Generation int
}

func (r RefusalID) String() string { return fmt.Sprintf("%s/%d", r.Worker, r.Generation) }

// Compare orders refusals by worker, then generation.
func (r RefusalID) Compare(o RefusalID) int {
	return cmp.Or(cmp.Compare(r.Worker, o.Worker), r.Generation-o.Generation)
}

// Alarm is what only a person can mend: why the leader does not replace a plan that Discord refuses. The zero Alarm is none.
type Alarm struct {
	Text string    `json:"text"` // with the cure
	At   time.Time `json:"at"`
}

// Era is the time from one restoration of etcd from a backup to the next.
type Era struct {
	ID string `json:"id"` // random
}

// Leader is the coordinator that leads, or the last one that did.
type Leader struct {
	ID   string `json:"id"`
	Term int64  `json:"term"`
}
