-- Appends a batch of entries to a stream if, and only if, the batch continues
-- what the stream ends with; else appends nothing. Without entries it only looks.
--
-- A batch that opens an epoch (its first id is <epoch>-0) also continues a later
-- end than it says, if that is of an earlier epoch: then the owner of a session
-- that is over has gone on writing, until now. A marker's "after" is made the real
-- end. A stream that ends before what the batch says has lost entries, which are
-- to be appended first.
--
--   KEYS[1]    the stream
--   ARGV[1]    the id the stream must end with, 0-0 when it was never written
--   ARGV[2]    about how many entries to keep
--   ARGV[3..]  id, type, data of each entry
--
-- Replies with the id the stream ends with afterwards. It is the batch's last id
-- exactly when the batch is there, whether this call or an earlier one wrote it.
local key, want, maxlen = KEYS[1], ARGV[1], ARGV[2]
local first = ARGV[3]

-- The id of the last entry. XREVRANGE is cheap whatever the stream holds.
local function newest()
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  return last and last[1] or '0-0'
end

-- The largest id the stream ever had, which deleting entries does not lower. It
-- costs more: XINFO also returns the first entry, often the largest there is.
local function highest()
  if redis.call('EXISTS', key) == 1 then
    local info = redis.call('XINFO', 'STREAM', key)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' and info[i + 1] ~= '' then return info[i + 1] end
    end
  end
  return newest()
end

-- What to answer to an error of XADD: the stream's real end if that is why.
local function refused(reply)
  local ends = highest()
  if ends ~= want then return ends end
  return reply
end

local ends -- what the stream ends with

-- The two numbers of an id. Epochs and sequence numbers are small enough for Lua's numbers.
local function parts(id)
  local epoch, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(epoch), tonumber(seq)
end

-- Whether the stream ends beyond what the batch says. That it does so in an epoch
-- before the batch's own, XADD sees to.
local function overtaken()
  local lastEpoch, lastSeq = parts(ends)
  local wantEpoch, wantSeq = parts(want)
  return lastEpoch > wantEpoch or lastEpoch == wantEpoch and lastSeq > wantSeq
end

-- The newest entry is proof enough within an epoch: were it not also the highest
-- id, the batch's first id, its successor, would be taken, and XADD below says
-- so. (Where a filter leaves entries out the first id may be larger; then this
-- holds as long as nobody deletes the newest entries by hand.) An entry that opens an epoch (sequence 0) is no such proof.
ends = newest()
local opens = first and string.sub(first, -2) == '-0'
if ends ~= want or not first or opens then
  ends = highest()
  if not first or ends ~= want and not (opens and overtaken()) then return ends end
end

-- Only the first XADD can fail: Redis lets a script that has begun to write
-- finish, even out of memory or made a replica, and the ids of a batch rise.
-- Trimming is left to the last one, since most of what an XADD costs in a script
-- are its arguments.
local call, args, n = redis.pcall, ARGV, #ARGV - 2
if ends ~= want then
  local from, to = string.find(args[5], '"after":"' .. want .. '"', 1, true)
  if from then args[5] = string.sub(args[5], 1, from - 1) .. '"after":"' .. ends .. '"' .. string.sub(args[5], to + 1) end
end
for i = 3, n - 1, 3 do
  local added = call('XADD', key, args[i], 't', args[i + 1], 'd', args[i + 2])
  if type(added) == 'table' then return refused(added) end
end
local added = call('XADD', key, 'MAXLEN', '~', maxlen, args[n], 't', args[n + 1], 'd', args[n + 2])
if type(added) == 'table' then return refused(added) end
return added
