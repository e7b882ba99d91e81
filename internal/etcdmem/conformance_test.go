package etcdmem_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/muster-gateway/muster/internal/etcdmem"
	"github.com/muster-gateway/muster/internal/etcdtest"
)

// The same script, to a real etcd and to this one, is answered with the same, error for error and revision for revision, and
// watches see the same.
func TestConformance(t *testing.T) {
	server := etcdtest.Start(t)
	actual, err := clientv3.New(clientv3.Config{Endpoints: server.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = actual.Close() })
	rapid.Check(t, func(t *rapid.T) {
		script := rapid.SliceOfN(steps(), 1, 30).Draw(t, "script")
		link := etcdmem.New().Link("test")
		defer link.Close()
		want, got := play(actual, script), play(link.Client, script)
		for i := range want {
			if want[i] != got[i] {
				t.Fatalf("%s\nis answered by etcd with\n%s\nand here with\n%s", script[min(i, len(script)-1)], want[i], got[i])
			}
		}
	})
}

// player is a script on its way through one server.
type player struct {
	client  *clientv3.Client
	base    int64 // revisions are counted from here
	leases  []clientv3.LeaseID
	watches []clientv3.WatchChan
}

const prefix = "/t/"

// horizon is the last revision that scripts speak of, counted from where they begin.
const horizon = 20

var names = []string{"a", "aa", "b", "c"}

// play returns the answer to each step, and then what there was at each revision, and what each watch saw.
func play(client *clientv3.Client, script []step) (answers []string) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(context.Background()))
	defer cancel()
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	_, err := client.Delete(ctx, prefix, clientv3.WithPrefix())
	must(err)
	mark, err := client.Put(ctx, "/mark", "")
	must(err)
	p := &player{client: client, base: mark.Header.Revision}
	for _, s := range script {
		answers = append(answers, p.do(ctx, s))
	}
	for n := range int64(horizon) { // what there was, as far as it is not compacted or still to come; what is written with the read was not
		then := []step{{Kind: "put", Name: "b", Value: "later"}, {Kind: "get", Prefix: true, Flags: flags{At: n + 1}}}
		answers = append(answers, p.do(ctx, step{Kind: "txn", Then: then}))
	}
	for range horizon { // also a watch from a revision that was still to come has begun
		_, err := client.Put(ctx, "/mark", "")
		must(err)
	}
	var last *clientv3.PutResponse
	for _, name := range names { // the last event of every watch
		last, err = client.Put(ctx, prefix+name, "end")
		must(err)
	}
	for _, watch := range p.watches {
		answers = append(answers, p.collect(watch, last.Header.Revision-int64(len(names))+1))
	}
	for _, lease := range p.leases {
		_, _ = client.Revoke(ctx, lease) // it may be gone
	}
	return answers
}

