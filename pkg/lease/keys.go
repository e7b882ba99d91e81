package lease

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// RangeID names a range: contiguous shards of one generation, the unit of leasing.
type RangeID struct {
	Generation int
	Index      int
}

func (r RangeID) String() string { return fmt.Sprintf("%d/%d", r.Generation, r.Index) }

// MarshalText is String.
func (r RangeID) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *RangeID) UnmarshalText(text []byte) (err error) {
	r.Generation, r.Index, err = parsePair(string(text))
	return err
}

// Compare orders ranges by generation, then index.
func (r RangeID) Compare(o RangeID) int {
	if r.Generation != o.Generation {
		return r.Generation - o.Generation
	}
	return r.Index - o.Index
}

// ShardID names a shard of one generation.
type ShardID struct {
	Generation int
	Shard      int
}

func (s ShardID) String() string { return fmt.Sprintf("%d/%d", s.Generation, s.Shard) }

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// ValidName reports whether a cluster name or worker id can be part of an etcd key and a Redis key.
func ValidName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%q is not accepted: want 1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit", name)
	}
	return nil
}

// keys spells the key of every record of one cluster.
type keys struct{ prefix string }

func newKeys(cluster string) keys { return keys{"/muster/" + cluster + "/"} }

// everything is the directory that holds all others.
const everything = ""

// Directories and single keys, relative to the cluster's prefix.
const (
	dirElection    = "ldr/"
	keyLeader      = "leader"
	dirWorkers     = "wrk/"
	dirStatus      = "status/"
	dirHalts       = "halt/"
	dirRefusals    = "refused/"
	keyPlan        = "plan"
	dirOwners      = "own/"
	dirMoves       = "mov/"
	dirAssignments = "asg/"
	dirSessions    = "sess/"
	dirRequests    = "idn/"
	dirSlots       = "slot/"
	keyBudget      = "budget"
	keyAlarm       = "alarm"
	keySchema      = "schema"
	keyEra         = "era"
	dirDirectives  = "directive/"
)

func (k keys) election() string             { return k.prefix + strings.TrimSuffix(dirElection, "/") } // the library adds the slash
func (k keys) leader() string               { return k.prefix + keyLeader }
func (k keys) plan() string                 { return k.prefix + keyPlan }
func (k keys) budget() string               { return k.prefix + keyBudget }
func (k keys) schema() string               { return k.prefix + keySchema }
func (k keys) alarm() string                { return k.prefix + keyAlarm }
func (k keys) era() string                  { return k.prefix + keyEra }
func (k keys) worker(id string) string      { return k.prefix + dirWorkers + id }
func (k keys) status(id string) string      { return k.prefix + dirStatus + id }
func (k keys) halt(id string) string        { return k.prefix + dirHalts + id }
func (k keys) refusal(r RefusalID) string   { return k.prefix + dirRefusals + r.String() }
func (k keys) owner(r RangeID) string       { return k.prefix + dirOwners + r.String() }
func (k keys) move(r RangeID) string        { return k.prefix + dirMoves + r.String() }
func (k keys) directive(name string) string { return k.prefix + dirDirectives + name }
func (k keys) session(s ShardID) string     { return k.prefix + dirSessions + s.String() }
func (k keys) sessions(generation int) string {
	return k.prefix + dirSessions + strconv.Itoa(generation) + "/"
}
func (k keys) slot(bucket int) string                     { return k.prefix + dirSlots + strconv.Itoa(bucket) }
func (k keys) assignments(worker string) string           { return k.prefix + dirAssignments + worker + "/" }
func (k keys) requests(worker string) string              { return k.prefix + dirRequests + worker + "/" }
func (k keys) assignment(worker string, r RangeID) string { return k.assignments(worker) + r.String() }
func (k keys) request(worker string, s ShardID) string    { return k.requests(worker) + s.String() }

var errKey = errors.New("not a key of this form")

// parsePair reads the "<generation>/<number>" that range and shard keys end with.
func parsePair(s string) (generation, number int, err error) {
	left, right, ok := strings.Cut(s, "/")
	if !ok {
		return 0, 0, errKey
	}
	if generation, err = parseNumber(left); err != nil {
		return 0, 0, err
	}
	number, err = parseNumber(right)
	return generation, number, err
}

// parseNumber accepts only the canonical spelling, so that no two keys name one thing.
func parseNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || strconv.Itoa(n) != s {
		return 0, errKey
	}
	return n, nil
}
