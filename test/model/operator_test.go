package model

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// adminToken is what coordinators want to be shown with an order.
const adminToken = "operator"

// sizes are the numbers of shards that operators ask for.
var sizes = []int{4, 6, 8, 12}

// orders are what operators can want, as requests to a coordinator.
var orders = map[what]func(w *world, s step) (method, path, body string){
	"reshard": func(_ *world, s step) (string, string, string) {
		return http.MethodPost, "/v1/reshard", fmt.Sprintf(`{"shards":%d}`, sizes[s.Who%len(sizes)])
	},
	"abort reshard": func(*world, step) (string, string, string) { return http.MethodDelete, "/v1/reshard", "" },
	"drain": func(_ *world, s step) (string, string, string) {
		return http.MethodPost, "/v1/workers/" + workerID(s.Who%mostWorkers) + "/drain", "{}"
	},
	"cancel drain": func(_ *world, s step) (string, string, string) {
		return http.MethodDelete, "/v1/workers/" + workerID(s.Who%mostWorkers) + "/drain", ""
	},
	"rebalance": func(*world, step) (string, string, string) { return http.MethodPost, "/v1/rebalance", "{}" },
	"down":      func(*world, step) (string, string, string) { return http.MethodPost, "/v1/down", "{}" },
	"down, sessions ended": func(*world, step) (string, string, string) {
		return http.MethodPost, "/v1/down", `{"end_sessions":true}`
	},
	"up": func(*world, step) (string, string, string) { return http.MethodPost, "/v1/up", "{}" },
}

// order gives an order beside the script, as an operator who does not ask twice. Whether it was taken, etcd tells.
func order(name what) action {
	return func(w *world, s step) (undo func()) {
		method, path, body := orders[name](w, s)
		w.witness.mayCancel(name == "cancel drain")
		if p := w.anyCoordinator(); p != nil {
			w.operator.Go(func() { _ = p.ask(method, path, body) })
		}
		return nil
	}
}

// downFor takes the cluster down, for as long as the step says.
func downFor(name what) action {
	return func(w *world, s step) (undo func()) {
		order(name)(w, s)
		return func() { order("up")(w, s) }
	}
}

// insist gives an order until a coordinator says that it stands.
func (w *world) insist(name what) {
	method, path, body := orders[name](w, step{})
	w.await("coordinator that takes the order "+string(name), func() string {
		p := w.anyCoordinator()
		if p == nil {
			return "none runs"
		}
		if err := p.ask(method, path, body); err != nil {
			return err.Error()
		}
		return ""
	})
}

// anyCoordinator is one after the other of those that run, whether they lead or not; nil if none does.
func (w *world) anyCoordinator() *process {
	all := w.alive(func(p *process) bool { return !p.isWorker() })
	if len(all) == 0 {
		return nil
	}
	w.asked++
	return all[w.asked%len(all)]
}

// ask sends a request to a coordinator. Its answer takes a while if etcd is away.
func (p *process) ask(method, path, body string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://coordinator.invalid"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{DialContext: p.api.DialContext, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return nil
}

// mayCancel takes note that an order to drain may be taken back.
func (w *witness) mayCancel(may bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancels = w.cancels || may
}

// unfinished names what is left to do of what operators ordered.
func (w *witness) unfinished() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	plan, d := w.state.Plan, w.state.Directives
	switch {
	case d.Reshard != nil && d.Reshard.Refused == "":
		return fmt.Sprintf("an order to reshard stands: %+v, and the plan is %+v", *d.Reshard, plan)
	case plan.Next.Generation != 0:
		return fmt.Sprintf("a generation is being prepared: %+v", plan.Next)
	case d.Rebalance != nil:
		return "an order to rebalance stands"
	}
	for id, r := range w.state.Ranges {
		if id.Generation != plan.Generation {
			return fmt.Sprintf("%v is %v's, and generation %d in force", id, r.Owner, plan.Generation)
		}
		if w.drained(r.Owner) && len(eligible(&w.state)) > 0 {
			return fmt.Sprintf("%v is %v's, which is to be drained", id, r.Owner)
		}
	}
	for id, drain := range d.Drains {
		if w.state.Workers[id].Incarnation != drain.Incarnation {
			return fmt.Sprintf("an order to drain %s stands, whose incarnation %d is gone", id, drain.Incarnation)
		}
	}
	return ""
}
