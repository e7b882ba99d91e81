//go:build unix

// Command scale measures the control plane at a size that no test has: a thousand workers with a hundred thousand shards on one machine.
//
// etcd and the coordinators are processes of their own, this binary started again, so that what they cost is nobody else's; they tell it
// themselves, in their metrics. The workers are simulated, all in one process: each has a connection to etcd of its own and does there what a
// worker does, with pkg/lease, at a worker's pace: registers, renews, follows its orders, loads session records, asks for identify slots and claims
// them, hands over, reports. What it lacks is sockets, to Discord and to Redis. See docs/coordination.md for what came out.
package main