func (p *player) do(ctx context.Context, s step) string {
	var answer proto.Message
	var err error
	switch s.Kind {
	case "grant":
		var resp *clientv3.LeaseGrantResponse
		if resp, err = p.client.Grant(ctx, s.Number); err == nil {
			p.leases = append(p.leases, resp.ID)
			return fmt.Sprintf("%d for %d s", resp.Revision-p.base, resp.TTL)
		}
	case "revoke":
		var resp *clientv3.LeaseRevokeResponse
		resp, err = p.client.Revoke(ctx, p.lease(s.Lease))
		answer = (*pb.LeaseRevokeResponse)(resp)
	case "renew":
		var resp *clientv3.LeaseKeepAliveResponse
		if resp, err = p.client.KeepAliveOnce(ctx, p.lease(s.Lease)); err == nil {
			return fmt.Sprintf("%d for %d s", resp.Revision-p.base, resp.TTL)
		}
	case "compact":
		p.catchUp(ctx)
		var resp *clientv3.CompactResponse
		resp, err = p.client.Compact(ctx, p.revision(s.Number))
		answer = (*pb.CompactionResponse)(resp)
	case "watch":
		opts := s.options(p)
		if s.Number > 0 {
			opts = append(opts, clientv3.WithRev(p.revision(s.Number)))
		}
		watch := p.client.Watch(ctx, s.key(), append(opts, clientv3.WithCreatedNotify())...)
		p.watches = append(p.watches, watch)
		return "" // that it was created, etcd tells and we do not
	default:
		var resp clientv3.OpResponse
		resp, err = p.client.Do(ctx, s.op(p))
		switch {
		case err != nil:
		case resp.Put() != nil:
			answer = (*pb.PutResponse)(resp.Put())
		case resp.Get() != nil:
			answer = (*pb.RangeResponse)(resp.Get())
		case resp.Del() != nil:
			answer = (*pb.DeleteRangeResponse)(resp.Del())
		case resp.Txn() != nil:
			answer = (*pb.TxnResponse)(resp.Txn())
		}
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return p.text(answer)
}

// catchUp returns once every watch has been sent what was before it. etcd does that in rounds, each for all the watches that are
// behind; one that a compaction overtakes until then ends, or not, as chance has it.
func (p *player) catchUp(ctx context.Context) {
	if len(p.watches) == 0 {
		return
	}
	mark, err := p.client.Put(ctx, "/mark", "")
	if err != nil {
		panic(err)
	}
	behind, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range p.client.Watch(behind, "/mark", clientv3.WithRev(mark.Header.Revision)) {
		if len(resp.Events) > 0 {
			return
		}
	}
}

// collect is what a watch sees, up to the revision that is its last.
func (p *player) collect(watch clientv3.WatchChan, last int64) string {
	var seen strings.Builder
	for resp := range watch {
		if err := resp.Err(); err != nil {
			fmt.Fprintf(&seen, "error: %v, compacted to %d", err, resp.CompactRevision-p.base)
			break
		}
		for _, e := range resp.Events {
			if e.Kv.ModRevision >= last {
				return seen.String()
			}
			fmt.Fprintf(&seen, "%v %s\n", e.Type, p.text(e.Kv))
		}
	}
	return seen.String()
}

// revision makes a number of a script a revision; those at or below 0 stay as they are.
func (p *player) revision(n int64) int64 {
	if n <= 0 {
		return n
	}
	return p.base + n
}

// lease is the script's nth, from 1 on; 0 is none, and what was not granted is one that does not exist.
func (p *player) lease(n int) clientv3.LeaseID {
	if n == 0 {
		return 0
	}
	if n > len(p.leases) {
		return 1 << 40
	}
	return p.leases[n-1]
}

// text shows a message, with revisions counted from the base and leases by number.
func (p *player) text(m proto.Message) string {
	m = proto.Clone(m)
	return strings.Join(p.fields(m.ProtoReflect()), " ")
}

func (p *player) fields(m protoreflect.Message) (out []string) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(field.Name())
		show := func(v protoreflect.Value) string {
			if field.Message() != nil {
				return "{" + strings.Join(p.fields(v.Message()), " ") + "}"
			}
			switch name {
			case "revision", "create_revision", "mod_revision":
				return fmt.Sprint(v.Int() - p.base)
			case "lease":
				return fmt.Sprintf("#%d", slices.Index(p.leases, clientv3.LeaseID(v.Int()))+1)
			}
			return fmt.Sprintf("%q", v.String())
		}
		switch {
		case slices.Contains([]string{"cluster_id", "member_id", "raft_term"}, name):
		case field.IsList():
			for i := range v.List().Len() {
				out = append(out, name+":"+show(v.List().Get(i)))
			}
		default:
			out = append(out, name+":"+show(v))
		}
		return true
	})
	slices.SortStableFunc(out, func(a, b string) int {
		return strings.Compare(a[:strings.IndexByte(a, ':')], b[:strings.IndexByte(b, ':')])
	})
	return out
}

// step is one request of a script, as plain values.
type step struct {
	Kind        string
	Name, Value string
	Prefix      bool
	Lease       int
	Number      int64 // a TTL or a revision
	Flags       flags
	If          []comparison
	Then, Else  []step
}

