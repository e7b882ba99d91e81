package devstack

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/muster-gateway/muster/internal/freeport"
)

// redisServer is the Redis of a stack, whatever it is.
type redisServer struct {
	url   string
	kind  string // in words, for people
	close func()
}

// startRedis uses the given Redis, or starts a redis-server if there is one on PATH, or else an embedded stand-in.
func startRedis(ctx context.Context, given string, spawn *spawner, dir string) (redisServer, error) {
	if given != "" {
		return redisServer{given, "the given one", func() {}}, nil
	}
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		mini, err := miniredis.Run()
		if err != nil {
			return redisServer{}, fmt.Errorf("start embedded redis: %w", err)
		}
		return redisServer{"redis://" + mini.Addr() + "/0", "embedded miniredis, since no redis-server was found", mini.Close}, nil
	}
	address, err := freeport.Addr()
	if err != nil {
		return redisServer{}, err
	}
	_, port, _ := net.SplitHostPort(address)
	p, err := spawn.spawn("redis-server", binary, []string{
		"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir,
	}, nil, io.Discard)
	if err != nil {
		return redisServer{}, err
	}
	server := redisServer{
		url: "redis://" + address + "/0", kind: "a redis-server of its own (" + binary + ")",
		close: func() { p.Stop(5 * time.Second) },
	}
	if err := awaitRedis(ctx, address, p); err != nil {
		server.close()
		return redisServer{}, err
	}
	return server, nil
}

// awaitRedis waits for a server that was just started to listen; it answers from then on.
func awaitRedis(ctx context.Context, address string, p *Process) error {
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.Done():
			return fmt.Errorf("redis-server ended with code %d", p.ExitCode())
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
