package stream

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/internal/redistest"
)

// modelStream is a commands stream as Redis keeps it.
type modelStream struct{ kept []int }

func (m *modelStream) add(n int) { m.kept = append(m.kept, n); slices.Sort(m.kept) }

func (m *modelStream) remove(n int) {
	if i, ok := slices.BinarySearch(m.kept, n); ok {
		m.kept = slices.Delete(m.kept, i, i+1)
	}
}

// after is what XREAD answers.
func (m *modelStream) after(id string, count int) (entries []redis.XMessage) {
	var last int
	fmt.Sscanf(id, "%d-", &last)
	for _, n := range m.kept {
		if n > last && len(entries) < count {
			entries = append(entries, redis.XMessage{ID: fmt.Sprintf("%d-0", n), Values: map[string]any{"op": "3", "d": fmt.Sprint(n)}})
		}
	}
	return entries
}

// Whatever is added, settled in whatever order and read at whatever moments, by one owner after another, is handed on in order, and in
// full; and a second time only if it was not settled by the owner before.
func TestCommandQueueProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := NewCommandReader(nil, CommandReaderOptions{Cluster: "test"})
		var redis modelStream
		queue := r.Open(0)
		queue.SetReading(true)
		unsettled := map[int]bool{} // what this owner has
		added, newest := 0, 0       // newest that this owner was handed
		settled := map[int]bool{}
		receive := func() {
			for len(queue.Commands()) > 0 {
				c := <-queue.Commands()
				var n int
				if err := json.Unmarshal(c.Data, &n); err != nil || c.Err != nil {
					t.Fatalf("handed %+v", c)
				}
				if n <= newest || settled[n] {
					t.Fatalf("%d comes after %d; settled: %v", n, newest, settled[n])
				}
				newest = n
				unsettled[n] = true
			}
			if len(unsettled) > commandWindow {
				t.Fatalf("%d are not settled", len(unsettled))
			}
		}
		ask := func(count int) {
			if after, ok := queue.from(time.Now()); ok {
				queue.push(redis.after(after, count))
			}
			receive()
		}
		settle := func(n int) {
			redis.remove(n)
			queue.settled(fmt.Sprintf("%d-0", n))
			delete(unsettled, n)
			settled[n] = true
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for range rapid.IntRange(1, 40).Draw(t, "how many") {
					added++
					redis.add(added)
				}
			},
			"ask": func(t *rapid.T) { ask(rapid.IntRange(1, 100).Draw(t, "count")) },
			"settle": func(t *rapid.T) {
				if len(unsettled) > 0 {
					settle(rapid.SampledFrom(slices.Sorted(maps.Keys(unsettled))).Draw(t, "which"))
				}
			},
			"turn": func(t *rapid.T) { queue.SetReading(rapid.Bool().Draw(t, "reading")) },
			"another owner": func(t *rapid.T) {
				old := queue
				old.Close()
				queue = r.Open(0)
				queue.SetReading(true)
				clear(unsettled)
				newest = 0
				old.push(redis.after("0-0", 100)) // an answer that was on its way
				if len(old.Commands()) > 0 {
					t.Fatal("the old owner goes on")
				}
			},
		})
		queue.SetReading(true)
		for len(redis.kept) > 0 {
			ask(16)
			if len(unsettled) == 0 {
				t.Fatalf("%v are never handed on", redis.kept)
			}
			for _, n := range slices.Sorted(maps.Keys(unsettled)) {
				settle(n)
			}
		}
		if len(settled) != added {
			t.Errorf("%d of %d were settled", len(settled), added)
		}
	})
}

// A failover may give back what was removed, and smaller ids than before it. Both are found once all that is known is settled.
func TestCommandQueueAfterAFailover(t *testing.T) {
	r := NewCommandReader(nil, CommandReaderOptions{Cluster: "test"})
	queue := r.Open(0)
	queue.SetReading(true)
	var redis modelStream
	redis.add(100)
	ask := func() (got []string) {
		after, _ := queue.from(time.Now())
		queue.push(redis.after(after, 16))
		for len(queue.Commands()) > 0 {
			got = append(got, (<-queue.Commands()).ID)
		}
		return got
	}
	if got := ask(); len(got) != 1 {
		t.Fatalf("handed %v", got)
	}
	redis.add(50) // below what was read
	if got := ask(); len(got) != 0 {
		t.Fatalf("handed %v", got)
	}
	queue.settled("100-0") // and its removal is lost
	if got := ask(); !slices.Equal(got, []string{"50-0", "100-0"}) {
		t.Errorf("handed %v", got)
	}
}

