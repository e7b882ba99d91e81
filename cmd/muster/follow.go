package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/muster-gateway/muster/internal/api"
)

// lookEvery is how often an order that is followed is looked at.
const lookEvery = 500 * time.Millisecond

// follow shows how far an order is until it is done (nil), or cannot be any more, or ctx ends. A coordinator that does not answer is
// asked again, and what one said that has not come to the given revision yet is not believed.
func follow(ctx context.Context, out *display, client api.Client, since int64, look func(*api.Cluster) (string, bool, error)) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		view, err := client.Cluster(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Canceled
		case err != nil:
			out.show("the coordinator does not answer; asking again")
		case view.Revision >= since:
			progress, done, err := look(view)
			if done || err != nil {
				out.end(progress)
				return err
			}
			if view.Leader == "" {
				progress += "; there is no leader"
			}
			out.show(progress)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Canceled
		}
	}
}

// display is one line of text that changes: in place on a terminal; elsewhere each change is a line of its own.
type display struct {
	out      io.Writer
	terminal bool
	shown    string
}

func newDisplay(out *os.File) *display {
	info, err := out.Stat()
	return &display{out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"}
}

// show replaces the text.
func (d *display) show(text string) {
	switch {
	case text == d.shown || text == "":
		return
	case d.terminal:
		fmt.Fprint(d.out, "\r\x1b[K"+text)
	default:
		fmt.Fprintln(d.out, text)
	}
	d.shown = text
}

// end shows the last text, and ends the line.
func (d *display) end(text string) {
	d.show(text)
	if d.terminal && d.shown != "" {
		fmt.Fprintln(d.out)
	}
	d.shown = ""
}
