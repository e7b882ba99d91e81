package shard

import (
	"context"
	"fmt"
	"time"
)

// question is the wait for leave to speak, on a goroutine of its own, so that heartbeats go on meanwhile.
type question struct {
	answers chan answer // gets exactly one
	cancel  context.CancelFunc
}

type answer struct {
	permit Permit
	err    error
}

// ask begins to wait: first for delay, then for an identify permit where one is needed, then at the gate.
// The gate comes last so that nothing lies between it and what it allows.
func ask(ctx context.Context, cfg *Config, identify bool, wait time.Duration) *question {
	ctx, cancel := context.WithCancel(ctx)
	q := &question{answers: make(chan answer, 1), cancel: cancel}
	go func() {
		defer cancel() // or its parent, Run's context, would hold it for ever
		permit, err := leave(ctx, cfg, identify, wait)
		q.answers <- answer{permit, err}
	}()
	return q
}

func leave(ctx context.Context, cfg *Config, identify bool, wait time.Duration) (permit Permit, err error) {
	if err := sleep(ctx, wait); err != nil {
		return Permit{}, err
	}
	if identify {
		if permit, err = cfg.Identifier.Permit(ctx, cfg.ID); err != nil {
			return Permit{}, fmt.Errorf("identify permit: %w", err)
		}
	}
	if err := cfg.Gate(ctx); err != nil {
		return Permit{}, fmt.Errorf("gate: %w", err)
	}
	return permit, nil
}

// answer is where the answer comes; on no question at all it never does.
func (q *question) answer() <-chan answer {
	if q == nil {
		return nil
	}
	return q.answers
}

// stop cancels the wait and joins its goroutine.
func (q *question) stop() {
	if q == nil {
		return
	}
	q.cancel()
	<-q.answers
}

// sleep waits for d, or until the context ends and then returns its error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
