package discordsim

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// IDENTIFYs of one bucket are 5 s apart or refused; buckets do not disturb each other.
func TestIdentifyWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, Shards: 4, MaxConcurrency: 2})
		r.dial(jsonQuery).login(0, 4, 1)
		r.dial(jsonQuery).login(1, 4, 1)
		time.Sleep(5*time.Second - 1)
		c := r.dial(jsonQuery)
		c.want(10, "")
		c.send(identifyJSON(2, 4, 1))
		if m := c.want(9, ""); string(m.D) != "false" {
			t.Errorf("op 9 is %s", m.D)
		}
		v := r.Violations()
		if len(v) != 1 || v[0].Rule != RuleIdentifyRate || v[0].Shard != 2 || v[0].Total != 4 {
			t.Errorf("violations: %+v", v)
		}
		time.Sleep(time.Nanosecond)
		c.send(identifyJSON(2, 4, 1))
		c.want(0, "READY")
		if st := r.Stats(); st.Identifies != 3 || st.IdentifiesRefused != 1 || st.BudgetRemaining != 996 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// Beyond the budget Discord ends every session and resets the token: nothing works any more.
func TestBudgetOverrunResetsTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, SessionLimit: SessionLimit{Total: 2, Used: 1}})
		first := r.dial(jsonQuery)
		id := first.login(0, 2, 1).SessionID
		time.Sleep(5 * time.Second)
		c := r.dial(jsonQuery)
		c.want(10, "")
		c.send(identifyJSON(1, 2, 1))
		c.wantClose(CloseAuthenticationFailed)
		first.wantClose(CloseAuthenticationFailed)
		r.refused(id, 1)
		if status, _ := r.get("/api/v10/gateway/bot", "Bot "+DefaultToken); status != http.StatusUnauthorized {
			t.Errorf("GET /gateway/bot is answered %d", status)
		}
		if v := r.Violations(); len(v) != 2 || v[0].Rule != RuleIdentifyBudget {
			t.Errorf("violations: %+v", v)
		}
		if log := r.Sessions()[0]; log.Ended != EndTokenReset {
			t.Errorf("account: %+v", log)
		}
	})
}

func TestBudgetOverrunMayKeepTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, SessionLimit: SessionLimit{Total: 1, ResetAfter: time.Hour}, KeepTokenOnOverrun: true,
			HeartbeatInterval: 2 * time.Hour})
		first := r.dial(jsonQuery)
		first.login(0, 2, 1)
		c := r.dial(jsonQuery)
		c.want(10, "")
		time.Sleep(time.Hour - 1)
		c.send(identifyJSON(1, 2, 1))
		c.want(9, "")
		time.Sleep(time.Nanosecond)
		c.send(identifyJSON(1, 2, 1))
		c.want(0, "READY")
	})
}
