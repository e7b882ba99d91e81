package discordsim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Both sockets of a session that is shared are sent every further dispatch; it has none only when both are gone.
func TestResumeShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, Record: true, Unspecified: Unspecified{ResumeWhileLive: ResumeShares}})
		old := r.dial(jsonQuery)
		id := old.login(0, 1, 1).SessionID
		c, _ := r.resumeWant(id, 1)
		old.want(0, "RESUMED") // it is a dispatch of the session's
		r.dispatch(2)
		for _, each := range []*client{old, c} {
			each.numbers(3, 4)
		}
		if n := r.Beat(0); n != 2 {
			t.Errorf("%d sockets", n)
		}
		_ = old.ws.CloseNow()
		synctest.Wait()
		if log := r.Sessions()[0]; !log.Attached {
			t.Errorf("session: %+v", log)
		}
		r.dispatch(1)
		c.want(1, "")
		c.numbers(5)
		_ = c.ws.CloseNow()
		synctest.Wait()
		if log := r.Sessions()[0]; log.Attached || log.Ended != "" || log.Last != 5 {
			t.Errorf("session: %+v", log)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if log := r.Sessions()[0]; log.Ended != EndExpired {
			t.Errorf("session: %+v", log)
		}
		if v := r.Violations(); len(v) != 1 || v[0].Rule != RuleResumeLive {
			t.Errorf("violations: %+v", v)
		}
	})
}

// A socket that gives a shared session up takes it from the other.
func TestSharedSessionIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, Unspecified: Unspecified{ResumeWhileLive: ResumeShares}})
		old := r.dial(jsonQuery)
		id := old.login(0, 1, 1).SessionID
		c, _ := r.resumeWant(id, 1)
		old.want(0, "RESUMED")
		_ = old.ws.Close(1000, "")
		if m := c.want(9, ""); string(m.D) != "false" {
			t.Errorf("op 9 is %s", m.D)
		}
		r.refused(id, 2)
	})
}

func TestResumeRefusedWhileLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, Unspecified: Unspecified{ResumeWhileLive: ResumeRefused}})
		old := r.dial(jsonQuery)
		id := old.login(0, 1, 1).SessionID
		r.refused(id, 1)
		r.dispatch(1)
		old.numbers(2)
		if v := r.Violations(); len(v) != 1 || v[0].Rule != RuleResumeLive {
			t.Errorf("violations: %+v", v)
		}
		_ = old.ws.CloseNow()
		synctest.Wait()
		r.resumeWant(id, 2)
	})
}

func TestInvalidSessionDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, Unspecified: Unspecified{InvalidSessionDelay: 3 * time.Second}})
		r.dial(jsonQuery).login(0, 2, 1)
		c, gone := r.dial(jsonQuery), r.dial(jsonQuery)
		begun := time.Now()
		for _, each := range []*client{c, gone} {
			each.want(10, "")
			each.send(identifyJSON(1, 2, 1))
		}
		_ = gone.ws.CloseNow() // whom no answer finds
		c.want(9, "")
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("op 9 after %v", took)
		}
	})
}

func TestRefusedIdentifySpends(t *testing.T) {
	for free, want := range map[bool]int{false: 998, true: 999} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, Options{Guilds: -1, Unspecified: Unspecified{RefusedIdentifyIsFree: free}})
			r.dial(jsonQuery).login(0, 2, 1)
			c := r.dial(jsonQuery)
			c.want(10, "")
			c.send(identifyJSON(1, 2, 1))
			c.want(9, "")
			if st := r.Stats(); st.BudgetRemaining != want {
				t.Errorf("free is %v: %d remain", free, st.BudgetRemaining)
			}
		})
	}
}

// The guilds come shuffled and paced, those in an outage as what they are, and everything else after them.
func TestGuildsAfterReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 40, Rate: 100, Unspecified: Unspecified{ShuffleGuilds: true, GuildInterval: 100 * time.Millisecond, Outages: 10}})
		c := r.dial(jsonQuery)
		ready := c.login(0, 1, UnprivilegedIntents)
		begun := time.Now()
		var listed, came []string
		out := make(map[string]bool)
		for _, g := range ready.Guilds {
			listed = append(listed, g.ID)
			m := c.must()
			var guild struct {
				ID          string `json:"id"`
				Unavailable *bool  `json:"unavailable"`
			}
			if err := json.Unmarshal(m.D, &guild); err != nil || guild.Unavailable == nil || *guild.Unavailable != (m.T == "GUILD_DELETE") {
				t.Fatalf("%v: %.200s", err, m.raw)
			}
			out[guild.ID] = m.T == "GUILD_DELETE"
			came = append(came, guild.ID)
		}
		if took := time.Since(begun); took != 3900*time.Millisecond {
			t.Errorf("40 guilds took %v", took)
		}
		if slices.Equal(came, listed) {
			t.Error("the guilds are not shuffled")
		}
		slices.Sort(came)
		slices.Sort(listed)
		if !slices.Equal(came, listed) {
			t.Error("the guilds that came are not those that READY listed")
		}
		outages := 0
		for _, is := range out {
			if is {
				outages++
			}
		}
		if outages != 10 {
			t.Errorf("%d outages", outages)
		}
		for range 300 {
			var d struct {
				Guild string `json:"guild_id"`
			}
			if m := c.must(); json.Unmarshal(m.D, &d) != nil || out[d.Guild] {
				t.Fatalf("in a guild that is in an outage: %.200s", m.raw)
			}
		}
	})
}

