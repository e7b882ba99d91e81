package discordsim

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// tick is the least time between two bursts of background events.
	tick = 5 * time.Millisecond
	// maxDebt bounds what is made up for after the process was held up.
	maxDebt = 250 * time.Millisecond
)

func validRate(r float64) bool { return r >= 0 && !math.IsInf(r, 1) } // a NaN is not >= 0

// pacer turns a rate into numbers of events. It decides on the times it is given.
type pacer struct {
	rate float64
	last time.Time
	owed float64
}

// set changes the rate from now on.
func (p *pacer) set(rate float64, now time.Time) { p.rate, p.last, p.owed = rate, now, 0 }

// due returns how many events to make now.
func (p *pacer) due(now time.Time) int {
	elapsed := min(now.Sub(p.last), maxDebt+p.pause())
	p.last = now
	p.owed += elapsed.Seconds() * p.rate
	n := int(p.owed)
	p.owed -= float64(n)
	return n
}

// pause is how long to wait before the next due.
func (p *pacer) pause() time.Duration {
	if p.rate*tick.Seconds() >= 1 {
		return tick
	}
	untilNext := (1 - p.owed) / p.rate
	if untilNext > time.Hour.Seconds() {
		return time.Hour
	}
	return max(tick, time.Duration(math.Ceil(untilNext*1e9)))
}

// traffic makes background events at a rate that may be changed while it runs.
type traffic struct {
	changed chan struct{}

	mu    sync.Mutex // held during a burst, so that setRate returns between two
	pacer pacer
	gen   generator
}

func newTraffic(rate float64, seed uint64, w *world) *traffic {
	t := &traffic{changed: make(chan struct{}, 1), gen: newGenerator(seed, w)}
	t.pacer.set(rate, time.Now())
	return t
}

func (t *traffic) setRate(rate float64) {
	t.mu.Lock()
	t.pacer.set(rate, time.Now())
	t.mu.Unlock()
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// burst makes what is due. It returns how long to wait, and false when there is nothing to wait for.
func (t *traffic) burst(emit func(*generator, time.Time)) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pacer.rate == 0 {
		return 0, false
	}
	now := time.Now()
	for range t.pacer.due(now) {
		emit(&t.gen, now)
	}
	return t.pacer.pause(), true
}

// run makes bursts until ctx ends.
func (t *traffic) run(ctx context.Context, emit func(*generator, time.Time)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.changed:
		case <-timer.C:
		}
		if wait, more := t.burst(emit); more {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// emit makes one background event and dispatches it to every session that sees its guild and asked for its intent.
func (s *Server) emit(g *generator, now time.Time) {
	guild := g.pickGuild()
	g.sessions = s.routes.Load().of(guild, g.sessions[:0])
	if len(g.sessions) == 0 {
		return
	}
	var asked Intents
	for _, sess := range g.sessions {
		asked |= sess.intents
	}
	k, ok := g.pickKind(asked, guild != 0)
	if !ok {
		return
	}
	e := event{kind: k, guild: guild, id: s.world.nextID(now), at: now.UnixMilli(), seed: g.rand.Uint64()}
	g.forms = [2][]byte{g.forms[0][:0], g.forms[1][:0]}
	for _, sess := range g.sessions {
		if !sess.intents.admits(k.name(), guild != 0) {
			continue
		}
		// Without MESSAGE_CONTENT the same event goes out with its content blanked.
		form := 0
		if sess.intents&IntentMessageContent != 0 {
			form = 1
		}
		if k == kindGuild { // which each session sees in its own way
			sess.dispatchLive(k.name(), s.world.guildAgain(g.forms[form][:0], e, sess.view))
			continue
		}
		if len(g.forms[form]) == 0 {
			g.forms[form] = s.world.appendEvent(g.forms[form], e, form == 1)
		}
		sess.dispatchLive(k.name(), g.forms[form])
	}
}

// generator chooses what happens next. One goroutine uses it at a time.
type generator struct {
	rand  *rand.Rand
	world *world
	mixes map[mixKey][]kind

	sessions []*session
	forms    [2][]byte // the payload without and with message content
}

type mixKey struct {
	intents Intents
	inGuild bool
}

func newGenerator(seed uint64, w *world) generator {
	return generator{rand: rand.New(rand.NewPCG(seed, 0x6d7573746572)), world: w, mixes: make(map[mixKey][]kind)}
}

// directShare is how many of a thousand events happen in direct messages.
const directShare = 10

// pickGuild returns a guild of the bot's, or 0 for an event in direct messages.
func (g *generator) pickGuild() uint64 {
	if len(g.world.live) == 0 || g.rand.IntN(1000) < directShare {
		return 0
	}
	return g.world.live[g.rand.IntN(len(g.world.live))]
}

// pickKind chooses by weight among the kinds the intents let through, so that the rate holds whatever a bot asks for.
// It reports false when there are none.
func (g *generator) pickKind(asked Intents, inGuild bool) (kind, bool) {
	key := mixKey{asked, inGuild}
	mix, known := g.mixes[key]
	if !known {
		for k, shape := range kinds {
			if (inGuild || shape.direct) && asked.admits(shape.name, inGuild) {
				for range shape.weight {
					mix = append(mix, kind(k))
				}
			}
		}
		g.mixes[key] = mix
	}
	if len(mix) == 0 {
		return 0, false
	}
	return mix[g.rand.IntN(len(mix))], true
}

// kind is a kind of background event.
type kind int

const (
	kindPresence kind = iota
	kindMessage
	kindTyping
	kindVoice
	kindMember
	kindInteraction
	kindEdit
	kindReaction
	kindGuild
)

// kinds gives each kind its event name, its weight in ten thousand, and whether it happens in direct messages too. The
// weights follow what large bots report: mostly presences, then messages.
var kinds = [...]struct {
	name   string
	weight int
	direct bool
}{
	kindPresence:    {"PRESENCE_UPDATE", 5500, false},
	kindMessage:     {"MESSAGE_CREATE", 2000, true},
	kindTyping:      {"TYPING_START", 1000, true},
	kindVoice:       {"VOICE_STATE_UPDATE", 500, false},
	kindMember:      {"GUILD_MEMBER_UPDATE", 500, false},
	kindInteraction: {"INTERACTION_CREATE", 195, true},
	kindEdit:        {"MESSAGE_UPDATE", 150, true},
	kindReaction:    {"MESSAGE_REACTION_ADD", 150, true},
	kindGuild:       {"GUILD_CREATE", 5, false},
}

func (k kind) name() string { return kinds[k].name }

// event is one thing that happened; its payload follows from it.
type event struct {
	kind  kind
	guild uint64 // 0 in direct messages
	id    uint64 // a snowflake no other event has
	at    int64  // Unix milliseconds
	seed  uint64 // decides everything else
}
