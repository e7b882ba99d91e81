//go:build unix

// Package bench, which is muster bench, measures the way of an event from a gateway's socket into a Redis stream: with muster as its worker does it, with the
// least code that could do it (ideal), with disgo, and without any gateway (raw, the limit of the Redis). What a machine does changes
// from minute to minute, so all of them run in turns, and what counts are the ratios within a round.
//
// Every run is a process of its own, so that its CPU time is nobody else's: this binary started again. So is the gateway, which plays
// prepared streams that cost it next to nothing. See docs/performance.md for what is measured and what came out.
package bench
