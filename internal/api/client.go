package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer bounds what is read of an answer: 100,000 shards take less than 20 MB.
const maxAnswer = 64 << 20

// Client asks a coordinator.
type Client struct {
	Base       string // its address, such as http://127.0.0.1:8080
	AdminToken string // for orders; "": none
}

// String is the address: the token must not be printed by accident.
func (c Client) String() string { return c.Base }

// GoString is String.
func (c Client) GoString() string { return c.Base }

// RefusedError says that a coordinator did not do what it was asked.
type RefusedError struct {
	Status int    // of HTTP
	Reason string // in a line
}

func (e *RefusedError) Error() string { return e.Reason }

// Get asks the coordinator at base how the cluster is.
func Get(ctx context.Context, base string) (*Cluster, error) { return Client{Base: base}.Cluster(ctx) }

// Cluster asks how the cluster is.
func (c Client) Cluster(ctx context.Context) (*Cluster, error) {
	cluster := new(Cluster)
	if err := c.do(ctx, http.MethodGet, "/v1/cluster", nil, cluster); err != nil {
		return nil, err
	}
	return cluster, nil
}

// Drain orders a worker to hand over all it has, though it lives on.
func (c Client) Drain(ctx context.Context, worker string) (Ordered, error) {
	return c.order(ctx, http.MethodPost, "/v1/workers/"+url.PathEscape(worker)+"/drain", struct{}{})
}

// CancelDrain takes that back.
func (c Client) CancelDrain(ctx context.Context, worker string) (Ordered, error) {
	return c.order(ctx, http.MethodDelete, "/v1/workers/"+url.PathEscape(worker)+"/drain", nil)
}

// Rebalance orders load to be evened out now.
func (c Client) Rebalance(ctx context.Context) (Ordered, error) {
	return c.order(ctx, http.MethodPost, "/v1/rebalance", struct{}{})
}

// DownRequest is what POST /v1/down is sent.
type DownRequest struct {
	EndSessions bool `json:"end_sessions"`
}

// Down orders every socket to be closed, resumably or so that the sessions end.
func (c Client) Down(ctx context.Context, endSessions bool) (Ordered, error) {
	return c.order(ctx, http.MethodPost, "/v1/down", DownRequest{endSessions})
}

// Up takes that back.
func (c Client) Up(ctx context.Context) (Ordered, error) {
	return c.order(ctx, http.MethodPost, "/v1/up", struct{}{})
}

// ReshardRequest is what POST /v1/reshard is sent.
type ReshardRequest struct {
	Shards int `json:"shards"`
}

// Reshard orders another number of shards.
func (c Client) Reshard(ctx context.Context, shards int) (Ordered, error) {
	return c.order(ctx, http.MethodPost, "/v1/reshard", ReshardRequest{shards})
}

// AbortReshard takes that back, if it is not done yet.
func (c Client) AbortReshard(ctx context.Context) (Ordered, error) {
	return c.order(ctx, http.MethodDelete, "/v1/reshard", nil)
}

func (c Client) order(ctx context.Context, method, path string, body any) (ordered Ordered, err error) {
	err = c.do(ctx, method, path, body, &ordered)
	return ordered, err
}

// do makes one request, of which the answer is read into the given value.
func (c Client) do(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second) // longer than a coordinator waits for etcd
	defer cancel()
	address := strings.TrimSuffix(c.Base, "/") + path
	req, err := c.request(ctx, method, address, body)
	if err != nil {
		return fmt.Errorf("ask coordinator: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask coordinator: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("ask coordinator: %s %s: %w", method, address, err)
	case resp.StatusCode >= 300:
		refused := &RefusedError{resp.StatusCode, strings.TrimSpace(string(answer))}
		return fmt.Errorf("ask coordinator: %s %s: %s: %w", method, address, resp.Status, refused)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("ask coordinator: %s %s: answer is not JSON of its form: %w", method, address, err)
	}
	return nil
}

func (c Client) request(ctx context.Context, method, address string, body any) (*http.Request, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.AdminToken != "" {
		req.Header.Set("Authorization", "Bearer "+c.AdminToken)
	}
	return req, nil
}
