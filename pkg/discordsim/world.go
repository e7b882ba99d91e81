package discordsim

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// world is the invented bot, its guilds and the people in them. Only guild ids are stored; everything else about a
// guild is computed from its id, so that it is the same each time it is looked at.
type world struct {
	guilds []uint64
	live   []uint64        // those of them that are not in an outage
	out    map[uint64]bool // those that are
	bot    uint64
	seed   uint64
	ids    atomic.Uint64
	// shuffled is whether a shard's guilds are introduced out of order.
	shuffled bool
}

// discordEpoch is the first millisecond a snowflake can name.
// See https://discord.com/developers/docs/reference#snowflakes.
const discordEpoch = 1420070400000

const (
	firstGuild  = 31_536_000_000 // ms after discordEpoch: the oldest guild is of 2016
	guildStride = 100_003        // ms between two guilds: a prime, so that they spread evenly over any number of shards
	maxGuilds   = 2_000_000      // so that the youngest guild is of the past
	minLiveTime = 300_000_000_000
)

func newWorld(opts Options) *world {
	w := &world{
		bot: derive(mix(opts.Seed), 'u', 0), seed: opts.Seed, out: make(map[uint64]bool),
		shuffled: opts.Unspecified.ShuffleGuilds,
	}
	offset := mix(opts.Seed) % 1_000_000
	w.guilds = make([]uint64, opts.Guilds)
	for i := range w.guilds {
		ms := firstGuild + offset + uint64(i)*guildStride
		w.guilds[i] = ms<<22 | mix(opts.Seed^ms)&(1<<22-1)
		if out := opts.Unspecified.Outages; (i+1)*out/opts.Guilds > i*out/opts.Guilds { // spread evenly
			w.out[w.guilds[i]] = true
		} else {
			w.live = append(w.live, w.guilds[i])
		}
	}
	return w
}

// nextID makes a snowflake for something that happens now. No two are the same: the low 22 bits count, and more than
// four million ids in one millisecond do not occur. In a synctest bubble the clock starts before Discord did, so the
// time is never taken to be before 2024.
func (w *world) nextID(now time.Time) uint64 {
	ms := max(now.UnixMilli()-discordEpoch, minLiveTime)
	return uint64(ms)<<22 | w.ids.Add(1)&(1<<22-1)
}

// guildsOf returns the guilds of a shard.
func (w *world) guildsOf(pair shardPair) []uint64 {
	var guilds []uint64
	for _, g := range w.guilds {
		if shardOf(g, pair.total) == pair.shard {
			guilds = append(guilds, g)
		}
	}
	return guilds
}

// introduction is the order in which a shard's guilds follow READY.
func (w *world) introduction(guilds []uint64, pair shardPair) []uint64 {
	if !w.shuffled {
		return guilds
	}
	guilds = slices.Clone(guilds)
	random := rand.New(rand.NewPCG(w.seed, uint64(pair.shard)))
	random.Shuffle(len(guilds), func(i, j int) { guilds[i], guilds[j] = guilds[j], guilds[i] })
	return guilds
}

// guildsOn counts the guilds of a shard.
func (w *world) guildsOn(pair shardPair) int { return len(w.guildsOf(pair)) }

// has reports whether the session's shard has the guild, the bot is in it, and it is in no outage.
func (w *world) has(guild uint64, sess *session) bool {
	if shardOf(guild, sess.total) != sess.shard {
		return false
	}
	return slices.Contains(w.live, guild)
}

// members is how many members a guild has: between 20 and 5,000, mostly few.
func (w *world) members(guild uint64) int {
	r := mix(guild ^ 'm')
	if isLarge(guild) {
		return 1000 + int(r%4000)
	}
	return 20 + int(r%200)
}

// isLarge tells the one guild in sixteen whose GUILD_CREATE has more than 50 KB.
func isLarge(guild uint64) bool { return mix(guild)&15 == 0 }

// person is somebody in a guild.
type person struct{ id, seed uint64 }

// member returns the guild's i-th member.
func (w *world) member(guild uint64, i int) person {
	return person{id: derive(guild, 'u', i), seed: mix(guild + uint64(i))}
}

// mix is the finalizer of SplitMix64: it turns numbers that are alike into numbers that are not.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// derive makes the snowflake of the i-th thing of a kind that belongs to owner, some time between 2016 and 2023.
func derive(owner uint64, kind byte, i int) uint64 {
	r := mix(owner ^ uint64(kind)<<56 ^ uint64(i)<<1)
	ms := firstGuild + (r>>22)%220_000_000_000
	return ms<<22 | r&(1<<22-1)
}

// dice is a stream of random choices. Its zero value is a stream too.
type dice struct{ state uint64 }

func (d *dice) next() uint64 {
	d.state += 0x9e3779b97f4a7c15
	return mix(d.state)
}

// n returns a number from 0 to k-1.
func (d *dice) n(k int) int { return int(d.next() >> 33 * uint64(k) >> 31) }

// chance is true in so many of a hundred cases.
func (d *dice) chance(percent int) bool { return d.n(100) < percent }

// pick returns one of the list.
func (d *dice) pick(list []string) string { return list[d.n(len(list))] }

// Payloads are built by appending, without reflection, because millions of them are made. The helpers below keep that
// readable: each appends one member of an object, or part of one, and returns the longer slice.

func str(b []byte, before, value string) []byte { return append(append(b, before...), value...) }

func num(b []byte, before string, value int64) []byte {
	return strconv.AppendInt(append(b, before...), value, 10)
}

func idOf(b []byte, before string, id uint64) []byte {
	return append(strconv.AppendUint(append(append(b, before...), '"'), id, 10), '"')
}

func yes(b []byte, before string, value bool) []byte {
	return strconv.AppendBool(append(b, before...), value)
}

// hash appends 32 hexadecimal digits in quotes, the second half of which is id.
func hash(b []byte, before string, high, id uint64) []byte {
	b = append(append(b, before...), '"')
	b = hex16(b, high)
	b = hex16(b, id)
	return append(b, '"')
}

func hex16(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&15])
	}
	return b
}

// stamp appends a time as Discord writes it.
func stamp(b []byte, before string, ms int64) []byte {
	b = append(append(b, before...), '"')
	b = time.UnixMilli(ms).UTC().AppendFormat(b, "2006-01-02T15:04:05.000000+00:00")
	return append(b, '"')
}

// born is when a snowflake was made, in Unix milliseconds.
func born(id uint64) int64 { return int64(id>>22) + discordEpoch }
