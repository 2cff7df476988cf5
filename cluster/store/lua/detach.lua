-- detach: the owner gives a session back, as its connection has ended.
-- Request: bucket, client, epoch, last number sent, expiry seconds (false: unchanged), fire_will.
-- Answer: is stale, rows of the session if it ended (filter, stamp), its will if that is due now, leased to
-- the caller (member, token, record).
-- Atomic, as the session is free, has its deadline and has its will decided at one moment; a claim comes
-- before or after that.

-- The will of a connection that has ended: published now, after its delay, or never [MQTT-3.1.2-8],
-- [MQTT-3.1.2-10].
local function decide_will(b, client, fields, expiry, fire_will)
  local epoch = fields.epoch
  local delay = tonumber(fields.will_delay)
  if not fire_will then
    forget_will(b, client, epoch)
  elseif delay == 0 or expiry == 0 then
    make_will_due(b, client, epoch)
  else
    call("ZADD", key(b, "due"), now + math.min(delay, expiry) * 1000, "w:" .. client .. ":" .. epoch)
    return
  end
  fields.will_delay = nil
  call("HDEL", key(b, "s:", client), "will_delay")
end

local function free_session(b, client, fields, sent, expiry)
  local session = key(b, "s:", client)
  -- None beyond hi was sent: what this connection sent, or an earlier one.
  local hi = math.max(sent, cmsgpack.unpack(fields.claim)[3])
  if expiry == NEVER then
    call("HSET", session, "hi", hi, "expiry", expiry)
  else
    local deadline = now + expiry * 1000
    call("HSET", session, "hi", hi, "expiry", expiry, "deadline", deadline)
    call("ZADD", key(b, "due"), deadline, "s:" .. client)
  end
  call("HDEL", session, "owner", "claim")
  call("SREM", key(b, "n:", fields.owner), client)
end

local function will_if_due(b, client, epoch)
  if call("SISMEMBER", key(b, "wills:", client), epoch) == 0 then
    return {}
  end
  local member, token, record = due_will(b, client, epoch)
  return member and { member, token, record } or {}
end

function operations.detach(b, client, epoch, sent, expiry, fire_will)
  local session = key(b, "s:", client)
  local found = call("HMGET", session, "epoch", "owner", "expiry", "will_delay", "claim")
  local rows = {}
  if tonumber(found[1]) ~= epoch then
    -- Another claim has it, or this is a repeat and the session has ended; the will of a session that was taken
    -- over is leased to the one who took it.
    rows = rows_of_ended(b, client, epoch)
    local will = found[1] and {} or will_if_due(b, client, epoch)
    return { #rows == 0 and #will == 0, rows, will }
  end
  if found[2] then -- otherwise it was done before: a repeat
    local fields = {
      epoch = found[1], owner = found[2], expiry = found[3], will_delay = found[4] or nil, claim = found[5],
    }
    expiry = expiry or tonumber(fields.expiry)
    if fields.will_delay then
      decide_will(b, client, fields, expiry, fire_will)
    end
    if expiry == 0 then
      local _, subscriptions = read_session(session)
      rows = end_session(b, client, fields, subscriptions)
    else
      free_session(b, client, fields, sent, expiry)
    end
  end
  return { false, rows, will_if_due(b, client, epoch) }
end
