// Package etcdtest gives tests a real etcd: one member in this process, on a loopback port, with its data in a
// temporary directory. It starts in a tenth of a second, so a test that needs an outage takes a server of its own;
// all others of a package can share one and keep apart by the name of their cluster.
//
// Clients never reach the member itself but a [Link] in front of it. The link keeps the address while the member is
// stopped and started again, and it can be cut or held to show a client a dead or a silent network.
package etcdtest
