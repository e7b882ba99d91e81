package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxAnswer bounds what is read of an answer: 100,000 shards take less than 20 MB.
const maxAnswer = 64 << 20

// Get asks the coordinator at base, such as http://127.0.0.1:8080, how the cluster is.
func Get(ctx context.Context, base string) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	address := strings.TrimSuffix(base, "/") + "/v1/cluster"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("ask coordinator: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask coordinator: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask coordinator: GET %s: %w", address, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask coordinator: GET %s: %s: %s", address, resp.Status, strings.TrimSpace(string(body)))
	}
	var cluster Cluster
	if err := json.Unmarshal(body, &cluster); err != nil {
		return nil, fmt.Errorf("ask coordinator: GET %s: answer is not JSON of its form: %w", address, err)
	}
	return &cluster, nil
}
