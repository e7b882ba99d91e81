package worker

import (
	"testing"
	"time"
)

func TestStopTimeoutCoversAllWaits(t *testing.T) {
	const lastRequest = 5 * time.Second // to etcd, which bounds it in package lease
	if sum := defaultTimings.drain + defaultTimings.release + defaultTimings.flush + lastRequest; sum > StopTimeout {
		t.Errorf("a worker may need %v to stop, and StopTimeout is %v", sum, StopTimeout)
	}
}
