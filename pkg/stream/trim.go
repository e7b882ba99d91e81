package stream

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// ageMarks is how many marks of a stream's age there are, and so into how many
// steps trimming by age is divided.
const ageMarks = 64

// mark says that a stream ended with an entry at a time: that one and all before
// it are at least as old. Ids are no times, so this is what tells their age.
type mark struct {
	at time.Time
	id ID
}

// marks of one stream, the oldest first. Where a Log is opened on a stream that
// has entries already their age is not known, and counts from then on.
type marks []mark

// add notes what the stream ends with now, if that is news.
func (m *marks) add(now time.Time, tail ID) {
	if !tail.IsZero() && (len(*m) == 0 || (*m)[len(*m)-1].id != tail) {
		*m = append(*m, mark{now, tail})
	}
}

// expired returns the newest entry that is certainly as old as age, and drops
// the marks before it.
func (m *marks) expired(now time.Time, age time.Duration) (id ID, ok bool) {
	old := 0
	for old < len(*m) && now.Sub((*m)[old].at) >= age {
		old++
	}
	if old == 0 {
		return ID{}, false
	}
	*m = (*m)[old-1:]
	return (*m)[0].id, true
}

// trim drops from every stream what is older than Options.MaxAge. It looks every
// ageMarks-th part of that; what fails is done the next time. Entries before the
// one a mark names go, so that one stays, and with it the end of a stream that
// has long been quiet.
func (s *sender) trim(ctx context.Context) {
	age := s.w.opts.MaxAge
	now := time.Now()
	if age == 0 || now.Sub(s.trimmed) < age/ageMarks {
		return
	}
	s.trimmed = now
	pipe := s.w.client.Pipeline()
	for _, l := range s.w.openLogs() {
		l.marks.add(now, l.Tail())
		if id, ok := l.marks.expired(now, age); ok {
			_ = pipe.Process(ctx, redis.NewCmd(ctx, "xtrim", l.key, "minid", "~", id.String())) // queues
		}
	}
	if pipe.Len() > 0 {
		_, _ = pipe.Exec(ctx)
	}
}
