package discordsim

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// Injected is a fault that was injected.
type Injected struct {
	// ID is what [Server.Lift] takes.
	ID int `json:"id"`
	// Affected is how many sockets a fault at [StageNow] struck; 0 for one that waits.
	Affected int `json:"affected"`
}

// Inject makes something go wrong. What a waiting fault does, and what [FaultSlow] and [FaultSplit] do, goes on until it
// is lifted. The error names everything about the fault that makes no sense; then nothing happens.
func (s *Server) Inject(f Fault) (Injected, error) {
	f = f.withDefaults()
	if err := f.validate(); err != nil {
		return Injected{}, err
	}
	w := s.faults.add(f)
	if f.Stage != StageNow {
		return Injected{ID: w.id}, nil
	}
	if w.pace == nil {
		s.faults.remove(func(other *waiting) bool { return other == w }) // there will be nothing to lift
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for c := range s.conns {
		shard := -1
		if sess := c.current(); sess != nil {
			shard = sess.shard
		}
		if f.strikes(StageNow, c.path, shard) {
			c.suffer(w)
			n++
		}
	}
	return Injected{w.id, n}, nil
}

// Lift ends a fault: it strikes no more, and the sockets it slowed or split are as they were. What it broke stays broken.
// It reports whether there was such a fault.
func (s *Server) Lift(id int) bool {
	found := s.faults.remove(func(w *waiting) bool { return w.id == id })
	s.relieve(found)
	return len(found) > 0
}

// LiftAll lifts every fault and returns how many there were, those that are over included.
func (s *Server) LiftAll() int {
	found := s.faults.remove(func(*waiting) bool { return true })
	s.relieve(found)
	return len(found)
}

// relieve gives sockets back the pace that faults took from them.
func (s *Server) relieve(lifted []*waiting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		for _, w := range lifted {
			c.link.unpace(w.pace)
		}
	}
}

// waiting is a fault and what is left of it.
type waiting struct {
	Fault
	id   int
	left int   // times it strikes still; unlimited if Times is 0
	pace *pace // what it does to a link, if that is what it does
}

// faults are those that were injected and not lifted.
type faults struct {
	mu   sync.Mutex
	last int
	all  []*waiting
}

func (l *faults) add(f Fault) *waiting {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	w := &waiting{Fault: f, id: l.last, left: f.Times, pace: f.pace()}
	l.all = append(l.all, w)
	return w
}

func (l *faults) remove(which func(*waiting) bool) (removed []*waiting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = slices.DeleteFunc(l.all, func(w *waiting) bool {
		if which(w) {
			removed = append(removed, w)
			return true
		}
		return false
	})
	return removed
}

// strike returns the fault that waits for such a connection, nil if none does, and counts it.
func (l *faults) strike(stage Stage, path string, shard int) *waiting {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.all {
		if !w.strikes(stage, path, shard) || w.Times > 0 && w.left == 0 {
			continue
		}
		w.left--
		return w
	}
	return nil
}

// struck has a fault that waits at a stage happen to c, and reports whether it takes the place of what was due.
func (s *Server) struck(c *conn, stage Stage, shard int) bool {
	w := s.faults.strike(stage, c.path, shard)
	return w != nil && c.suffer(w)
}

// suffer has a fault happen to the connection. It reports whether it takes the place of what was due to be sent; the
// others leave things to take their course, if in a bad way.
func (c *conn) suffer(w *waiting) (instead bool) {
	switch w.Kind {
	case FaultDrop:
		if w.Stage == StageNow {
			c.cancel(errDropped)
		} else {
			c.cancel(errCut)
		}
	case FaultBlackHole:
		c.link.vanish(c.server.ctx)
	case FaultClose:
		c.cancel(closeWith(CloseCode(w.Code), "closed by fault"))
	case FaultSend:
		c.control(w.Message)
	case FaultSlow, FaultSplit:
		c.link.setPace(w.pace)
		return false
	default:
		c.mangle(w.Fault)
		return false
	}
	return true
}

// suffered answers an HTTP request with a fault that waits at its stage, and reports whether there was one.
func (s *Server) suffered(w http.ResponseWriter, r *http.Request, stage Stage, path string) bool {
	f := s.faults.strike(stage, path, -1)
	if f == nil {
		return false
	}
	switch f.Kind {
	case FaultDrop:
		panic(http.ErrAbortHandler) // net/http's way to hang up without an answer
	case FaultBlackHole:
		if s.enter() {
			defer s.sockets.Done()
			select {
			case <-r.Context().Done():
			case <-s.ctx.Done():
			}
		}
		panic(http.ErrAbortHandler)
	case FaultGarbage:
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>\r\n<head><title>Bad Gateway</title></head>"))
	default:
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter))))
		}
		answer(w, f.Code, httpError{apiError{Message: strconv.Itoa(f.Code) + ": " + http.StatusText(f.Code)}, f.RetryAfter})
	}
	return true
}
