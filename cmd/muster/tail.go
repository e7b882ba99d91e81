package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/internal/config"
	"github.com/muster-gateway/muster/pkg/stream"
)

type tailCmd struct {
	config.Redis
	config.Cluster
	Shard []int    `placeholder:"N" help:"Only these shards; may be repeated."`
	Type  []string `placeholder:"NAME" help:"Only these events, such as MESSAGE_CREATE; may be repeated. Gap markers always come."`
	Guild []uint64 `placeholder:"ID" help:"Only events of these guilds; may be repeated. Gap markers always come."`
	From  string   `default:"$$" placeholder:"ID" help:"$$: what comes from now on; 0: from the oldest kept; or after an entry id (${default})."`
	Group string   `placeholder:"NAME" help:"Consume with this group: what is printed is acknowledged, what the filters leave out as well, and the next one goes on there."`
	JSON  bool     `help:"One JSON object a line, with the whole of d."`
}

const (
	// dWidth is how much of d a line shows, in bytes.
	dWidth = 120
	// flushEvery is how long a line may wait for others to be written with it.
	flushEvery = 50 * time.Millisecond
)

// line is what --json prints.
type line struct {
	Shard int             `json:"shard"`
	ID    stream.ID       `json:"id"`
	Type  string          `json:"t"`
	Data  json.RawMessage `json:"d"`
}

// Run prints entries until ctx ends.
func (c *tailCmd) Run(ctx context.Context) error {
	client, err := stream.Open(string(c.Redis.URL))
	if err != nil {
		return badInput{err}
	}
	defer client.Close()
	reader, err := stream.NewReader(client, stream.ReaderOptions{
		Cluster: c.Name, Shards: c.Shard, From: c.From, Types: c.Type, Group: c.Group,
		Logger: hclog.New(&hclog.LoggerOptions{Name: "tail", Output: os.Stderr}),
	})
	if err != nil {
		return badInput{err}
	}
	out := newPrinter(os.Stdout, c.JSON, colourful(os.Stdout))
	ctx, stop := context.WithCancel(ctx)
	failed := make(chan error, 1)
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		out.flushUntil(ctx)
	}()
	_ = reader.Run(ctx, func(_ context.Context, m stream.Message) error { // fails only when printing does
		if !c.wants(m) {
			return nil
		}
		err := out.print(m)
		if err == nil && c.Group != "" { // what is acknowledged has been seen
			err = out.flush()
		}
		if err != nil {
			select {
			case failed <- err:
			default:
			}
			stop() // a group would try again
		}
		return err
	})
	stop()
	<-flushed
	select {
	case err := <-failed:
		return err
	default:
		return out.flush()
	}
}

// wants applies the filter that the reader does not know.
func (c *tailCmd) wants(m stream.Message) bool {
	if len(c.Guild) == 0 || stream.IsMarker(m.Type) {
		return true
	}
	guild := guildOf(m)
	for _, want := range c.Guild {
		if strconv.FormatUint(want, 10) == guild {
			return true
		}
	}
	return false
}

// guildOf returns the id of the guild an event is of, "" if it is of none.
func guildOf(m stream.Message) string {
	var d struct {
		ID      string `json:"id"`
		GuildID string `json:"guild_id"`
	}
	_ = json.Unmarshal(m.Data, &d) // some have neither, or are no object
	switch m.Type {
	case "GUILD_CREATE", "GUILD_UPDATE", "GUILD_DELETE": // the guild itself
		return d.ID
	}
	return d.GuildID
}

// colourful reports whether a person looks at f, and has not said that they want no colours (https://no-color.org).
func colourful(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// printer writes messages as lines. Those of a burst are written together.
type printer struct {
	json, colours bool

	mu  sync.Mutex
	out *bufio.Writer
}

func newPrinter(w io.Writer, json, colours bool) *printer {
	return &printer{json: json, colours: colours && !json, out: bufio.NewWriterSize(w, 32<<10)}
}

func (p *printer) flushUntil(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = p.flush() // the writer keeps its error, and print returns it
		}
	}
}

func (p *printer) flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Flush()
}

func (p *printer) print(m stream.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.json {
		_, err := p.out.WriteString(p.text(m))
		return err
	}
	if !json.Valid(m.Data) {
		m.Data = []byte("null")
	}
	text, err := json.Marshal(line{m.Shard, m.ID, m.Type, m.Data})
	if err != nil {
		return err
	}
	_, err = p.out.Write(append(text, '\n'))
	return err
}

// text is the line for a person.
func (p *printer) text(m stream.Message) string {
	d, more := m.Data, ""
	if len(d) > dWidth {
		d, more = d[:dWidth], "…"
	}
	data := printable(strings.ToValidUTF8(string(d), "")) + more
	id, eventType := fmt.Sprintf("%-12s", m.ID), fmt.Sprintf("%-28s", printable(m.Type))
	if !p.colours {
		return fmt.Sprintf("%4d  %s %s %s\n", m.Shard, id, eventType, data)
	}
	const dim, bold, plain, cut, wrap = "\x1b[2m", "\x1b[1m", "\x1b[0m", "\x1b[?7l", "\x1b[?7h" // cut: at the terminal's edge
	return cut + fmt.Sprintf("%s%4d%s  %s%s%s %s%s%s %s", bold, m.Shard, plain, dim, id, plain, colourOf(m.Type), eventType, plain, data) + wrap + "\n"
}

// colourOf makes what a person looks for stand out: what was lost, what sessions do, and guilds that come and go.
func colourOf(eventType string) string {
	const red, yellow, magenta, cyan = "\x1b[1;31m", "\x1b[33m", "\x1b[35m", "\x1b[36m"
	switch {
	case eventType == stream.GapType:
		return red
	case eventType == stream.ReshardType, eventType == "READY", eventType == "RESUMED":
		return yellow
	case strings.HasPrefix(eventType, "GUILD_"):
		return magenta
	}
	return cyan
}

// printable keeps what is in Redis from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '·'
		}
		return r
	}, s)
}
