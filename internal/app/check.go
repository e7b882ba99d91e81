package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// checkTimeout is how long a process has to answer for its health.
const checkTimeout = 5 * time.Second

// CheckHTTP asks the server that listens at address, which is of this machine if it names none, for a path. Any answer but 200 is an error.
func CheckHTTP(address, path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("check %s of %s: %w", path, address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<12)) // as far as it can be read
		return fmt.Errorf("check %s of %s: %s: %s", path, address, resp.Status, strings.TrimSpace(string(reason)))
	}
	return nil
}

// exitOf is the exit code for an error, which it prints.
func exitOf(name string, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	return 1
}
