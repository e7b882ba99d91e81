// Package devstack runs a whole muster cluster on one machine: etcd and the simulated Discord inside this process, a Redis, and
// coordinator and workers as real processes that can be killed, stopped and signalled. It is what `muster dev` shows and
// what the end-to-end tests break, and it can audit the outcome: what Discord sent against what is in the streams.
//
// Everything listens on loopback only. Close ends every process and removes every file; should this process die without it,
// the kernel kills the others (on Linux).
package devstack
