//go:build unix

package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// meter measures a run within the client's process.
type meter struct {
	spec  spec
	redis *redis.Client

	once    sync.Once
	started reading
	err     error // of the first reading
}

// reading is what the process and Redis have used up so far.
type reading struct {
	at         time.Time
	cpu, redis time.Duration
	mallocs    uint64
}

// event takes note of an event's number. The first of all that follow the READYs starts the clock.
func (m *meter) event(seq int64) {
	if seq == 2 {
		m.once.Do(m.start)
	}
}

func (m *meter) start() {
	m.started, m.err = m.read()
	if m.err != nil || m.spec.Profile == "" {
		return
	}
	file, err := os.Create(m.spec.Profile)
	if err == nil {
		err = pprof.StartCPUProfile(file)
	}
	m.err = err
}

// stop ends the measuring: all is in Redis.
func (m *meter) stop() (result, error) {
	now, err := m.read()
	pprof.StopCPUProfile()
	if err == nil {
		err = m.err
	}
	return result{
		Elapsed: now.at.Sub(m.started.at), CPU: now.cpu - m.started.cpu, RedisCPU: now.redis - m.started.redis,
		Mallocs: now.mallocs - m.started.mallocs, Events: m.spec.Shards * m.spec.Events,
	}, err
}

func (m *meter) read() (reading, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	used, err := redisCPU(ctx, m.redis)
	if err != nil {
		return reading{}, err
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return reading{}, fmt.Errorf("getrusage: %w", err)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return reading{time.Now(), time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), used, memory.Mallocs}, nil
}

// redisCPU is what the server has used so far, user and system.
func redisCPU(ctx context.Context, client *redis.Client) (time.Duration, error) {
	info, err := client.Info(ctx, "cpu").Result()
	if err != nil {
		return 0, fmt.Errorf("redis: cpu time: %w", err)
	}
	var sum float64
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, fmt.Errorf("redis: cpu time: %w", err)
			}
			sum += seconds
		}
	}
	return time.Duration(sum * float64(time.Second)), nil
}
