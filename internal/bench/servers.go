//go:build unix

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/child"
)

// startTimeout bounds the start of a server. The gateway prepares its streams first.
const startTimeout = 2 * time.Minute

// redisServer is a redis-server of the benchmark's own, which keeps nothing on disk.
type redisServer struct {
	addr   string
	client *redis.Client
	stop   func()
}

func startRedis(ctx context.Context) (*redisServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("redis: a free port: %w", err)
	}
	addr := listener.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	_ = listener.Close()
	cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	s := &redisServer{addr: addr, client: redis.NewClient(&redis.Options{Addr: addr}), stop: func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for s.client.Ping(ctx).Err() != nil {
		select {
		case <-ctx.Done():
			s.stop()
			return nil, fmt.Errorf("redis: it does not answer: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return s, nil
}

// clear makes it as empty as it was.
func (s *redisServer) clear(ctx context.Context) error {
	if err := s.client.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("redis: flush: %w", err)
	}
	return nil
}

// verify returns an error unless every stream was given exactly the entries of the run.
func (s *redisServer) verify(ctx context.Context, run spec) error {
	for i := range run.Shards {
		info, err := s.client.XInfoStream(ctx, key(i)).Result()
		if err != nil {
			return fmt.Errorf("%s: stream %d: %w", run, i, err)
		}
		if want := int64(run.Events + 1); info.EntriesAdded != want {
			return fmt.Errorf("%s: stream %d was given %d entries, want %d", run, i, info.EntriesAdded, want)
		}
	}
	return nil
}

// gatewayProcess is the gateway, in a process of its own.
type gatewayProcess struct{ *child.Server }

func startGateway(cfg gatewayConfig) (*gatewayProcess, error) {
	cmd, err := child.Command(context.Background(), cfg, "bench", "gateway")
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	server, err := child.Serve(cmd, startTimeout)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return &gatewayProcess{server}, nil
}

// latencies are those of a paced run that is over.
func (g *gatewayProcess) latencies(ctx context.Context, run int) (all latencies, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/latency/%d", g.Addr, run), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("latencies: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(&all); err != nil {
		return nil, fmt.Errorf("latencies: %w", err)
	}
	slices.Sort(all)
	return all, nil
}

// runProcess runs a client in a process of its own.
func runProcess(ctx context.Context, s spec) (r result, err error) {
	cmd, err := child.Command(ctx, s, "bench", "client")
	if err != nil {
		return result{}, err
	}
	out, err := cmd.Output()
	if err != nil {
		return result{}, fmt.Errorf("%s: %w", s, err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return result{}, fmt.Errorf("%s: %w", s, err)
	}
	return r, nil
}

// playRole has the role that the benchmark gave this process; ok is false if it is the benchmark itself.
func playRole(args []string) (ok bool, err error) {
	if len(args) != 2 {
		return false, nil
	}
	switch args[0] {
	case "gateway":
		var cfg gatewayConfig
		if err := json.Unmarshal([]byte(args[1]), &cfg); err != nil {
			return true, err
		}
		return true, runGateway(cfg, os.Stdin, os.Stdout)
	case "client":
		var s spec
		if err := json.Unmarshal([]byte(args[1]), &s); err != nil {
			return true, err
		}
		r, err := runClient(s)
		if err != nil {
			return true, err
		}
		return true, json.NewEncoder(os.Stdout).Encode(r)
	}
	return false, nil
}
