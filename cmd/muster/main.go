// Command muster is the operator's tool: it runs a whole cluster on one machine to try it (dev), shows how a cluster is (status),
// gives it orders (drain, rebalance, down, up, reshard), prints its events (tail), sends commands to Discord (send), and runs the
// simulated Discord alone (sim). See muster --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/hashicorp/go-hclog"
	kongcompletion "github.com/jotaen/kong-completion"

	"github.com/muster-gateway/muster/internal/app"
	"github.com/muster-gateway/muster/internal/bench"
	"github.com/muster-gateway/muster/internal/config"
	"github.com/muster-gateway/muster/pkg/stream"
)

// errUnclean ends the command with exit code 1; what is wrong was already said.
var errUnclean = errors.New("unclean")

type cli struct {
	Dev       devCmd       `cmd:"" help:"Run a whole cluster on this machine: etcd, Redis, simulated Discord, coordinator, workers."`
	Status    statusCmd    `cmd:"" help:"Show how a cluster is."`
	Shards    shardsCmd    `cmd:"" help:"List shards: what each is doing, and where."`
	Drain     drainCmd     `cmd:"" help:"Have a worker hand over all its shards, before it is stopped."`
	Rebalance rebalanceCmd `cmd:"" help:"Even out load now."`
	Down      downCmd      `cmd:"" help:"Close every socket of the cluster, until muster up."`
	Up        upCmd        `cmd:"" help:"End muster down: sessions are resumed where Discord still has them."`
	Reshard   reshardCmd   `cmd:"" help:"Change the number of shards."`
	Tail      tailCmd      `cmd:"" help:"Print a cluster's events as they come."`
	Send      sendCmd      `cmd:"" help:"Send a command to Discord by way of a shard, of all, or of the one that has a guild."`
	Sim       simCmd       `cmd:"" help:"Run the simulated Discord alone."`
	Bench     benchCmd     `cmd:"" passthrough:"" help:"Measure what an event costs on this machine, from socket to Redis; bench -help lists its flags."`

	Completion completionCmd `cmd:"" help:"Say how to have bash, zsh or fish complete commands and flags."`
}

// completionCmd prints what a shell needs to complete muster's commands and flags.
type completionCmd = kongcompletion.Completion

// benchCmd stands for bench.Main in --help.
type benchCmd struct {
	Args []string `arg:"" optional:""`
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	// The processes of muster dev are this binary again.
	if len(args) > 0 && args[0] == "coordinator" {
		return app.Coordinator(args[1:])
	}
	if len(args) > 0 && args[0] == "worker" {
		return app.Worker(args[1:])
	}
	if len(args) > 0 && args[0] == "bench" { // whose processes are this binary again, too
		return bench.Main(args[1:])
	}
	command, code, ok := config.ParseCommand("muster", "One Discord gateway cluster over many machines.", &cli{}, args)
	if !ok {
		return code
	}
	stream.LogClientTo(hclog.NewNullLogger()) // what matters of it, the reader says itself
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends us at once
	command.BindTo(ctx, (*context.Context)(nil))
	return exitCode(command, command.Run())
}

func exitCode(command *kong.Context, err error) int {
	var bad badInput
	switch {
	case err == nil:
		return 0
	case errors.As(err, &bad):
		return config.Fail("muster "+command.Command(), err)
	case errors.Is(err, errTrouble):
		return 3
	case !errors.Is(err, errUnclean):
		fmt.Fprintln(os.Stderr, "muster:", err)
	}
	return 1
}

// badInput is an error of who called us.
type badInput struct{ error }
