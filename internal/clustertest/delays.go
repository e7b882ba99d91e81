package clustertest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/muster-gateway/muster/pkg/stream"
)

// Delays are how late events reach a consumer.
type Delays struct {
	stop func()

	mu  sync.Mutex
	all []time.Duration
}

// WatchDelays begins to consume all streams as they grow. Discord's snowflakes say when an event was made.
func (c *Cluster) WatchDelays() *Delays {
	c.tb.Helper()
	reader, err := stream.NewReader(c.openRedis(), stream.ReaderOptions{Cluster: Name, From: "$"})
	c.must(err)
	d := &Delays{}
	d.stop = c.background(func(ctx context.Context) error { return reader.Run(ctx, d.take) })
	return d
}

// discordEpoch is what the milliseconds of a snowflake count from, in Unix milliseconds.
const discordEpoch = 1420070400000

func (d *Delays) take(_ context.Context, m stream.Message) error {
	now := time.Now()
	var event struct {
		ID string `json:"id"`
	}
	if m.Type != "MESSAGE_CREATE" || json.Unmarshal(m.Data, &event) != nil {
		return nil
	}
	id, err := strconv.ParseUint(event.ID, 10, 64)
	if err != nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, now.Sub(time.UnixMilli(int64(id>>22)+discordEpoch)))
	return nil
}

// Stop ends the consumer and sums up what it saw.
func (d *Delays) Stop() string {
	d.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) == 0 {
		return "nothing known"
	}
	slices.Sort(d.all)
	at := func(share float64) time.Duration {
		return d.all[int(share*float64(len(d.all)-1))].Round(time.Millisecond)
	}
	return fmt.Sprintf("p50 %v, p99 %v, p99.9 %v, at most %v, of %d messages", at(0.5), at(0.99), at(0.999), at(1), len(d.all))
}
