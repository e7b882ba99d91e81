package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/config"
)

// coordinatorFlags say whom to ask.
type coordinatorFlags struct {
	Coordinator string `env:"MUSTER_COORDINATOR_URL" default:"http://127.0.0.1:8080" placeholder:"URL" help:"Address of any coordinator replica (${default})."`
}

// orderFlags are those of every order.
type orderFlags struct {
	coordinatorFlags
	config.Admin
	Wait bool `default:"true" negatable:"" help:"Follow the order until it is done (yes)."`
}

// order is what an operator wants of a cluster. Once taken it stands in etcd, whatever becomes of this process.
type order struct {
	give func(api.Client) (api.Ordered, error)
	said string // that it was taken
	// look says how far it is in a cluster that knows of it, and in the end how it ended. Nil: there is nothing to wait for.
	look func(*api.Cluster) (progress string, done bool, err error)
	back string // how to take it back
}

// run gives the order and, if that is wanted, follows it to its end.
func (f *orderFlags) run(ctx context.Context, o order) error {
	token, err := f.ReadAdminToken()
	if err != nil {
		return badInput{err}
	}
	client := api.Client{Base: f.Coordinator, AdminToken: token}
	ordered, err := o.give(client)
	if err != nil {
		return explain(err)
	}
	fmt.Println(o.said)
	if !f.Wait || o.look == nil {
		return nil
	}
	out := newDisplay(os.Stdout)
	err = follow(ctx, out, client, ordered.Revision, o.look)
	if errors.Is(err, context.Canceled) {
		out.end("interrupted: the order stands, and is carried out all the same; " + o.back)
		return errUnclean
	}
	return err
}

// explain makes what a coordinator refused bad input, if it is that, and says where the token comes from.
func explain(err error) error {
	refused, ok := errors.AsType[*api.RefusedError](err)
	switch {
	case ok && refused.Status == http.StatusBadRequest:
		return badInput{refused}
	case ok && refused.Status == http.StatusUnauthorized:
		return errors.New("the coordinator wants its admin token: --admin-token-file or MUSTER_ADMIN_TOKEN_FILE")
	case ok:
		return fmt.Errorf("refused: %w", refused)
	}
	return err
}

type drainCmd struct {
	Worker string `arg:"" help:"Id of the worker."`
	Cancel bool   `help:"Take the order back."`
	orderFlags
}

// Run has a worker hand over all it has.
func (c *drainCmd) Run(ctx context.Context) error {
	if c.Cancel {
		return c.run(ctx, order{
			give: func(client api.Client) (api.Ordered, error) { return client.CancelDrain(ctx, c.Worker) },
			said: c.Worker + " is given ranges again",
		})
	}
	var incarnation int64
	return c.run(ctx, order{
		give: func(client api.Client) (api.Ordered, error) {
			ordered, err := client.Drain(ctx, c.Worker)
			for _, d := range ordered.Directives.Drains {
				if d.Worker == c.Worker {
					incarnation = d.Incarnation
				}
			}
			return ordered, err
		},
		said: c.Worker + " is to hand over all its shards; it stays, without any, until it is stopped",
		look: func(v *api.Cluster) (string, bool, error) { return drained(v, c.Worker, incarnation) },
		back: "muster drain --cancel " + c.Worker + " takes it back",
	})
}

type rebalanceCmd struct{ orderFlags }

// Run has load evened out.
func (c *rebalanceCmd) Run(ctx context.Context) error {
	return c.run(ctx, order{
		give: func(client api.Client) (api.Ordered, error) { return client.Rebalance(ctx) },
		said: "load is to be evened out",
		look: rebalanced,
		back: "it cannot be taken back",
	})
}

type downCmd struct {
	EndSessions bool `help:"End the sessions too: each shard identifies anew when the cluster is up again."`
	orderFlags
}

// Run has every socket closed.
func (c *downCmd) Run(ctx context.Context) error {
	said := "every socket is to be closed, to be resumed when the cluster is up again; Discord keeps the sessions for minutes only"
	if c.EndSessions {
		said = "every session is to be ended"
	}
	return c.run(ctx, order{
		give: func(client api.Client) (api.Ordered, error) { return client.Down(ctx, c.EndSessions) },
		said: said,
		look: isDown,
		back: "muster up takes it back",
	})
}

type upCmd struct{ orderFlags }

// Run has the cluster connect again.
func (c *upCmd) Run(ctx context.Context) error {
	return c.run(ctx, order{
		give: func(client api.Client) (api.Ordered, error) { return client.Up(ctx) },
		said: "the cluster is to be up",
		look: new(upward).look,
		back: "muster down takes it back",
	})
}

type reshardCmd struct {
	Shards *int `arg:"" optional:"" name:"n" help:"The number of shards to change to."`
	Abort  bool `help:"Give the change that is under way up again."`
	orderFlags
}

// Run has the number of shards changed.
func (c *reshardCmd) Run(ctx context.Context) error {
	if c.Abort == (c.Shards != nil) {
		return badInput{errors.New("want either a number of shards or --abort")}
	}
	if c.Abort {
		return c.run(ctx, order{
			give: func(client api.Client) (api.Ordered, error) { return client.AbortReshard(ctx) },
			said: "the change of the number of shards is to be given up",
			look: aborted,
			back: "it cannot be taken back",
		})
	}
	return c.run(ctx, order{
		give: func(client api.Client) (api.Ordered, error) { return client.Reshard(ctx, *c.Shards) },
		said: fmt.Sprintf("the cluster is to have %d shards", *c.Shards),
		look: func(v *api.Cluster) (string, bool, error) { return resharded(v, *c.Shards) },
		back: "muster reshard --abort gives it up",
	})
}
