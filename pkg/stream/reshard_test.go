package stream_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/stream"
)

// A session that was prepared goes on from its own place, after its marker: at once, and when the log is opened anew with nothing but
// the marker, or with entries, or with a position behind what a filter leaves out.
func TestGoOnFrom(t *testing.T) {
	client := open(t, redistest.Start(t).URL())
	w := run(t, client, stream.Options{})
	l := openLog(t, w, 0)
	appendRun(t, l, id(1, 1), id(1, 9))
	marker := stream.NewReshard(3, stream.Reshard{After: id(1, 9), Generation: 2, Before: 1, Shards: 2, From: 17})
	if err := l.GoOnFrom(17); !isOrderError(err) {
		t.Errorf("in the middle of an epoch: %v", err)
	}
	if err := l.Append(deadline(t), marker); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(deadline(t), event(id(3, 18))); !isOrderError(err) {
		t.Errorf("before it is said where: %v", err)
	}
	if err := l.GoOnFrom(17); err != nil || l.Position() != id(3, 17) {
		t.Errorf("the position is %v, error %v", l.Position(), err)
	}
	if err := l.Append(deadline(t), event(id(3, 1))); !isOrderError(err) {
		t.Errorf("from its beginning: %v", err)
	}
	flush(t, l)
	l.Close()

	l = openLog(t, w, 0)
	if err := errors.Join(l.GoOnFrom(17), l.Skip(id(3, 18))); err != nil {
		t.Fatal(err)
	}
	flush(t, l)
	l.Close()

	l = openLog(t, w, 0)
	if l.Tail() != id(3, 0) || l.Position() != id(3, 18) {
		t.Errorf("the stream ends at %v, the position is %v", l.Tail(), l.Position())
	}
	if err := l.GoOnFrom(17); !isOrderError(err) {
		t.Errorf("back: %v", err)
	}
	appendRun(t, l, id(3, 19), id(3, 21))
	flush(t, l)
	l.Close()
	l = openLog(t, w, 0)
	if err := l.GoOnFrom(25); !isOrderError(err) {
		t.Errorf("beyond what is there: %v", err)
	}
	l.Close()
	if err := l.GoOnFrom(17); !errors.Is(err, stream.ErrClosed) {
		t.Errorf("when closed: %v", err)
	}
}

func isOrderError(err error) bool { return errors.As(err, new(*stream.OrderError)) }

// The owner of a session that is over goes on writing, for want of knowing, until the next session begins. Its marker is taken all
// the same, and says what it really comes after; and from then on the former owner is refused.
func TestMarkerAfterAFormerOwnerWentOn(t *testing.T) {
	server := redistest.Start(t)
	former, next := run(t, open(t, server.URL()), stream.Options{}), run(t, open(t, server.URL()), stream.Options{})
	old := openLog(t, former, 0)
	appendRun(t, old, id(1, 1), id(1, 5))
	flush(t, old)
	l := openLog(t, next, 0)
	appendRun(t, old, id(1, 6), id(1, 9))
	flush(t, old)

	if err := l.Append(deadline(t), stream.NewGap(2, stream.Gap{After: l.Tail(), Reason: "test"})); err != nil {
		t.Fatal(err)
	}
	appendRun(t, l, id(2, 1), id(2, 3))
	flush(t, l)
	appendRun(t, old, id(1, 10), id(1, 10))
	<-old.Failed()
	var refused *stream.RefusedError
	if err := old.Err(); !errors.As(err, &refused) || refused.Behind() {
		t.Errorf("the former owner: %v", err)
	}
	entries, err := open(t, server.URL()).XRange(deadline(t), stream.EventsKey(cluster, 0), "-", "+").Result()
	if err != nil || len(entries) != 13 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	var gap stream.Gap
	if err := json.Unmarshal([]byte(entries[9].Values["d"].(string)), &gap); err != nil || gap.After != id(1, 9) || entries[9].ID != "2-0" {
		t.Errorf("the marker is %v, %v", entries[9], err)
	}
}
