package discordsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// APIPath is where the control API lives on the simulator's listener; see [Server.ControlHandler].
const APIPath = "/sim/v1/"

// maxControlBody bounds the body of a control request.
const maxControlBody = 16 << 20

// ControlHandler is the control API, which lets a test in any language do over HTTP what a test in Go does by calling
// methods. With [Options.ControlAPI] the simulator's own listener serves it. It has no authentication and whoever reaches
// it can end every session: serve it on loopback only.
//
// What looks is GET and answers with JSON:
//
//	stats                                  the counters of [Stats]
//	sessions[?dispatches=true]             each session, without its id; dispatches are [seq, type, sum], sum being
//	                                       [Sum] in 16 hexadecimal digits
//	violations                             what clients did wrong, [] if nothing
//
// What changes something is POST and answers {"affected":n}, n being how many sockets or sessions it concerned. Without
// shard it concerns all shards:
//
//	drop[?shard=N]                         [Server.Drop]
//	reconnect[?shard=N]                    [Server.Reconnect]
//	close?code=C[&shard=N]                 [Server.Disconnect]
//	invalidate[?shard=N][&resumable=true]  [Server.Invalidate]
//	beat[?shard=N]                         [Server.Beat]
//	rate?per_second=R                      [Server.SetRate]; n is how many sessions are alive
//	dispatch?type=T[&shard=N]              [Server.Dispatch] with the body as d
//	dispatch?type=T&guild=ID               [Server.DispatchGuild] with the body as d
//	fault                                  [Server.Inject] with the body as [Fault]; the answer is [Injected]
//	lift[?id=ID]                           [Server.Lift] or, without id, [Server.LiftAll]; n is how many faults
//
// What it does not understand, an unknown parameter too, it answers with 400 and one line that says why.
func (s *Server) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	for name, view := range views {
		mux.HandleFunc("GET "+APIPath+name, func(w http.ResponseWriter, r *http.Request) {
			p := parseParams(r.URL.RawQuery)
			result := view(s, p)
			s.answerControl(w, result, p.done())
		})
	}
	for name, control := range controls {
		mux.HandleFunc("POST "+APIPath+name, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlBody))
			if err != nil {
				s.answerControl(w, nil, fmt.Errorf("read body: %w", err))
				return
			}
			result, err := control(s, parseParams(r.URL.RawQuery), body)
			s.answerControl(w, result, err)
		})
	}
	return mux
}

// answerControl writes a result as JSON, or what was wrong with the request.
func (s *Server) answerControl(w http.ResponseWriter, result any, err error) {
	if err != nil {
		http.Error(w, strings.ReplaceAll(err.Error(), "\n", " "), http.StatusBadRequest)
		return
	}
	answer(w, http.StatusOK, result)
}

// views are the control API's GETs by name.
var views = map[string]func(*Server, *params) any{
	"stats": func(s *Server, _ *params) any {
		st := s.Stats()
		return statsView{st, st.BudgetResetIn.Milliseconds()}
	},
	"sessions": func(s *Server, p *params) any {
		return sessionViews(s.Sessions(), p.bool("dispatches"))
	},
	"violations": func(s *Server, _ *params) any {
		return append([]Violation{}, s.Violations()...) // [] and not null
	},
}

// statsView adds what [Stats] has in another unit.
type statsView struct {
	Stats
	BudgetResetAfter int64 `json:"budget_reset_after"` // milliseconds, as Discord's reset_after
}

// sessionView is a session as the control API shows it.
type sessionView struct {
	Shard      int       `json:"shard"`
	Total      int       `json:"total"`
	Trace      string    `json:"trace"`
	Intents    Intents   `json:"intents"`
	Last       int64     `json:"last"`
	Attached   bool      `json:"attached"`
	Ended      EndReason `json:"ended"`
	Dispatches [][3]any  `json:"dispatches,omitzero"`
}

func sessionViews(logs []SessionLog, dispatches bool) []sessionView {
	all := make([]sessionView, len(logs))
	for i, l := range logs {
		all[i] = sessionView{l.Shard, l.Total, l.Trace, l.Intents, l.Last, l.Attached, l.Ended, nil}
		if !dispatches {
			continue
		}
		all[i].Dispatches = make([][3]any, 0, len(l.Dispatches))
		for _, d := range l.Dispatches {
			all[i].Dispatches = append(all[i].Dispatches, [3]any{d.Seq, d.Type, fmt.Sprintf("%016x", d.Sum)})
		}
	}
	return all
}

// controls are the control API's POSTs by name. Each does nothing unless the whole request makes sense.
var controls = map[string]func(s *Server, p *params, body []byte) (result any, err error){
	"drop":      onShard((*Server).Drop),
	"reconnect": onShard((*Server).Reconnect),
	"beat":      onShard((*Server).Beat),
	"close": func(s *Server, p *params, _ []byte) (any, error) {
		shard, code := p.shard(), p.closeCode()
		if err := p.done(); err != nil {
			return nil, err
		}
		return affected{s.Disconnect(shard, code)}, nil
	},
	"invalidate": func(s *Server, p *params, _ []byte) (any, error) {
		shard, resumable := p.shard(), p.bool("resumable")
		if err := p.done(); err != nil {
			return nil, err
		}
		return affected{s.Invalidate(shard, resumable)}, nil
	},
	"rate": func(s *Server, p *params, _ []byte) (any, error) {
		rate := p.rate()
		if err := p.done(); err != nil {
			return nil, err
		}
		return affected{s.Stats().Sessions}, s.SetRate(rate)
	},
	"dispatch": (*Server).controlDispatch,
	"fault":    (*Server).controlFault,
	"lift": func(s *Server, p *params, _ []byte) (any, error) {
		id, one := p.id()
		if err := p.done(); err != nil {
			return nil, err
		}
		if !one {
			return affected{s.LiftAll()}, nil
		}
		if s.Lift(id) {
			return affected{1}, nil
		}
		return affected{0}, nil
	},
}

// affected is how many sockets, sessions or faults a control concerned.
type affected struct {
	N int `json:"affected"`
}

// onShard is a control that needs to know nothing but the shard.
func onShard(do func(*Server, int) int) func(*Server, *params, []byte) (any, error) {
	return func(s *Server, p *params, _ []byte) (any, error) {
		shard := p.shard()
		if err := p.done(); err != nil {
			return nil, err
		}
		return affected{do(s, shard)}, nil
	}
}

func (s *Server) controlDispatch(p *params, body []byte) (any, error) {
	eventType, _ := p.take("type")
	if !p.has("guild") {
		shard := p.shard()
		if err := p.done(); err != nil {
			return nil, err
		}
		n, err := s.Dispatch(shard, eventType, json.RawMessage(body))
		return affected{n}, err
	}
	guild := p.guild()
	if err := p.done(); err != nil {
		return nil, err
	}
	n, err := s.DispatchGuild(guild, eventType, json.RawMessage(body))
	return affected{n}, err
}

func (s *Server) controlFault(p *params, body []byte) (any, error) {
	if err := p.done(); err != nil {
		return nil, err
	}
	f, err := decodeFault(body)
	if err != nil {
		return nil, err
	}
	return s.Inject(f)
}

// decodeFault reads a fault. A field it does not know is an error, because it may be a known one misspelt.
func decodeFault(body []byte) (f Fault, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f, fmt.Errorf("decode fault: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return f, errors.New("decode fault: more than one value")
	}
	return f, nil
}