type flags struct {
	IgnoreValue, IgnoreLease, PrevKV, KeysOnly, CountOnly bool
	Limit, MinMod, MaxCreate, At                          int64
	Target                                                clientv3.SortTarget
	Order                                                 clientv3.SortOrder
}

type comparison struct {
	Name, Target, Relation string
	Prefix                 bool
	Number                 int64
}

func (s step) key() string { return prefix + s.Name }

func (s step) String() string {
	type plain step // without this method
	return fmt.Sprintf("%+v", plain(s))
}

func (s step) options(*player) (opts []clientv3.OpOption) {
	if s.Prefix {
		opts = append(opts, clientv3.WithPrefix())
	}
	return opts
}

// op makes an operation of a step that is one.
func (s step) op(p *player) clientv3.Op {
	opts := s.options(p)
	if s.Flags.PrevKV && s.Kind != "get" {
		opts = append(opts, clientv3.WithPrevKV())
	}
	switch s.Kind {
	case "put":
		if s.Flags.IgnoreValue {
			opts = append(opts, clientv3.WithIgnoreValue())
		}
		if s.Flags.IgnoreLease {
			opts = append(opts, clientv3.WithIgnoreLease())
		}
		return clientv3.OpPut(s.key(), s.Value, append(opts, clientv3.WithLease(p.lease(s.Lease)))...)
	case "delete":
		return clientv3.OpDelete(s.key(), opts...)
	case "get":
		f := s.Flags
		opts = append(opts, clientv3.WithLimit(f.Limit), clientv3.WithMinModRev(p.revision(f.MinMod)),
			clientv3.WithMaxCreateRev(p.revision(f.MaxCreate)), clientv3.WithSort(f.Target, f.Order),
			clientv3.WithRev(p.revision(f.At)))
		if f.KeysOnly {
			opts = append(opts, clientv3.WithKeysOnly())
		}
		if f.CountOnly {
			opts = append(opts, clientv3.WithCountOnly())
		}
		return clientv3.OpGet(s.key(), opts...)
	case "txn":
		return clientv3.OpTxn(s.comparisons(p), operations(p, s.Then), operations(p, s.Else))
	default:
		panic(errors.New("no operation: " + s.Kind))
	}
}

func operations(p *player, steps []step) (ops []clientv3.Op) {
	for _, s := range steps {
		ops = append(ops, s.op(p))
	}
	return ops
}

func (s step) comparisons(p *player) (cmps []clientv3.Cmp) {
	for _, c := range s.If {
		key := prefix + c.Name
		var cmp clientv3.Cmp
		switch c.Target {
		case "value":
			cmp = clientv3.Compare(clientv3.Value(key), c.Relation, fmt.Sprint(c.Number))
		case "version":
			cmp = clientv3.Compare(clientv3.Version(key), c.Relation, c.Number)
		case "created":
			cmp = clientv3.Compare(clientv3.CreateRevision(key), c.Relation, p.revision(c.Number))
		case "modified":
			cmp = clientv3.Compare(clientv3.ModRevision(key), c.Relation, p.revision(c.Number))
		case "lease":
			cmp = clientv3.Compare(clientv3.LeaseValue(key), c.Relation, p.lease(int(max(c.Number, 0))))
		}
		if c.Prefix {
			cmp = cmp.WithPrefix()
		}
		cmps = append(cmps, cmp)
	}
	return cmps
}

// steps generates any step, more of them such that change something.
func steps() *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		kind := rapid.SampledFrom([]string{
			"txn", "txn", "txn", "put", "put", "delete", "get", "get", "grant", "revoke", "renew", "compact", "watch", "watch", "crowd",
		}).Draw(t, "kind")
		switch kind {
		case "grant":
			return step{Kind: kind, Number: rapid.Int64Range(1, 2).Draw(t, "ttl") * 1000}
		case "revoke", "renew":
			return step{Kind: kind, Lease: rapid.IntRange(1, 3).Draw(t, "lease")}
		case "compact":
			return step{Kind: kind, Number: rapid.Int64Range(1, horizon).Draw(t, "revision")}
		case "watch":
			return step{Kind: kind, Name: name(t), Prefix: rapid.Bool().Draw(t, "prefix"), Number: rapid.Int64Range(0, horizon).Draw(t, "from")}
		case "crowd":
			return crowd(t)
		default:
			return operation(t, kind, 2)
		}
	})
}

