// Package etcdtest gives tests a real etcd, in this process, on loopback ports, with its data in temporary directories: a
// [Server] is a single member and starts in a tenth of a second, so a test that needs an outage takes a server of its own; all others of
// a package can share one and keep apart by the name of their cluster. A [Cluster] is one of three members.
//
// Clients never reach a member itself but a [Link] in front of it. The link keeps the address while the member is
// stopped and started again, and it can be cut, held or slowed to show a client a dead, a silent or a bad network.
package etcdtest
