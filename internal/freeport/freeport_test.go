package freeport

import (
	"fmt"
	"net"
	"os"
	"testing"
)

// It can be listened on, and the system does not give it to anybody by itself.
func TestAddr(t *testing.T) {
	var lowest int
	given, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range") // an error: see below
	if _, err := fmt.Sscan(string(given), &lowest); err != nil || lowest < first+ports {
		t.Skipf("not run: needs a Linux that gives out ports from %d on, and has %q", first+ports, given)
	}
	addr, err := Addr()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if port := l.Addr().(*net.TCPAddr).Port; port >= lowest {
		t.Errorf("port %d is among those from %d on", port, lowest)
	}
}
