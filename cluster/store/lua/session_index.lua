-- The index of a bucket's persistent sessions: their Client Identifiers in order, for whoever looks for some.
-- Chunks `ids:<first>` are sorted sets of at most CHUNK ids (all scores 0), so that Redis keeps each as a listpack:
-- some 25 bytes for an id, a fifth of what one large sorted set takes. `ids` has the firsts: a chunk holds the ids from
-- its own first to before the next one; that of the chunk at the beginning is "". No chunk knows more than its place:
-- splitting and joining touch two of them.
-- A session is counted in `sessions` for its id in here; or for its field `counted`, by libraries before this one. What
-- these have made enters with its next claim, or when `missing` meets it; what they have ended leaves when
-- `session_brief` meets it. So that not every claim has to look: a session that nobody owns has the field `protocol`
-- only if its last claim was of an older library (those of this one have a sixth item).

local CHUNK = 120 -- zset-max-listpack-entries is 128
local SMALL = 30 -- below this a chunk joins a neighbour,
local JOINED = 90 -- if both together have no more

-- The first of the chunk that an id is in, or would be; nil if there is no chunk.
local function chunk_of(b, id)
  return call("ZRANGE", key(b, "ids"), "[" .. id, "-", "BYLEX", "REV", "LIMIT", 0, 1)[1]
end

local function chunk_behind(b, first)
  return call("ZRANGE", key(b, "ids"), "(" .. first, "+", "BYLEX", "LIMIT", 0, 1)[1]
end

-- Puts ids[from] to ids[to] into a chunk; the last one first, as Redis looks for the place from the beginning.
local function fill_chunk(chunk, ids, from, to)
  local arguments = {}
  for i = to, from, -1 do
    arguments[#arguments + 1] = 0
    arguments[#arguments + 1] = ids[i]
  end
  call("ZADD", chunk, unpack(arguments))
end

-- Who comes in order leaves full chunks behind.
local function split_chunk(b, chunk, newest)
  local ids = call("ZRANGE", chunk, 0, -1)
  local kept = ids[#ids] == newest and #ids - 1 or math.floor(#ids / 2)
  local first = ids[kept + 1]
  call("DEL", chunk)
  fill_chunk(chunk, ids, 1, kept)
  fill_chunk(key(b, "ids:", first), ids, kept + 1, #ids)
  call("ZADD", key(b, "ids"), 0, first)
end

local function join_chunk(b, first)
  local before, behind = first, first
  if first == "" then
    behind = chunk_behind(b, first)
  else
    before = call("ZRANGE", key(b, "ids"), "(" .. first, "-", "BYLEX", "REV", "LIMIT", 0, 1)[1]
  end
  local into = key(b, "ids:", before)
  if not behind then -- there is only this one
    if call("EXISTS", into) == 0 then
      call("DEL", key(b, "ids"))
    end
    return
  end
  local from = key(b, "ids:", behind)
  local ids = call("ZRANGE", from, 0, -1)
  if #ids > 0 then
    if call("ZCARD", into) + #ids > JOINED then
      return
    end
    fill_chunk(into, ids, 1, #ids)
  end
  call("DEL", from)
  call("ZREM", key(b, "ids"), behind)
end

-- Whether the id was not in there.
local function add_id(b, id)
  local first = chunk_of(b, id)
  if not first then
    first = ""
    call("ZADD", key(b, "ids"), 0, first)
  end
  local chunk = key(b, "ids:", first)
  if call("ZADD", chunk, 0, id) == 0 then
    return false
  end
  if call("ZCARD", chunk) > CHUNK then
    split_chunk(b, chunk, id)
  end
  return true
end

-- Whether the id was in there.
local function remove_id(b, id)
  local first = chunk_of(b, id)
  if not first then
    return false
  end
  local chunk = key(b, "ids:", first)
  if call("ZREM", chunk, id) == 0 then
    return false
  end
  if call("ZCARD", chunk) < SMALL then
    join_chunk(b, first)
  end
  return true
end

-- Whether a session that is there may have been made by an older library. `fields`: before the claim.
local function may_be_left_out(fields)
  return fields.protocol ~= nil
end

-- A persistent session is there: it is in the index, and counted once. `counted`: its field.
local function enter_index(b, client, counted)
  local is_new = add_id(b, client)
  if counted then
    call("HDEL", key(b, "s:", client), "counted")
    if not is_new then
      call("DECR", key(b, "sessions"))
    end
  elseif is_new then
    call("INCR", key(b, "sessions"))
  end
end

-- It is there no more.
local function leave_index(b, client, counted)
  if remove_id(b, client) then
    call("DECR", key(b, "sessions"))
  end
  if counted then
    call("DECR", key(b, "sessions"))
  end
end
