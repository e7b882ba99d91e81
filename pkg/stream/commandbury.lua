-- Moves a command to the shard's dead letters, unless it is gone already: then
-- an earlier call whose answer was lost has done it.
--
--   KEYS[1]  the stream of commands
--   KEYS[2]  the stream of dead letters
--   ARGV     the command's id, how many dead letters to keep, op, d, reason, and
--            the time in Unix milliseconds
--
-- Replies with 1 if it moved the command. XADD comes first: it is what can fail,
-- and then nothing has happened.
local commands, dead = KEYS[1], KEYS[2]
local id, keep, op, d, reason, at = unpack(ARGV)
if #redis.call('XRANGE', commands, id, id) == 0 then return 0 end
redis.call('XADD', dead, 'MAXLEN', keep, '*', 'op', op, 'd', d, 'reason', reason, 'id', id, 'at', at)
redis.call('XDEL', commands, id)
return 1
