// Package etcdmem is an etcd in memory, for tests on virtual time (testing/synctest): a real one has sockets, files and a process
// around it, and its leases expire in seconds that somebody has to wait for.
//
// It stands where the network stands to a client. A [Link] has a client of etcd's own library, whose requests go to a [Server]
// in this process; only its watches are written anew, since the library's wait on a channel that no bubble of synctest
// contains. What the server answers is what etcd answers, to the letter as far as pkg/lease asks: revisions, comparisons,
// nested transactions and their limits, ranges, also as they were at an old revision, leases, watches, compaction. A test runs the same
// scripts against both. What pkg/lease does not use is refused as unimplemented: range streams, filters of watches.
//
// # What can go wrong
//
// Each link fails for itself: it can hold everything back, refuse everything, lose answers to what was done or events, and be slow. The
// server can lose its quorum. A request that its caller has given up may still be carried out when it gets through,
// every other one, as with a real network.
package etcdmem
