// Package hostlock lets processes of one host see whether another of them still lives: each holds a lock on a file for as long as it does.
// The kernel releases the lock when the process has ended, however that came about, and not before: one that is stopped, starved or waits for a
// disk keeps it.
//
// What is proved is this. An [ID] names a file, on a kernel since its boot. Who holds a lock has the file open, and while anybody
// has, no other file of that kernel has the same ID. So if a process has said, while it held its lock, which ID that has, and later nobody
// holds the lock of the file with that ID, or we do ourselves, then that process has ended. A file that was removed and made anew, a
// directory that containers share or do not, another boot, or a process that never got its lock prove nothing, since the ID is then another or
// was never said.
//
// Network file systems may take a lock from a process that lives, so only those are used that are known to be local. The package works on
// Linux; elsewhere its functions return [errors.ErrUnsupported].
package hostlock

import "errors"

// ErrHeld says that another process holds the lock, or another [Lock] of this one.
var ErrHeld = errors.New("lock is held by another process")

// ID names the file of a lock, among all files that any process of the same kernel can have open. The zero ID names none.
type ID string

// State is how a lock is at one moment.
type State struct {
	ID   ID
	Held bool
	Mark int64 // another whenever the lock was taken anew
}
