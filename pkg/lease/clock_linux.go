package lease

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot reads CLOCK_BOOTTIME. Go's own monotonic clock stands still while a machine is suspended, and a lease
// does not: see clock_gettime(2).
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("lease: clock_gettime(CLOCK_BOOTTIME): " + err.Error()) // every Linux that Go supports has it
	}
	return time.Duration(ts.Nano())
}
