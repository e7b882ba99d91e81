//go:build unix

package bench

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// fakeGateway plays baked streams to whoever connects. The path of a connection's URL says what it is part of:
// /<run>/<shards>/<events of each>/<events a second of each>. Events begin to flow when all of a run's shards have identified.
type fakeGateway struct {
	streams map[string]*baked // by transport
	redis   string

	mu   sync.Mutex
	runs map[int]*play
}

// play is one run as the gateway sees it.
type play struct {
	shards, events, rate int
	stream               *baked

	mu       sync.Mutex
	conns    []net.Conn // by shard
	arrived  int
	complete chan struct{} // closed when all have identified

	latency *latency // of paced runs
}

// gatewayConfig is what the benchmark tells the gateway process.
type gatewayConfig struct {
	Events map[string]int // at most so many of a shard, by transport
	Redis  string
}

// runGateway is the gateway process. It says where it listens, and ends with its input, which is its parent's other end of a pipe.
func runGateway(cfg gatewayConfig, in io.Reader, out io.Writer) error {
	g := &fakeGateway{streams: map[string]*baked{}, runs: map[int]*play{}, redis: cfg.Redis}
	corpus := newCorpus()
	for transport, events := range cfg.Events {
		b, err := bake(corpus, transport, events)
		if err != nil {
			return err
		}
		g.streams[transport] = b
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{run}/{shards}/{events}/{rate}", g.connect)
	mux.HandleFunc("GET /latency/{run}", g.reportLatency)
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(listener, mux) }()
	if _, err := fmt.Fprintln(out, listener.Addr()); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		failed <- nil
	}()
	return <-failed
}

func (g *fakeGateway) connect(w http.ResponseWriter, r *http.Request) {
	p, err := g.play(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	conn, buffered, err := upgrade(w, r)
	if err != nil {
		return // the client finds out
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(p.stream.messages(0, 1)); err != nil {
		return
	}
	shard, err := identified(buffered)
	if err != nil {
		return
	}
	if _, err := conn.Write(p.stream.messages(1, 2)); err != nil {
		return
	}
	if p.join(shard, conn) {
		p.begin(g.redis)
	}
	go func() {
		<-p.complete
		if p.rate == 0 {
			_, _ = conn.Write(p.stream.messages(2, 2+p.events))
		}
	}()
	_, _ = io.Copy(io.Discard, buffered) // until the client is gone
}

// play returns the run that a connection belongs to, which the first of them makes.
func (g *fakeGateway) play(r *http.Request) (*play, error) {
	var numbers [4]int
	for i, name := range []string{"run", "shards", "events", "rate"} {
		var err error
		if numbers[i], err = strconv.Atoi(r.PathValue(name)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	run, shards, events, rate := numbers[0], numbers[1], numbers[2], numbers[3]
	transport := r.URL.Query().Get("compress")

	g.mu.Lock()
	defer g.mu.Unlock()
	if known := g.runs[run]; known != nil {
		return known, nil
	}
	stream := g.streams[transport]
	if stream == nil || events+2 > len(stream.ends) || shards < 1 {
		return nil, fmt.Errorf("there are no %d events of %q", events, transport)
	}
	g.runs[run] = &play{
		shards: shards, events: events, rate: rate, stream: stream,
		conns: make([]net.Conn, shards), complete: make(chan struct{}),
	}
	return g.runs[run], nil
}

// join adds a connection that has identified and reports whether it is the last one.
func (p *play) join(shard int, conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if shard < p.shards && p.conns[shard] == nil {
		p.conns[shard] = conn
		p.arrived++
	}
	return p.arrived == p.shards
}

// begin lets the events flow, a moment after the last READY.
func (p *play) begin(redis string) {
	time.Sleep(50 * time.Millisecond)
	if p.rate > 0 {
		p.latency = newLatency(p, redis)
		go p.pace()
	}
	close(p.complete)
}

// upgrade answers the opening handshake (RFC 6455, 4.2.2). The library that others use for that would not let go of the connection.
func upgrade(w http.ResponseWriter, r *http.Request) (net.Conn, *bufio.Reader, error) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("not a connection of its own")
	}
	conn, buffered, err := hijacker.Hijack()
	if err != nil {
		return nil, nil, err
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	return conn, buffered.Reader, err
}

// identified reads messages until one is IDENTIFY, and returns whose.
func identified(r io.Reader) (shard int, err error) {
	for {
		payload, err := readFrame(r)
		if err != nil {
			return 0, err
		}
		var message struct {
			Op   int `json:"op"`
			Data struct {
				Shard [2]int `json:"shard"`
			} `json:"d"`
		}
		if json.Unmarshal(payload, &message) == nil && message.Op == 2 {
			return message.Data.Shard[0], nil
		}
	}
}

// readFrame reads a message of a client, which is masked and not large.
func readFrame(r io.Reader) ([]byte, error) {
	var head [14]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return nil, err
	}
	size := uint64(head[1] & 0x7f)
	switch size {
	case 126:
		if _, err := io.ReadFull(r, head[:2]); err != nil {
			return nil, err
		}
		size = uint64(binary.BigEndian.Uint16(head[:]))
	case 127:
		return nil, errors.New("a client's message is too large")
	}
	mask := head[10:]
	if _, err := io.ReadFull(r, mask); err != nil {
		return nil, err
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return payload, nil
}
