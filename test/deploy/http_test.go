package deploy

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait: far more than what is waited for takes, so that only what never comes fails.
const patience = time.Minute

// terminateSignal is what Docker and Kubernetes send unless they are told otherwise.
const terminateSignal = syscall.SIGTERM

var client = http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get is the answer's status and body, or 0 and the reason why there is none.
func get(url string) (status int, body string) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// awaitHTTP waits until the process answers with the status.
func (p *process) awaitHTTP(t *testing.T, url string, want int) {
	t.Helper()
	p.await(t, url, func() (bool, string) {
		status, body := get(url)
		return status == want, body
	})
}

// await waits until the condition holds, which says why it does not.
func (p *process) await(t *testing.T, what string, holds func() (bool, string)) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		ok, why := holds()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-p.ended:
			t.Fatalf("waiting for %s: %s ended: %s", what, p.name, p.said())
		case <-deadline:
			t.Fatalf("waiting for %s: %s", what, why)
		}
	}
}

// freeAddress is one of loopback that was free a moment ago. Its port is below those that Linux gives to whoever asks for any, or another of the
// processes that start now might be given it meanwhile.
func freeAddress(t *testing.T) string {
	t.Helper()
	const least, most = 20_000, 32_767
	for {
		address := fmt.Sprintf("127.0.0.1:%d", least+rand.IntN(most-least+1))
		listener, err := net.Listen("tcp", address)
		if err == nil {
			listener.Close()
			return address
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}
