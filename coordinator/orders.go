package coordinator

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/serve"
	"github.com/muster-gateway/muster/pkg/lease"
)

// takeOrders has any replica, whether it leads or not, write orders down, in etcd; the leader acts on them. An order is answered
// with what stands then.
func (c *Coordinator) takeOrders(mux *http.ServeMux, admin serve.Admin) {
	limit := serve.NewLimit(5, 20)
	for pattern, take := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST /v1/workers/{id}/drain":   c.drain,
		"DELETE /v1/workers/{id}/drain": c.cancelDrain,
		"POST /v1/rebalance":            c.rebalance,
		"POST /v1/down":                 c.down,
		"POST /v1/up":                   c.up,
		"POST /v1/reshard":              c.reshard,
		"DELETE /v1/reshard":            c.abortReshard,
	} {
		order := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := take(w, r); err != nil {
				serve.Refuse(w, err)
				return
			}
			c.log.Info("order taken", "order", r.Method+" "+r.URL.EscapedPath(), "from", r.RemoteAddr)
			c.answerOrder(w, r)
		})
		mux.Handle(pattern, limit.Each(admin.Only(limit.All(order))))
	}
}

// answerOrder says what stands.
func (c *Coordinator) answerOrder(w http.ResponseWriter, r *http.Request) {
	d, err := c.cfg.Store.Directives(r.Context())
	if err != nil {
		serve.Refuse(w, serve.Refusef(http.StatusServiceUnavailable, "the order is written down, but what stands now cannot be read: %v", err))
		return
	}
	serve.JSONStatus(w, http.StatusAccepted, api.Ordered{Revision: revisionOf(d), Directives: directivesView(d)})
}

// revisionOf is when the last of the directives that stand was written.
func revisionOf(d lease.Directives) (revision int64) {
	for _, drain := range d.Drains {
		revision = max(revision, drain.Revision)
	}
	if d.Down != nil {
		revision = max(revision, d.Down.Revision)
	}
	if d.Reshard != nil {
		revision = max(revision, d.Reshard.Revision)
	}
	if d.Rebalance != nil {
		revision = max(revision, d.Rebalance.Revision)
	}
	return revision
}

func (c *Coordinator) drain(w http.ResponseWriter, r *http.Request) error {
	if err := serve.ReadJSON(w, r, &struct{}{}); err != nil {
		return err
	}
	view, err := c.seen()
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	unknown := serve.Refusef(http.StatusNotFound, "no worker %.128q is alive", id)
	i := slices.IndexFunc(view.Workers, func(w api.Worker) bool { return w.ID == id })
	if i < 0 {
		return unknown
	}
	err = c.cfg.Store.DirectDrain(r.Context(), lease.Ref{Worker: id, Incarnation: view.Workers[i].Incarnation}, orderedAt())
	if errors.Is(err, lease.ErrFenced) {
		return unknown // it died, or began anew, a moment ago
	}
	return err
}

func (c *Coordinator) cancelDrain(_ http.ResponseWriter, r *http.Request) error {
	d, err := c.cfg.Store.Directives(r.Context())
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	if _, ok := d.Drains[id]; !ok {
		return serve.Refusef(http.StatusNotFound, "no drain of a worker %.128q was ordered", id)
	}
	return c.cfg.Store.EndDrain(r.Context(), id)
}

func (c *Coordinator) rebalance(w http.ResponseWriter, r *http.Request) error {
	if err := serve.ReadJSON(w, r, &struct{}{}); err != nil {
		return err
	}
	return c.cfg.Store.Direct(r.Context(), lease.Rebalance{At: orderedAt()})
}

func (c *Coordinator) down(w http.ResponseWriter, r *http.Request) error {
	var request api.DownRequest
	if err := serve.ReadJSON(w, r, &request); err != nil {
		return err
	}
	return c.cfg.Store.Direct(r.Context(), lease.Down{EndSessions: request.EndSessions, At: orderedAt()})
}

func (c *Coordinator) up(w http.ResponseWriter, r *http.Request) error {
	if err := serve.ReadJSON(w, r, &struct{}{}); err != nil {
		return err
	}
	return c.cfg.Store.EndDown(r.Context())
}

func (c *Coordinator) reshard(w http.ResponseWriter, r *http.Request) error {
	var request api.ReshardRequest
	if err := serve.ReadJSON(w, r, &request); err != nil {
		return err
	}
	view, err := c.seen()
	if err != nil {
		return err
	}
	if err := c.checkReshard(r.Context(), request.Shards, view); err != nil {
		return err
	}
	return c.cfg.Store.Direct(r.Context(), lease.Reshard{Shards: request.Shards, At: orderedAt()})
}

// checkReshard says what keeps the number of shards from being changed to this one, as far as can be said before it is tried.
func (c *Coordinator) checkReshard(ctx context.Context, shards int, view *api.Cluster) error {
	if shards < 1 || shards > lease.MaxShards {
		return serve.Refusef(http.StatusBadRequest, "shards is %d: want 1 to %d", shards, lease.MaxShards)
	}
	d, err := c.cfg.Store.Directives(ctx)
	switch stands := d.Reshard; {
	case err != nil:
		return err
	case stands != nil && stands.Refused == "":
		return serve.Refusef(http.StatusConflict, "a change to %d shards was ordered, and is not done: abort it first", stands.Shards)
	case view.Generation == 0:
		return serve.Refusef(http.StatusConflict, "the cluster has no plan yet, so no number of shards that could be changed")
	case view.Shards == shards:
		return serve.Refusef(http.StatusConflict, "the cluster has %d shards already", shards)
	}
	return nil
}

func (c *Coordinator) abortReshard(_ http.ResponseWriter, r *http.Request) error {
	d, err := c.cfg.Store.Directives(r.Context())
	if err != nil {
		return err
	}
	if d.Reshard == nil {
		return serve.Refusef(http.StatusNotFound, "no change of the number of shards stands")
	}
	err = c.cfg.Store.AbortReshard(r.Context(), *d.Reshard)
	if errors.Is(err, lease.ErrFenced) {
		return serve.Refusef(http.StatusConflict, "the change of the number of shards was decided about this very moment: look again")
	}
	return err
}

// seen is the cluster as this replica last saw it.
func (c *Coordinator) seen() (*api.Cluster, error) {
	view := c.view.Load()
	if view == nil {
		return nil, errNotRead
	}
	return view, nil
}

// orderedAt is the time as directives have it: for people.
func orderedAt() time.Time { return time.Now().UTC().Truncate(time.Second) }