// A RESUME in the midst of the guilds goes on with those that were not sent, which the account says are still to come.
func TestResumeBetweenGuilds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 5, Unspecified: Unspecified{GuildInterval: time.Second}})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		c.want(0, "GUILD_CREATE")
		_ = c.ws.CloseNow()
		synctest.Wait()
		c, _ = r.resumeWant(id, 2)
		for pending := 4; pending > 0; pending-- {
			if log := r.Sessions()[0]; log.Pending != pending || log.Last != int64(7-pending) {
				t.Errorf("%d guilds to come after event %d, want %d", log.Pending, log.Last, pending)
			}
			c.want(0, "GUILD_CREATE")
		}
		if n := r.Sessions()[0].Pending; n != 0 {
			t.Errorf("%d guilds to come when all have", n)
		}
	})
}

func TestOldSeqCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, ReplayEvents: 10, Unspecified: Unspecified{OldSeqCloses: true}})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		_ = c.ws.CloseNow()
		synctest.Wait()
		r.dispatch(20)
		c = r.dialURL(resumeURL)
		c.want(10, "")
		c.send(resumeJSON(id, 1))
		c.wantClose(CloseInvalidSeq)
		if v := r.Violations(); len(v) != 0 {
			t.Errorf("violations: %+v", v)
		}
	})
}

// After op 7 the server closes the socket itself if it is told to, and if the client has not done so.
func TestReconnectPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, Unspecified: Unspecified{ReconnectPatience: 4 * time.Second, GoingAwayCode: 4000}})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		r.Reconnect(0)
		c.want(7, "")
		begun := time.Now()
		c.wantClose(CloseUnknownError)
		if took := time.Since(begun); took != 4*time.Second {
			t.Errorf("closed after %v", took)
		}
		c, _ = r.resumeWant(id, 1)
		r.Reconnect(0)
		c.want(7, "")
		_ = c.ws.Close(4000, "")
		synctest.Wait()
		c, _ = r.resumeWant(id, 2)
		time.Sleep(time.Minute / 2)
		r.stop()
		c.wantClose(CloseUnknownError)
	})
}

// Acknowledgements wait behind the events that were due before them.
func TestAcksBehindBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, Unspecified: Unspecified{AcksBehindBacklog: true}})
		c := r.dial(jsonQuery)
		c.want(10, "")
		c.send(`{"op":1}`)
		c.want(11, "") // nothing is due before a session
		c.send(identifyJSON(0, 1, 1))
		c.want(0, "READY")
		big := fmt.Appendf(nil, `"%s"`, strings.Repeat("x", burstBytes))
		for i := range 20 {
			if i == 10 {
				c.send(`{"op":1,"d":1}`)
				synctest.Wait()
			}
			if _, err := r.Dispatch(0, "X", big); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			c.want(0, "X")
		}
		for i := 0; ; i++ {
			if c.must().Op == 11 {
				break
			}
			if i > 1 {
				t.Fatal("the acknowledgement waits for events that were not due")
			}
		}
	})
}

// A client that beats and does not read is given up before its acknowledgements pile up.
func TestAcksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, Unspecified: Unspecified{AcksBehindBacklog: true}})
		c := r.dial(jsonQuery)
		c.login(0, 1, 1)
		r.dispatch(1)
		synctest.Wait() // the writer is stuck now: nobody reads the pipe
		r.dispatch(1)
		sent := 0
		for sent < 2*maxControls && c.trySend(`{"op":1,"d":1}`) == nil {
			sent++
			time.Sleep(time.Second) // within the limit of sends
		}
		if sent < maxControls || sent > maxControls+int(closePatience/time.Second)+1 {
			t.Errorf("given up after %d beats", sent)
		}
		if v := r.Violations(); len(v) != 0 {
			t.Errorf("violations: %+v", v)
		}
	})
}
