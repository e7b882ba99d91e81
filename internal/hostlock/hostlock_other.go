//go:build !linux

package hostlock

import (
	"errors"
	"fmt"
)

// Lock is a lock that this process holds.
type Lock struct{}

// Take is not supported.
func Take(_, name string) (*Lock, error) {
	return nil, fmt.Errorf("take lock %s: %w", name, errors.ErrUnsupported)
}

// ID names the lock.
func (*Lock) ID() ID { return "" }

// Release does nothing.
func (*Lock) Release() {}

// Look is not supported.
func Look(_, name string) (State, error) {
	return State{}, fmt.Errorf("look at lock %s: %w", name, errors.ErrUnsupported)
}

// Names lists none.
func Names(string) ([]string, error) { return nil, nil }
