//go:build unix

package bench

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
)

// corpusSize is how many different events there are; they are repeated. Twenty thousand are many times what a compressor remembers.
const corpusSize = 20_000

// dispatch is an event without its number.
type dispatch struct {
	kind string
	data []byte
}

// generator makes events that look like a busy bot's, the same ones each time.
type generator struct {
	rand *rand.Rand
	buf  bytes.Buffer
}

// newCorpus returns events of a mean of some 770 bytes: 55 % presences, 20 % messages, 10 % typing, the rest voice states and members,
// and one in two thousand a guild of 50 to 500 KB.
func newCorpus() []dispatch {
	g := &generator{rand: rand.New(rand.NewPCG(1, 2))}
	corpus := make([]dispatch, corpusSize)
	for i := range corpus {
		if i%2000 == 1000 {
			corpus[i] = g.guild()
			continue
		}
		switch p := g.rand.IntN(100); {
		case p < 55:
			corpus[i] = g.dispatch("PRESENCE_UPDATE", g.presence)
		case p < 75:
			corpus[i] = g.dispatch("MESSAGE_CREATE", g.message)
		case p < 85:
			corpus[i] = g.dispatch("TYPING_START", g.typing)
		case p < 92:
			corpus[i] = g.dispatch("VOICE_STATE_UPDATE", g.voice)
		default:
			corpus[i] = g.dispatch("GUILD_MEMBER_UPDATE", g.memberUpdate)
		}
	}
	return corpus
}

func (g *generator) dispatch(kind string, write func()) dispatch {
	g.buf.Reset()
	write()
	return dispatch{kind, bytes.Clone(g.buf.Bytes())}
}

func (g *generator) printf(format string, args ...any) { fmt.Fprintf(&g.buf, format, args...) }

func (g *generator) id() uint64 { return 1_000_000_000_000_000_000 + g.rand.Uint64N(1<<58) }
func (g *generator) guildID() int64 {
	return 800_000_000_000_000_000 + int64(g.rand.IntN(2000))*7_919_317
}
func (g *generator) hash() string { return fmt.Sprintf("%016x%016x", g.rand.Uint64(), g.rand.Uint64()) }

var words = strings.Fields(`the a of to and in is that it was for on are with they be at one have this from or had by hot but some what there we can
	out other were all your when up use word how said an each she which do their time if will way about many then them would write like
	so these her long make thing see him two has look more day could go come did my sound no most number who over know water than call
	first people may down side been now find raid boss guild loot patch stream lobby queue ping clip music party level quest server`)

func (g *generator) text(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(words[g.rand.IntN(len(words))])
		b.WriteByte(' ')
	}
	return strings.TrimSuffix(b.String(), " ")
}

func (g *generator) user() {
	g.printf(`{"username":"%s_%d","public_flags":%d,"id":"%d","global_name":"%s","display_name":null,"discriminator":"0","bot":false,`+
		`"avatar_decoration_data":null,"avatar":"%s"}`, g.text(1), g.rand.IntN(9999), g.rand.IntN(4)*64, g.id(), g.text(2), g.hash())
}

func (g *generator) roles() {
	g.buf.WriteByte('[')
	for i := range g.rand.IntN(6) {
		if i > 0 {
			g.buf.WriteByte(',')
		}
		g.printf(`"%d"`, 900_000_000_000_000_000+g.rand.Uint64N(300)*104_729)
	}
	g.buf.WriteByte(']')
}

func (g *generator) stamp() string {
	return fmt.Sprintf("2025-%02d-%02dT%02d:%02d:%02d.%06d+00:00", 1+g.rand.IntN(12), 1+g.rand.IntN(28), g.rand.IntN(24), g.rand.IntN(60),
		g.rand.IntN(60), g.rand.IntN(1_000_000))
}

// member writes a member without its braces, so that a user and others may be beside it.
func (g *generator) member() {
	g.buf.WriteString(`"roles":`)
	g.roles()
	g.printf(`,"premium_since":null,"pending":false,"nick":null,"mute":false,"joined_at":"%s","flags":0,"deaf":false,`+
		`"communication_disabled_until":null,"banner":null,"avatar":null`, g.stamp())
}

