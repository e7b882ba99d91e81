-- Notes how far a shard's session has come beyond the end of its stream, past
-- events that are not to be in it. It does so only while the stream ends where
-- the caller believes, and never goes back.
--
--   KEYS[1]  the stream
--   KEYS[2]  the position: "<the stream's end> <the last event>"
--   ARGV[1]  the id the stream must end with
--   ARGV[2]  the epoch of the last event
--   ARGV[3]  its sequence number
--
-- Replies 1 if that, or more, is noted, and 0 if the stream ends elsewhere.
local key, want, epoch, seq = KEYS[2], ARGV[1], ARGV[2], ARGV[3]

local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not last or last[1] ~= want then return 0 end

-- What was noted beside another end is worth nothing. Within an epoch sequence
-- numbers are small enough for Lua's numbers.
local from, noted = string.match(redis.call('GET', key) or '', '^(%S+) %d+%-(%d+)$')
if from ~= want or tonumber(noted) < tonumber(seq) then
  redis.call('SET', key, want .. ' ' .. epoch .. '-' .. seq)
end
return 1
