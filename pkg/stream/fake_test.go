package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/redis/go-redis/v9"
)

// fakeRedis answers a client in memory, so that tests can run on virtual time
// and say what goes wrong. It knows two scripts, as append.lua and
// position.lua document them; script_test.go and position_test.go hold the scripts
// themselves to the same.
type fakeRedis struct {
	// fault says what becomes of a script call that appends to key. Nil is
	// noFault always.
	fault func(key string) fault

	mu        sync.Mutex
	streams   map[string][]ID
	ends      map[string][]int // how long each stream was after each of its batches
	positions map[string]string
	calls     []string      // the arguments of each call that had entries
	hold      chan struct{} // when not nil, pipelines wait until it is closed
}

type fault int

const (
	noFault      fault = iota
	lostCall           // the connection breaks before the server reads the call
	lostReply          // … after the server has done it
	outOfMemory        // the server refuses to write
	scriptForgot       // NOSCRIPT
	lostTail           // a failover to a replica that did not have the last batches yet, two at most
	wrongType          // the key is something else
)

// newFake returns a client of a new fakeRedis.
func newFake(t testing.TB) (*fakeRedis, redis.UniversalClient) {
	f := &fakeRedis{streams: make(map[string][]ID), ends: make(map[string][]int), positions: make(map[string]string)}
	client := redis.NewClient(&redis.Options{
		Addr:                     "127.0.0.1:0", // a name would be looked up
		MaintNotificationsConfig: noMaintenance(),
		MaxRetries:               -1,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("the fake has no connections")
		},
	})
	client.AddHook(f)
	t.Cleanup(func() { _ = client.Close() })
	return f, client
}

func (f *fakeRedis) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *fakeRedis) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		f.do(cmd.(*redis.Cmd))
		return cmd.Err()
	}
}

func (f *fakeRedis) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		f.mu.Lock()
		hold := f.hold
		f.mu.Unlock()
		if hold != nil {
			<-hold
		}
		var errs []error
		for _, cmd := range cmds {
			f.do(cmd.(*redis.Cmd))
			errs = append(errs, cmd.Err())
		}
		return errors.Join(errs...)
	}
}

func (f *fakeRedis) do(cmd *redis.Cmd) {
	f.mu.Lock()
	defer f.mu.Unlock()
	args := make([]string, 0, len(cmd.Args()))
	for _, arg := range cmd.Args() {
		if v, ok := arg.(*field); ok {
			args = append(args, string(*v))
			continue
		}
		args = append(args, fmt.Sprint(arg))
	}
	switch {
	case args[0] == "get":
		if text, ok := f.positions[args[1]]; ok {
			cmd.SetVal(text)
		} else {
			cmd.SetErr(redis.Nil)
		}
		return
	case args[0] == "xtrim":
		least, err := ParseID(args[4])
		if err != nil {
			panic(err)
		}
		f.streams[args[1]] = slices.DeleteFunc(f.streams[args[1]], func(id ID) bool { return id.Compare(least) < 0 })
		return
	case args[2] == "2": // position.lua
		f.savePosition(cmd, args[3], args[4], args[5], args[6]+"-"+args[7])
		return
	}
	key, want, entries := args[3], args[4], args[6:]
	what := noFault
	if len(entries) > 0 {
		f.calls = append(f.calls, strings.Join(args[3:], " "))
		if f.fault != nil {
			what = f.fault(key)
		}
	}
	switch {
	case what == lostCall:
		cmd.SetErr(errors.New("connection lost"))
	case what == outOfMemory:
		cmd.SetErr(redisError("OOM command not allowed when used memory > 'maxmemory'."))
	case what == wrongType:
		cmd.SetErr(redisError("WRONGTYPE Operation against a key holding the wrong kind of value"))
	case what == scriptForgot && args[0] == "evalsha":
		cmd.SetErr(redis.ErrNoScript)
	default:
		if what == lostTail {
			f.lose(key, 2)
		}
		cmd.SetVal(f.append(key, want, entries).String())
		if what == lostReply {
			cmd.SetErr(errors.New("connection lost"))
		}
	}
}

// append is append.lua.
func (f *fakeRedis) append(key, want string, entries []string) ID {
	if f.tail(key).String() == want {
		for i := 0; i < len(entries); i += 3 {
			id, err := ParseID(entries[i])
			if err != nil {
				panic(err)
			}
			f.streams[key] = append(f.streams[key], id)
		}
		f.ends[key] = append(f.ends[key], len(f.streams[key]))
	}
	return f.tail(key)
}

// savePosition is position.lua, but for going back, which one writer does not.
func (f *fakeRedis) savePosition(cmd *redis.Cmd, key, positionKey, want, position string) {
	if f.fault != nil && f.fault(key) != noFault {
		cmd.SetErr(errors.New("connection lost"))
		return
	}
	if f.tail(key).String() != want {
		cmd.SetVal(int64(0))
		return
	}
	f.positions[positionKey] = want + " " + position
	cmd.SetVal(int64(1))
}

// lose loses the last batches of a stream. It may lose parts of none, since a
// replica gets what a script wrote as one.
func (f *fakeRedis) lose(key string, batches int) {
	ends := f.ends[key]
	ends = ends[:max(0, len(ends)-batches)]
	kept := 0
	if len(ends) > 0 {
		kept = ends[len(ends)-1]
	}
	f.ends[key], f.streams[key] = ends, f.streams[key][:kept]
}

func (f *fakeRedis) tail(key string) ID {
	if s := f.streams[key]; len(s) > 0 {
		return s[len(s)-1]
	}
	return ID{}
}

// pause makes pipelines wait until the returned function is called.
func (f *fakeRedis) pause() (resume func()) {
	hold := make(chan struct{})
	f.mu.Lock()
	f.hold = hold
	f.mu.Unlock()
	return func() {
		f.mu.Lock()
		f.hold = nil
		f.mu.Unlock()
		close(hold)
	}
}

// ids returns what is in a shard's stream.
func (f *fakeRedis) ids(shard int) []ID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]ID(nil), f.streams[EventsKey("test", shard)]...)
}

type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

// logBuffer collects what a writer logs.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Split(strings.TrimSpace(b.buf.String()), "\n")
}

func (b *logBuffer) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: b, Level: hclog.Info, DisableTime: true})
}
