package stream

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// The scripts by which a member of a group acts. All that concern a shard have
// its events stream as KEYS[1] and the lease of its reader as KEYS[2], and those
// that read or change what the group knows of the stream do so only while the
// lease is the caller's, ARGV[1]: a member that was paused past its lease takes
// nothing from the next one. To a caller without the lease they reply nil.
//
// Errors are returned, not raised: Redis 6 would hide their code in a text.
var (
	// joinScript registers a member for so long, unregisters those whose time is
	// over, and returns the rest. A member that says it was registered before, and
	// is not, is not registered again; the reply is then empty.
	//
	//   KEYS[1] members   ARGV: member, milliseconds, "again" or ""
	joinScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if ARGV[3] == 'again' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {} end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
`)

	// knowScript returns for how many shards a group's beginning (ReaderOptions.From)
	// was settled, and the most shards it has known, after it has taken note of the
	// present number.
	//
	//   KEYS[1] hash   ARGV: shards
	knowScript = redis.NewScript(`
redis.call('HSETNX', KEYS[1], 'first', ARGV[1])
local most = redis.call('HGET', KEYS[1], 'most')
if not most or tonumber(most) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'most', ARGV[1])
end
return redis.call('HMGET', KEYS[1], 'first', 'most')
`)

	// holdScript takes or renews a lease, and returns whose it is then, and how
	// many entries are in the dead-letter stream.
	//
	//   KEYS[1] events  [2] lease  [3] dead letters   ARGV: lease, milliseconds
	holdScript = redis.NewScript(`
local held = redis.call('GET', KEYS[2])
if held == ARGV[1] then
  redis.call('PEXPIRE', KEYS[2], ARGV[2]) -- which a server out of memory still does
elseif not held then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  held = ARGV[1]
end
return {held, redis.call('XLEN', KEYS[3])}
`)

	// releaseScript gives a lease back.
	releaseScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return false end
return redis.call('DEL', KEYS[2])
`)

	// enterScript returns the id a group was given last, after it has made the
	// group if there is none: at the stream's present end ("$"), before its oldest
	// entry ("0"), or after an id, but never beyond the end if ARGV[4] says so.
	//
	//   KEYS[1] events  [2] lease   ARGV: lease, group, from, "bounded" or ""
	enterScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return false end
local last = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
  if groups.err then return groups end
  for _, group in ipairs(groups) do
    local info = {}
    for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
    if info['name'] == ARGV[2] then return info['last-delivered-id'] end
  end
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
  end
end

local from = ARGV[3]
local function parts(id)
  local epoch, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(epoch), tonumber(seq)
end
if from == '$' then
  from = last
elseif from == '0' then
  from = '0-0'
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if first then
    local epoch, seq = string.match(first[1], '^(%d+)-(%d+)$')
    if tonumber(seq) > 0 then from = epoch .. '-' .. string.format('%.0f', tonumber(seq) - 1) end
  end
elseif ARGV[4] == 'bounded' then
  local epoch, seq = parts(from)
  local lastEpoch, lastSeq = parts(last)
  if epoch > lastEpoch or (epoch == lastEpoch and seq > lastSeq) then from = last end
end
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[2], from, 'MKSTREAM')
if made.err then return made end
return from
`)

	// readScript gives the group's next entries to a member.
	//
	//   KEYS[1] events  [2] lease   ARGV: lease, group, member, how many
	readScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return false end
local reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[4], 'STREAMS', KEYS[1], '>')
if not reply then return {} end
if reply.err then return reply end
return reply[1][2]
`)

	// takeScript gives a member the entries that were given to any before and are
	// not acknowledged, oldest first. It counts no delivery. Those that are not in
	// the stream any more are acknowledged, and come without fields. When there is
	// none left, members that are gone are forgotten.
	//
	//   KEYS[1] events  [2] lease   ARGV: lease, group, member, after which id, how many
	takeScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return false end
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[2], ARGV[4], '+', ARGV[5])
if pending.err then return pending end
local taken = {}
for i, p in ipairs(pending) do
  local entry = redis.call('XRANGE', KEYS[1], p[1], p[1])[1]
  if entry then
    redis.call('XCLAIM', KEYS[1], ARGV[2], ARGV[3], 0, p[1], 'JUSTID')
  else
    redis.call('XACK', KEYS[1], ARGV[2], p[1])
  end
  taken[i] = {p[1], p[4], entry and entry[2] or false}
end
if #pending == 0 then
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[2])) do
    local info = {}
    for i = 1, #consumer, 2 do info[consumer[i]] = consumer[i + 1] end
    if info['name'] ~= ARGV[3] and info['pending'] == 0 then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[2], info['name'])
    end
  end
end
return taken
`)

	// countScript records how often an entry has been delivered.
	//
	//   KEYS[1] events  [2] lease   ARGV: lease, group, member, id, deliveries
	countScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return false end
local claimed = redis.pcall('XCLAIM', KEYS[1], ARGV[2], ARGV[3], 0, ARGV[4], 'RETRYCOUNT', ARGV[5], 'JUSTID')
if claimed.err then return claimed end
return #claimed
`)

	// giveUpScript moves an entry to the dead-letter stream: it is acknowledged and
	// written there, or neither, and this only once, as far as the group exists.
	//
	//   KEYS[1] events  [2] lease  [3] dead letters
	//   ARGV: lease, group, id, maxlen, reason, deliveries, then the entry's fields
	giveUpScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return false end
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[2], ARGV[3], ARGV[3], 1)
if not pending.err and #pending == 0 then return 0 end
local t = redis.call('TIME')
local at = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local dead = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'id', ARGV[3], 'reason', ARGV[5], 'deliveries', ARGV[6], 'at', at,
  unpack(ARGV, 7))
if type(dead) == 'table' and dead.err then return dead end
redis.pcall('XACK', KEYS[1], ARGV[2], ARGV[3])
return 1
`)
)

// call is one call of a script in a pipeline.
type call struct {
	script *redis.Script
	keys   []string
	args   []any
	cmd    *redis.Cmd // how it ended
}

func (c *call) queue(ctx context.Context, pipe redis.Pipeliner, whole bool) {
	if whole {
		c.cmd = c.script.Eval(ctx, pipe, c.keys, c.args...)
	} else {
		c.cmd = c.script.EvalSha(ctx, pipe, c.keys, c.args...)
	}
}

// roundTrip makes calls in one pipeline. Each has its own error; the scripts the
// server turns out not to know are sent once more, whole.
func roundTrip(ctx context.Context, client Client, calls []*call) {
	unknown := calls
	for _, whole := range []bool{false, true} {
		pipe := client.Pipeline()
		for _, c := range unknown {
			c.queue(ctx, pipe, whole)
		}
		_, _ = pipe.Exec(ctx) // the first error of any; each is looked at by its caller
		var again []*call
		for _, c := range unknown {
			if redis.HasErrorPrefix(c.cmd.Err(), "NOSCRIPT") {
				again = append(again, c)
			}
		}
		if unknown = again; len(unknown) == 0 {
			return
		}
	}
}