func name(t *rapid.T) string { return rapid.SampledFrom(names).Draw(t, "name") }

func operation(t *rapid.T, kind string, depth int) step {
	if kind == "txn" {
		return step{Kind: kind, If: rapid.SliceOfN(comparisons(), 0, 3).Draw(t, "if"), Then: branch(t, depth), Else: branch(t, depth)}
	}
	s := step{Kind: kind, Name: name(t), Prefix: kind != "put" && rapid.Bool().Draw(t, "prefix")}
	s.Flags.PrevKV = rapid.Bool().Draw(t, "prev")
	switch kind {
	case "put":
		s.Flags.IgnoreValue, s.Flags.IgnoreLease = one(t, "ignore value"), one(t, "ignore lease")
		if !s.Flags.IgnoreValue || one(t, "value all the same") {
			s.Value = fmt.Sprint(rapid.Int64Range(-1, 3).Draw(t, "value"))
		}
		if !s.Flags.IgnoreLease || one(t, "lease all the same") {
			s.Lease = rapid.IntRange(0, 3).Draw(t, "lease")
		}
	case "get":
		s.Flags.Limit = rapid.Int64Range(0, 4).Draw(t, "limit")
		s.Flags.MinMod, s.Flags.MaxCreate = max(rapid.Int64Range(-horizon, horizon).Draw(t, "min"), 0), max(rapid.Int64Range(-horizon, horizon).Draw(t, "max"), 0)
		s.Flags.At = max(rapid.Int64Range(-horizon, horizon/2).Draw(t, "at"), 0)
		s.Flags.Target = rapid.SampledFrom([]clientv3.SortTarget{clientv3.SortByKey, clientv3.SortByCreateRevision, clientv3.SortByModRevision}).Draw(t, "sort by")
		s.Flags.Order = rapid.SampledFrom([]clientv3.SortOrder{clientv3.SortNone, clientv3.SortAscend, clientv3.SortDescend}).Draw(t, "order")
		s.Flags.KeysOnly, s.Flags.CountOnly = one(t, "keys only"), one(t, "count only")
	}
	return s
}

// one is true one time in four.
func one(t *rapid.T, label string) bool { return rapid.IntRange(0, 3).Draw(t, label) == 3 }

func branch(t *rapid.T, depth int) []step {
	kinds := []string{"put", "put", "delete", "get"}
	if depth > 0 {
		kinds = append(kinds, "txn")
	}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return operation(t, rapid.SampledFrom(kinds).Draw(t, "kind"), depth-1)
	}), 0, 3).Draw(t, "branch")
}

// comparisons includes such with a revision that no key has, and that the lack of one is not either.
func comparisons() *rapid.Generator[comparison] {
	return rapid.Custom(func(t *rapid.T) comparison {
		return comparison{
			Name: name(t), Prefix: one(t, "prefix"),
			Target:   rapid.SampledFrom([]string{"value", "version", "created", "modified", "lease"}).Draw(t, "target"),
			Relation: rapid.SampledFrom([]string{"=", "=", "!=", "<", ">"}).Draw(t, "relation"),
			Number:   rapid.Int64Range(-1, 12).Draw(t, "number"),
		}
	})
}

// crowd is a transaction about as large as may be, in two levels.
func crowd(t *rapid.T) step {
	get := step{Kind: "get", Name: "a"}
	inner := step{Kind: "txn", Then: slices.Repeat([]step{get}, rapid.IntRange(60, 66).Draw(t, "inner"))}
	outer := step{Kind: "txn", Then: slices.Repeat([]step{get}, rapid.IntRange(60, 66).Draw(t, "outer"))}
	outer.Then[0] = inner
	return outer
}
