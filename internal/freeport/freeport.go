// Package freeport finds an address for a server that has to be told where to listen before it does, in tests and development clusters.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are below those that Linux gives out by itself (net.ipv4.ip_local_port_range), or another process's listener or
// connection could get one before the server does, or while that is stopped.
const first, ports = 20_000, 12_000

// Addr is an address of loopback, host and port, at which nobody listens. It is another each time, as a rule.
func Addr() (string, error) {
	var err error
	for range 100 {
		var l net.Listener
		addr := "127.0.0.1:" + strconv.Itoa(first+rand.IntN(ports))
		if l, err = net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}
