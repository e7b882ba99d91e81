package etcdtest

import (
	"sync"
	"time"
)

// gate is one direction of a network: from one place to another. The zero gate is open.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // not nil while nothing may pass, and closed when something may again
	delay  time.Duration
}

func (g *gate) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil {
		g.closed = make(chan struct{})
	}
}

func (g *gate) mend() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
	}
	g.closed, g.delay = nil, 0
}

func (g *gate) slow(delay time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.delay = delay
}

// pass blocks for as long as something takes to get through, or until done, and then reports false.
func (g *gate) pass(done <-chan struct{}) bool {
	g.mu.Lock()
	closed, delay := g.closed, g.delay
	g.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-done:
			return false
		}
	}
	if closed == nil {
		return true
	}
	select {
	case <-closed:
		return true
	case <-done:
		return false
	}
}