func (g *generator) presence() {
	status := []string{"online", "idle", "dnd", "offline"}[g.rand.IntN(4)]
	g.printf(`{"user":{"id":"%d"},"status":"%s","guild_id":"%d","client_status":{"desktop":"%s"},"activities":[`, g.id(), status, g.guildID(), status)
	for i := range g.rand.IntN(3) {
		if i > 0 {
			g.buf.WriteByte(',')
		}
		if g.rand.IntN(2) == 0 {
			g.printf(`{"type":4,"state":"%s","name":"Custom Status","id":"custom","created_at":%d}`, g.text(6), 1_750_000_000_000+g.rand.Int64N(1e10))
			continue
		}
		g.printf(`{"type":2,"timestamps":{"start":%d,"end":%d},"sync_id":"%s","state":"%s","session_id":"%s","party":{"id":"spotify:%d"},`+
			`"name":"Spotify","id":"spotify:1","flags":48,"details":"%s","created_at":%d,`+
			`"assets":{"large_text":"%s","large_image":"spotify:%s"}}`, 1_750_000_000_000+g.rand.Int64N(1e10), 1_760_000_000_000+g.rand.Int64N(1e10),
			g.hash()[:22], g.text(3), g.hash(), g.id(), g.text(5), 1_750_000_000_000+g.rand.Int64N(1e10), g.text(4), g.hash())
	}
	g.buf.WriteString(`]}`)
}

func (g *generator) message() {
	g.printf(`{"type":0,"tts":false,"timestamp":"%s","pinned":false,"nonce":"%d","mentions":[`, g.stamp(), g.id())
	if g.rand.IntN(4) == 0 {
		g.user()
	}
	g.buf.WriteString(`],"mention_roles":[],"mention_everyone":false,"member":{`)
	g.member()
	g.printf(`},"id":"%d","flags":0,"embeds":[`, g.id())
	if g.rand.IntN(6) == 0 {
		g.printf(`{"type":"rich","url":"https://example.com/%s","title":"%s","description":"%s","color":%d}`, g.hash(), g.text(6), g.text(40), g.rand.IntN(1<<24))
	}
	g.printf(`],"edited_timestamp":null,"content":"%s","components":[],"channel_type":0,"channel_id":"%d","author":`, g.text(3+g.rand.IntN(45)), g.id())
	g.user()
	g.printf(`,"attachments":[],"guild_id":"%d"}`, g.guildID())
}

func (g *generator) typing() {
	g.printf(`{"user_id":"%d","timestamp":%d,"member":{"user":`, g.id(), 1_750_000_000+g.rand.IntN(1e7))
	g.user()
	g.buf.WriteByte(',')
	g.member()
	g.printf(`},"channel_id":"%d","guild_id":"%d"}`, g.id(), g.guildID())
}

func (g *generator) voice() {
	g.buf.WriteString(`{"member":{"user":`)
	g.user()
	g.buf.WriteByte(',')
	g.member()
	g.printf(`},"user_id":"%d","suppress":false,"session_id":"%s","self_video":false,"self_mute":%t,"self_deaf":false,"request_to_speak_timestamp":null,`+
		`"mute":false,"guild_id":"%d","deaf":false,"channel_id":"%d"}`, g.id(), g.hash(), g.rand.IntN(2) == 0, g.guildID(), g.id())
}

func (g *generator) memberUpdate() {
	g.buf.WriteString(`{"user":`)
	g.user()
	g.buf.WriteByte(',')
	g.member()
	g.printf(`,"guild_id":"%d"}`, g.guildID())
}

func (g *generator) guild() dispatch {
	size := 50_000 + g.rand.IntN(450_000)
	return g.dispatch("GUILD_CREATE", func() {
		g.printf(`{"id":"%d","name":"%s","icon":"%s","owner_id":"%d","region":"deprecated","afk_timeout":300,"verification_level":1,`+
			`"default_message_notifications":0,"explicit_content_filter":2,"roles":[],"emojis":[],"features":[],"mfa_level":0,"joined_at":"%s",`+
			`"large":true,"unavailable":false,"member_count":%d,"voice_states":[],"channels":[],"threads":[],"presences":[],"stage_instances":[],`+
			`"guild_scheduled_events":[],"members":[`, g.guildID(), g.text(3), g.hash(), g.id(), g.stamp(), g.rand.IntN(100_000))
		for first := true; g.buf.Len() < size; first = false {
			if !first {
				g.buf.WriteByte(',')
			}
			g.buf.WriteString(`{"user":`)
			g.user()
			g.buf.WriteByte(',')
			g.member()
			g.buf.WriteByte('}')
		}
		g.buf.WriteString(`]}`)
	})
}
