package stream_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/stream"
)

func TestScriptFlushedInMidRun(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	w := run(t, client, stream.Options{})
	l := openLog(t, w, 0)
	for seq := int64(1); seq <= 50; seq++ {
		if err := client.ScriptFlush(deadline(t)).Err(); err != nil {
			t.Fatal(err)
		}
		appendRun(t, l, id(1, seq), id(1, seq))
		flush(t, l)
	}
	checkRun(t, stored(t, client, 0), id(1, 1), id(1, 50))
}

// What a server says, or does not say, while it is not well: nothing of a batch
// is appended twice or left out, and the log goes on by itself.
func TestRedisInTrouble(t *testing.T) {
	tests := map[string]struct {
		begin, end []string // commands
		says       string   // part of the error; "": none, or any
		took       bool     // whether the server may take entries nevertheless
	}{
		"out of memory":   {begin: []string{"CONFIG SET maxmemory 1"}, end: []string{"CONFIG SET maxmemory 0"}, says: "OOM"},
		"replica":         {begin: []string{"REPLICAOF 127.0.0.1 1"}, end: []string{"REPLICAOF NO ONE"}, says: "READONLY"},
		"stale replica":   {begin: []string{"CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"}, end: []string{"REPLICAOF NO ONE"}, says: "MASTERDOWN"},
		"few replicas":    {begin: []string{"CONFIG SET min-replicas-to-write 1"}, end: []string{"CONFIG SET min-replicas-to-write 0"}, says: "NOREPLICAS"},
		"clients paused":  {begin: []string{"CLIENT PAUSE 1500 ALL"}, took: true},
		"writes paused":   {begin: []string{"CLIENT PAUSE 1500 WRITE"}, took: true},
		"server sleeps":   {begin: []string{"DEBUG SLEEP 1.5"}, took: true},
		"no permission":   {begin: []string{"ACL SETUSER default -evalsha -eval"}, end: []string{"ACL SETUSER default +@all"}, says: "NOPERM"},
		"password wanted": {begin: []string{"CONFIG SET requirepass x", "CLIENT KILL TYPE normal SKIPME yes"}, end: []string{"CONFIG SET requirepass ''"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.StartReal(t, "--maxmemory-policy", "noeviction", "--enable-debug-command", "yes", "--enable-protected-configs", "yes")
			admin := open(t, server.URL())
			w := run(t, open(t, server.URL()+"?read_timeout=200ms"), stream.Options{})
			l := openLog(t, w, 0)
			appendRun(t, l, id(1, 1), id(1, 10))
			flush(t, l)

			conn := admin.(*redis.Client).Conn() // one connection, which a new password does not put out
			defer conn.Close()
			said := func(commands []string) {
				for _, command := range commands {
					var args []any
					for arg := range strings.FieldsSeq(command) {
						args = append(args, strings.Trim(arg, "'"))
					}
					if err := conn.Do(deadline(t), args...).Err(); err != nil && !strings.Contains(err.Error(), "timeout") {
						t.Fatalf("%s: %v", command, err)
					}
				}
			}
			said(tt.begin)
			appendRun(t, l, id(1, 11), id(1, 1000))
			for ctx := deadline(t); !tt.took; pauseFor(ctx, time.Millisecond) { // ends only when the server has refused that often, and so
				// Any attempt may have failed of something else: a server that is merely slow does not answer in time.
				s := w.Stats()
				if s.Retries >= 3 && s.Failing != nil && strings.Contains(s.Failing.Error(), tt.says) {
					break
				}
				if l.Err() != nil || ctx.Err() != nil {
					t.Fatalf("log: %v, stats %+v", l.Err(), s)
				}
			}
			said(tt.end)
			flush(t, l)
			checkRun(t, stored(t, admin, 0), id(1, 1), id(1, 1000))
			if s := w.Stats(); s.Refused > 0 || s.Rewinds > 0 {
				t.Errorf("stats are %+v", s)
			}
		})
	}
}
