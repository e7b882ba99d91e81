package main

import (
	"errors"
	"fmt"

	"github.com/muster-gateway/muster/internal/api"
)

// The functions below say how far an order is: pure functions of the cluster as a coordinator shows it.

func drained(v *api.Cluster, id string, incarnation int64) (string, bool, error) {
	var worker api.Worker
	heirs := 0
	for _, w := range v.Workers {
		if w.ID == id {
			worker = w
		} else if !w.Draining {
			heirs++
		}
	}
	ordered := false
	for _, d := range v.Directives.Drains {
		ordered = ordered || d.Worker == id && d.Incarnation == incarnation
	}
	switch left := plural(worker.Shards, "shard") + " left"; {
	case worker.Incarnation != incarnation:
		return id + " is gone", true, nil
	case !ordered:
		return left, false, fmt.Errorf("the drain of %s was taken back", id)
	case worker.Shards == 0:
		return id + " has no shards left: it can be stopped", true, nil
	case heirs == 0:
		return left + ", and no other worker to take them: start one", false, nil
	default:
		return left, false, nil
	}
}

func rebalanced(v *api.Cluster) (string, bool, error) {
	if v.Directives.Rebalance == nil {
		return "load is even", true, nil
	}
	moving := 0
	for _, r := range v.Ranges {
		if r.Moving {
			moving++
		}
	}
	return plural(moving, "range") + " moving", false, nil
}

func isDown(v *api.Cluster) (string, bool, error) {
	down := 0
	for _, s := range v.ShardStates {
		if s.State == api.StateDown || s.State == api.StateUnassigned {
			down++
		}
	}
	progress := fmt.Sprintf("%d of %s down", down, plural(v.Shards, "shard"))
	switch {
	case v.Directives.Down == nil:
		return progress, false, errors.New("the cluster was brought up again meanwhile")
	case down == v.Shards:
		return "the cluster is down; muster up ends that", true, nil
	default:
		return progress, false, nil
	}
}

// upward tells a coordinator that has not heard of the order yet from a cluster that was taken down again.
type upward struct{ seen bool }

func (u *upward) look(v *api.Cluster) (string, bool, error) {
	progress := shardsByState(v)
	down := v.Directives.Down != nil
	switch {
	case down && u.seen:
		return progress, false, errors.New("the cluster was taken down again meanwhile")
	case down:
		return progress, false, nil
	}
	u.seen = true
	if len(v.Halted) > 0 {
		return progress, false, fmt.Errorf("the fleet is halted by %s: %s", v.Halted[0].Worker, v.Halted[0].Reason)
	}
	live := 0
	for _, s := range v.ShardStates {
		if s.State == "live" {
			live++
		}
	}
	return progress, v.Shards > 0 && live == v.Shards, nil
}

func resharded(v *api.Cluster, shards int) (string, bool, error) {
	stands := v.Directives.Reshard
	switch {
	case stands == nil && v.Shards == shards:
		return fmt.Sprintf("the cluster has %s", plural(shards, "shard")), true, nil
	case stands == nil || stands.Shards != shards || stands.Abort:
		return "", false, fmt.Errorf("the change to %s was given up", plural(shards, "shard"))
	case stands.Refused != "":
		return "", false, fmt.Errorf("refused: %s", stands.Refused)
	default:
		return fmt.Sprintf("%s are being prepared", plural(shards, "shard")), false, nil
	}
}

func aborted(v *api.Cluster) (string, bool, error) {
	if v.Directives.Reshard == nil {
		return fmt.Sprintf("the cluster has %s", plural(v.Shards, "shard")), true, nil
	}
	return "what was prepared is being taken apart", false, nil
}

// plural is, for instance, "1 shard" or "2 shards".
func plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
