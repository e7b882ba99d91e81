package stream

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/internal/redistest"
)

// Nothing younger than the age is ever dropped, what is older by a few looks is,
// and there are never many marks.
func TestMarks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const age = 64 * time.Minute
		var m marks
		var written []mark // when each entry was really appended
		now, tail := time.Now(), ID{1, 0}
		for range 300 {
			for range rapid.IntRange(0, 3).Draw(rt, "entries") {
				tail.Seq++
				now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(rt, "seconds")) * time.Second)
				written = append(written, mark{now, tail})
			}
			now = now.Add(age / ageMarks)
			m.add(now, tail)
			id, ok := m.expired(now, age)
			for _, w := range written {
				switch old := now.Sub(w.at); {
				case ok && w.id.Compare(id) < 0 && old < age:
					rt.Fatalf("entry %v would go at the age of %v", w.id, old)
				case (!ok || w.id.Compare(id) > 0) && old > age+3*age/ageMarks:
					rt.Fatalf("entry %v is still there at the age of %v", w.id, old)
				}
			}
			if len(m) > ageMarks+2 {
				rt.Fatalf("%d marks", len(m))
			}
		}
	})
}

func TestTrimsByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		const age = time.Hour
		w := NewWriter(client, Options{Cluster: "test", MaxAge: age})
		start(t, w)
		l, quiet := mustOpen(t, w, 0), mustOpen(t, w, 1)
		appendN(t, quiet, 3)
		for range 180 {
			appendN(t, l, 1)
			time.Sleep(time.Minute)
		}
		ids := f.ids(0)
		if n := len(ids); n < 60 || n > 63 || ids[n-1] != l.Tail() {
			t.Errorf("%d entries are kept of one a minute, up to %v", n, ids[n-1])
		}
		if ids := f.ids(1); len(ids) != 1 || ids[0] != quiet.Tail() {
			t.Errorf("of a quiet stream %v is kept, want its end", ids)
		}

		l.Close() // a takeover
		l = mustOpen(t, w, 0)
		time.Sleep(age - time.Minute)
		if n := len(f.ids(0)); n < 60 {
			t.Errorf("%d entries are kept, though their age is not known", n)
		}
		time.Sleep(5 * time.Minute)
		if ids := f.ids(0); len(ids) != 1 || ids[0] != l.Tail() {
			t.Errorf("after all %v is kept, want the end", ids)
		}
	})
}

func TestTrimsRealStreams(t *testing.T) {
	client := openTest(t, redistest.StartReal(t).URL())
	pipe := client.Pipeline()
	for seq := int64(1); seq <= 1000; seq++ {
		pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: scriptKey, ID: ID{1, seq}.String(), Values: []any{"t", "TEST", "d", "{}"}})
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(client, Options{Cluster: "test", MaxAge: time.Hour})
	l := mustOpen(t, w, 0)
	l.marks = marks{{time.Now().Add(-2 * time.Hour), ID{1, 500}}, {time.Now(), ID{1, 1000}}}
	newSender(w).trim(t.Context())
	entries, err := client.XRange(t.Context(), scriptKey, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(entries); n < 501 || n > 601 || entries[n-1].ID != "1-1000" { // whole blocks of 100 are trimmed
		t.Errorf("%d entries are kept, want about 501", n)
	}
}
