package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
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
	From  string   `default:"$$" placeholder:"ID" help:"$$: what comes from now on; 0: from the oldest kept; or after an entry id (${default})."`
	JSON  bool     `help:"One JSON object a line, with the whole of d."`
}

// dWidth is how much of d a line shows, in bytes.
const dWidth = 120

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
		Cluster: c.Name, Shards: c.Shard, From: c.From, Types: c.Type,
		Logger: hclog.New(&hclog.LoggerOptions{Name: "tail", Output: os.Stderr}),
	})
	if err != nil {
		return badInput{err}
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	last := time.Now()
	return reader.Run(ctx, func(_ context.Context, m stream.Message) error {
		if err := c.print(out, m); err != nil {
			return err
		}
		// A burst is written together; a person sees a single event at once.
		if now := time.Now(); now.Sub(last) > 50*time.Millisecond || out.Buffered() > 32<<10 {
			last = now
			return out.Flush()
		}
		return nil
	})
}

func (c *tailCmd) print(out *bufio.Writer, m stream.Message) error {
	if c.JSON {
		if !json.Valid(m.Data) {
			m.Data = []byte("null")
		}
		text, err := json.Marshal(line{m.Shard, m.ID, m.Type, m.Data})
		if err != nil {
			return err
		}
		_, err = out.Write(append(text, '\n'))
		return err
	}
	d, more := m.Data, ""
	if len(d) > dWidth {
		d, more = d[:dWidth], "…"
	}
	_, err := fmt.Fprintf(out, "%4d  %-12s %-28s %s%s\n", m.Shard, m.ID, m.Type, d, more)
	return err
}
