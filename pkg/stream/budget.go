package stream

import (
	"slices"
	"sync"
)

// budget bounds what the Logs of a Writer hold that is not yet in Redis, so that
// none can keep the others from going on. Half of it is divided evenly between
// the Logs: while one holds less than its share, nobody makes it wait. The other
// half is for whoever needs more, first come, first served. So a burst of one
// shard finds room while the others are quiet, and when Redis is away for long,
// what every shard can hold is nearly the same.
//
// An entry that is larger than a share must not wait for ever while a part of
// Redis is away: a Log that holds nothing may always take one.
type budget struct {
	mu      sync.Mutex
	share   int64 // of each account
	common  int64 // what they may hold beyond their shares, together
	beyond  int64 // what they do
	members []*account
	waiting []*claim // for the common half, the oldest first
}

// account is what one Log holds.
type account struct {
	budget *budget
	held   int64
	closed bool
}

// claim is an account's wish for more, when it has to wait for it.
type claim struct {
	account *account
	bytes   int64
	granted chan struct{} // closed when it has it
}

func newBudget(maxBytes int64) *budget { return &budget{common: maxBytes / 2} }

// open makes an account, and all shares smaller.
func (b *budget) open() *account {
	a := &account{budget: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members = append(b.members, a)
	b.divide()
	return a
}

// close ends an account as soon as it holds nothing any more.
func (a *account) close() {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	a.closed = true
	b.settle(a)
}

// settle leaves an account out, and makes the others' shares larger, if it is
// closed and empty. Callers hold mu.
func (b *budget) settle(a *account) {
	if a.closed && a.held == 0 {
		b.members = slices.DeleteFunc(b.members, func(other *account) bool { return other == a })
		b.divide()
	}
	b.grant()
}

// divide works out the shares. Callers hold mu.
func (b *budget) divide() {
	b.share = b.common / int64(max(len(b.members), 1))
	b.beyond = 0
	for _, a := range b.members {
		b.beyond += a.excess()
	}
}

// excess is what the account holds beyond its share.
func (a *account) excess() int64 { return max(0, a.held-a.budget.share) }

// try takes bytes if they are free. Who has waited comes first.
func (a *account) try(bytes int64) bool {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	return a.take(bytes, len(a.budget.waiting) == 0)
}

// take takes bytes from the account's share or, if it may, from the common half.
// Callers hold the budget's mu.
func (a *account) take(bytes int64, common bool) bool {
	b := a.budget
	more := max(0, a.held+bytes-b.share) - a.excess()
	if a.held > 0 && more > 0 && (!common || b.beyond+more > b.common) {
		return false
	}
	a.held += bytes
	b.beyond += more
	return true
}

// claim takes bytes, and returns nil, or queues up for them.
func (a *account) claim(bytes int64) *claim {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.take(bytes, len(b.waiting) == 0) {
		return nil
	}
	c := &claim{account: a, bytes: bytes, granted: make(chan struct{})}
	b.waiting = append(b.waiting, c)
	return c
}

// withdraw gives up waiting, and reports whether the claim was granted in the
// very moment; then the bytes are the account's.
func (c *claim) withdraw() (granted bool) {
	b := c.account.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-c.granted:
		return true
	default:
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(other *claim) bool { return other == c })
	b.grant() // whom this one kept waiting
	return false
}

// release gives bytes back.
func (a *account) release(bytes int64) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	before := a.excess()
	a.held -= bytes
	b.beyond -= before - a.excess()
	b.settle(a)
}

// grant serves those who wait: of those who need the common half the oldest
// first, and whose wish fits their own share in any case. Callers hold mu.
func (b *budget) grant() {
	common := true
	b.waiting = slices.DeleteFunc(b.waiting, func(c *claim) bool {
		if !c.account.take(c.bytes, common) {
			common = false
			return false
		}
		close(c.granted)
		return true
	})
}
