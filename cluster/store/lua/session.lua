-- A session's hash, read whole or in part; how its connection ends, and the session itself.

-- Its own fields as a map (a direct one has no `n` and `hi`, which are 0); subscriptions flat: filter, options, stamp;
-- replays flat: filter, cursor.
local function read_session(session)
  local raw = call("HGETALL", session)
  local fields, subscriptions, replays = {}, {}, {}
  for i = 1, #raw, 2 do
    local name, value = raw[i], raw[i + 1]
    local kind = string.sub(name, 1, 2)
    if kind == "f:" then
      local stamp, options = split_stamp(value)
      local at = #subscriptions
      subscriptions[at + 1] = string.sub(name, 3)
      subscriptions[at + 2] = options
      subscriptions[at + 3] = stamp
    elseif kind == "r:" then
      replays[#replays + 1] = string.sub(name, 3)
      replays[#replays + 1] = value
    else
      fields[name] = value
    end
  end
  if fields.direct and not fields.n then
    fields.n, fields.hi = "0", "0"
  end
  return fields, subscriptions, replays
end

-- The fields that matter when its connection ends, as a map. (Written out: a map that grows by name is made
-- anew four times.)
local function read_ownership(b, client)
  local found = call(
    "HMGET", key(b, "s:", client),
    "epoch", "owner", "claim", "expiry", "will_delay", "n", "hi", "direct", "counted"
  )
  return {
    epoch = found[1] or nil, owner = found[2] or nil, claim = found[3] or nil, expiry = found[4] or nil,
    will_delay = found[5] or nil, n = found[6] or "0", hi = found[7] or "0", direct = found[8] or nil,
    counted = found[9] or nil,
  }
end

-- Whether the session must not be resumed: it ended with its connection, or its deadline has passed.
local function has_ended(fields)
  return fields.expiry == "0" or (fields.deadline ~= nil and tonumber(fields.deadline) <= now)
end

-- Deletes all of a session; its rows (filter, stamp, ...) are the caller's to delete from the rows in {m}.
-- They are kept for a while, so that a repeated call can name them again.
local function end_session(b, client, fields, subscriptions)
  settle_will(b, client, fields, true)
  local rows = {}
  for i = 1, #subscriptions, 3 do
    rows[#rows + 1] = subscriptions[i]
    rows[#rows + 1] = subscriptions[i + 2]
  end
  if #rows > 0 then
    call("SET", key(b, "ended:", client), cmsgpack.pack({ tonumber(fields.epoch), rows }), "PX", REPEAT_MS)
  end
  if fields.owner then
    call("SREM", key(b, "n:", fields.owner), client)
  end
  if fields.direct then -- it never had a deadline, nor anything but its hash
    call("DEL", key(b, "s:", client))
    return rows
  end
  leave_index(b, client, fields.counted)
  call("ZREM", key(b, "due"), "s:" .. client)
  call("UNLINK", key(b, "s:", client), key(b, "q:", client), key(b, "rel:", client), key(b, "rx:", client))
  return rows
end

-- The rows of the session that ended with this epoch a moment ago.
local function rows_of_ended(b, client, epoch)
  local record = call("GET", key(b, "ended:", client))
  if record then
    local ended = cmsgpack.unpack(record)
    if ended[1] == epoch then
      return ended[2]
    end
  end
  return {}
end

local function free_session(b, client, fields, hi, expiry)
  local session = key(b, "s:", client)
  if expiry == NEVER then
    call("HSET", session, "hi", hi, "expiry", expiry)
  else
    local deadline = now + expiry * 1000
    call("HSET", session, "hi", hi, "expiry", expiry, "deadline", deadline)
    call("ZADD", key(b, "due"), deadline, "s:" .. client)
  end
  call("HDEL", session, "owner", "claim")
  if cmsgpack.unpack(fields.claim)[6] then -- else the session stays one of an older library: see session_index
    call("HDEL", session, "protocol")
  end
  call("SREM", key(b, "n:", fields.owner), client)
end

-- A value of `rx` begins with 1 if the message was routed, else with 0; with 2 more if it is in doubt: see `claim`.
local function is_in_doubt(received)
  return string.byte(received) >= 50 -- "2"
end

-- Such a value taken apart: whether the message was routed, time (ms) and token as text.
local function split_received(received)
  local state, time, token = string.match(received, "^(%d)(%d*):(.*)$")
  return tonumber(state) % 2 == 1, time, token
end

-- The session's connection is over: its will is decided, and the session waits for another one or ends; then
-- the answer is its rows (filter, stamp, ...). None beyond `hi` was sent. `fields` are from read_ownership.
local function give_back(b, client, fields, hi, expiry, fire_will)
  if fields.will_delay then
    decide_will(b, client, fields, expiry, fire_will)
  end
  if expiry > 0 then
    free_session(b, client, fields, hi, expiry)
    return {}
  end
  local subscriptions = {}
  if not fields.direct then
    local _, found = read_session(key(b, "s:", client))
    subscriptions = found
  end
  return end_session(b, client, fields, subscriptions)
end