// A key that is no stream, or becomes none, holds up its own shard only, and only for as long as it is so.
func TestCommandsOfAWrongType(t *testing.T) {
	var log logBuffer
	client := openTest(t, redistest.StartReal(t).URL())
	r := NewCommandReader(client, CommandReaderOptions{Cluster: "test", Logger: log.logger()})
	bad, good := r.Open(0), r.Open(1)
	bad.SetReading(true)
	good.SetReading(true)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	round := func() {
		t.Helper()
		_, err := r.round(t.Context(), r.questions(time.Now()))
		must(err)
	}
	add := func(shard int) {
		t.Helper()
		must(client.XAdd(t.Context(), &redis.XAddArgs{Stream: CommandsKey("test", shard), Values: []any{"op", 3, "d", "{}"}}).Err())
	}
	must(client.Set(t.Context(), CommandsKey("test", 0), "odd", 0).Err())
	for range 2 {
		add(1)
		round()
		must((<-good.Commands()).Done(t.Context()))
	}
	if n := strings.Count(strings.Join(log.lines(), "\n"), "[WARN]"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, strings.Join(log.lines(), "\n"))
	}
	must(client.Del(t.Context(), CommandsKey("test", 0)).Err())
	add(0)
	bad.aside = time.Now() // or the next look would be half a minute away
	round()
	c := <-bad.Commands()
	// The dead letters cannot be written: it goes without one, rather than to be met for ever.
	must(client.Set(t.Context(), DeadCommandsKey("test", 0), "odd", 0).Err())
	must(c.Bury(t.Context(), "test"))
	if n := client.XLen(t.Context(), CommandsKey("test", 0)).Val(); n != 0 {
		t.Errorf("%d commands are still there", n)
	}
	// The stream is replaced while a command is on its way.
	add(1)
	round()
	c = <-good.Commands()
	must(client.Set(t.Context(), CommandsKey("test", 1), "odd", 0).Err())
	must(c.Done(t.Context()))
}

func TestParseCommand(t *testing.T) {
	long := strings.Repeat("1", MaxCommandBytes+1)
	for name, tt := range map[string]struct {
		values map[string]any
		want   Command
		err    string
	}{
		"plain":          {values: map[string]any{"op": "3", "d": "{}"}, want: Command{Op: 3, Data: json.RawMessage("{}")}},
		"with more":      {values: map[string]any{"op": "3", "d": "{}", "by": "me"}, want: Command{Op: 3, Data: json.RawMessage("{}")}},
		"expires":        {values: map[string]any{"op": "3", "d": "{}", "exp": "1000"}, want: Command{Op: 3, Data: json.RawMessage("{}"), Expires: time.UnixMilli(1000)}},
		"no op":          {values: map[string]any{"d": "{}"}, err: "want fields op and d"},
		"no d":           {values: map[string]any{"op": "3"}, err: "want fields op and d"},
		"op is a word":   {values: map[string]any{"op": "presence", "d": "{}"}, err: "field op is not a number"},
		"op is negative": {values: map[string]any{"op": "-3", "d": "{}"}, err: "field op is not a number"},
		"too large":      {values: map[string]any{"op": "3", "d": long}, err: "field d has 4097 bytes"},
		"odd expiry":     {values: map[string]any{"op": "3", "d": "{}", "exp": "soon"}, err: "field exp is not a time"},
		"early expiry":   {values: map[string]any{"op": "3", "d": "{}", "exp": "-1"}, err: "field exp is not a time"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseCommand(tt.values)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got.Op != tt.want.Op || string(got.Data) != string(tt.want.Data) || !got.Expires.Equal(tt.want.Expires) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestCommandFields(t *testing.T) {
	for name, cmd := range map[string]Command{
		"not JSON":    {Op: 3, Data: json.RawMessage("{")},
		"nothing":     {Op: 3},
		"negative op": {Op: -1, Data: json.RawMessage("{}")},
		"too large":   {Op: 3, Data: json.RawMessage(`"` + strings.Repeat("a", MaxCommandBytes-len(`{"op":3,"d":""}`)+1) + `"`)},
	} {
		if _, err := cmd.fields(); !errors.Is(err, ErrBadCommand) {
			t.Errorf("%s: %v", name, err)
		}
	}
	largest := Command{Op: 3, Data: json.RawMessage(`"` + strings.Repeat("a", MaxCommandBytes-len(`{"op":3,"d":""}`)) + `"`)}
	if _, err := largest.fields(); err != nil {
		t.Error(err)
	}
}

// What a producer lets pass the owner reads as it was.
func FuzzCommand(f *testing.F) {
	f.Add(3, `{"status":"idle"}`, int64(1000))
	f.Add(-1, "{", int64(0))
	f.Add(4, "[1 , 2]", int64(-5))
	f.Fuzz(func(t *testing.T, op int, d string, exp int64) {
		cmd := Command{Op: op, Data: json.RawMessage(d)}
		if exp != 0 {
			cmd.Expires = time.UnixMilli(exp)
		}
		fields, err := cmd.fields()
		if err != nil {
			return
		}
		values := map[string]any{}
		for i := 0; i < len(fields); i += 2 {
			text := fmt.Sprint(fields[i+1])
			if b, ok := fields[i+1].([]byte); ok {
				text = string(b)
			}
			values[fields[i].(string)] = text
		}
		got, err := parseCommand(values)
		wanted := time.UnixMilli(max(exp, 0))
		if exp == 0 {
			wanted = time.Time{}
		}
		if err != nil || got.Op != op || !got.Expires.Equal(wanted) {
			t.Errorf("%v is read as %+v, %v", values, got, err)
		}
	})
}

func FuzzParseCommand(f *testing.F) {
	f.Add("op", "3", "d", "{}", "exp", "1")
	f.Add("op", "x", "d", "", "exp", "99999999999999999999")
	f.Fuzz(func(t *testing.T, f1, v1, f2, v2, f3, v3 string) {
		c, err := parseCommand(map[string]any{f1: v1, f2: v2, f3: v3})
		if err == nil && (c.Op < 0 || len(c.Data) > MaxCommandBytes) {
			t.Errorf("read as %+v", c)
		}
	})
}
