package stream

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// DeniedError says that Redis answers but does not let this client in, or not do
// what it has to. Only a person can mend that.
type DeniedError struct{ Err error } // Redis' own

// Error says what is wrong, in one line.
func (e *DeniedError) Error() string {
	if lacksRight(e.Err) {
		return fmt.Sprintf("redis denies this user what it has to do: give it the right (%v)", e.Err)
	}
	return fmt.Sprintf("redis does not accept this user: check name and password (%v)", e.Err)
}

// Unwrap is Redis' error.
func (e *DeniedError) Unwrap() error { return e.Err }

// Access makes sure that Redis can be used before anything depends on it: it
// answers, lets the client in, and lets it write the cluster's keys and run
// scripts; else the error is a *DeniedError. Whether it has room for what will be
// written, or is the master, it does not tell: see Probe.
func Access(ctx context.Context, client Client, cluster string) error {
	if err := Ping(ctx, client); err != nil {
		return denied(err, err)
	}
	_, err := Tail(ctx, client, cluster, 0)
	if err = denied(err, nil); err != nil {
		return err
	}
	return denied(Probe(ctx, client, cluster), nil)
}

// denied makes a DeniedError of an error that says so; of any other, and of none,
// it returns what is given for that.
func denied(err, otherwise error) error {
	if redis.IsAuthError(err) || lacksRight(err) {
		return &DeniedError{err}
	}
	return otherwise
}

// lacksRight reports whether an error says that the user lacks a right. What a
// script is denied has no code of its own; the texts are those of Redis 7.0, and
// of 7.2 and later.
func lacksRight(err error) bool {
	return redis.IsPermissionError(err) ||
		redis.HasErrorPrefix(err, "The user executing the script can't") || redis.HasErrorPrefix(err, "ACL failure in script")
}
