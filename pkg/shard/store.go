package shard

import (
	"context"
	"sync"
)

// Store keeps what it takes to resume sessions. With one that outlives the process, so do the sessions, for the few minutes
// that Discord keeps one without a socket. [MemoryStore] is the default.
type Store interface {
	// Load returns where the shard's session stands, for [Session.Run] to go on there. The zero Resume means that there
	// is none. An error ends Run.
	Load(ctx context.Context, id ID) (Resume, error)
	// Begin is told of each new session, with Seq 0, before its READY is delivered. An error ends Run.
	Begin(ctx context.Context, id ID, session Resume) error
	// End is told, when Run ends, where the session stands, or the zero Resume if none is left to resume. Its context has
	// a few seconds left, also when Run's has ended. Run returns its error.
	//
	// What lies between is for [Config.Deliver] to note, if the store is to survive a crash: a Seq that is too old only
	// makes Discord repeat more, but one that is too new loses events.
	End(ctx context.Context, id ID, session Resume) error
}

// MemoryStore keeps sessions in memory. The zero value is ready, and may be used by many goroutines at once.
type MemoryStore struct {
	mu       sync.Mutex
	sessions map[ID]Resume
}

// Load implements [Store].
func (m *MemoryStore) Load(_ context.Context, id ID) (Resume, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[id], nil
}

// Begin implements [Store].
func (m *MemoryStore) Begin(_ context.Context, id ID, session Resume) error {
	return m.save(id, session)
}

// End implements [Store].
func (m *MemoryStore) End(_ context.Context, id ID, session Resume) error {
	return m.save(id, session)
}

func (m *MemoryStore) save(id ID, session Resume) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions == nil {
		m.sessions = map[ID]Resume{}
	}
	m.sessions[id] = session
	return nil
}
