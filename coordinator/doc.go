// Package coordinator decides who runs what. Several coordinators run at once; all of them follow the cluster's state in
// etcd and answer questions about it, and one of them, the elected leader, acts: it makes the plan (how many shards,
// cut into which ranges), gives every range to a worker, moves ranges from workers that leave or carry too much, and
// says when which shard may IDENTIFY.
//
// A coordinator never talks to a worker. It writes its decisions to etcd, in transactions that compare all they
// were based on, and workers follow them there. No session depends on a coordinator being alive: without one,
// events go on, and only repair and new sessions wait.
//
// Two pure functions hold the decisions: plan (plan.go), from a snapshot to steps on ranges, and identifyClock (identify.go), from
// what happened to slots to which may be opened next. One goroutine (leader.go) owns all the state they work on.
package coordinator
