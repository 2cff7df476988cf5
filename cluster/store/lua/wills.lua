-- Wills. `will:<client>:<epoch>` holds the will of one connection. A will which waits for its delay is in
-- `due` only; one which is to be published is in the set `wills:<client>` as well, until it has been routed
-- and is removed. So whoever claims the client can name all of them, and none is cancelled once it is due.

-- What a node needs to publish a will; the token is the same whoever asks.
local function due_will(b, client, epoch)
  local record = call("GET", will_key(b, client, epoch))
  if not record then
    return false
  end
  return "w:" .. client .. ":" .. epoch, "will-" .. b .. "-" .. epoch, record
end

-- The will is to be published now, and leased to the caller.
local function make_will_due(b, client, epoch)
  if call("EXISTS", will_key(b, client, epoch)) == 1 then
    call("ZADD", key(b, "due"), now + LEASE_MS, "w:" .. client .. ":" .. epoch)
    call("SADD", key(b, "wills:", client), epoch)
  end
end

local function forget_will(b, client, epoch)
  call("DEL", will_key(b, client, epoch))
  call("ZREM", key(b, "due"), "w:" .. client .. ":" .. epoch)
  call("SREM", key(b, "wills:", client), epoch)
end

-- Decides the will of the session's last connection when that is over for good: its session ends, or a new
-- connection takes over [MQTT-3.1.3-9]. `fields` are the session's.
local function settle_will(b, client, fields, session_ends)
  local epoch = fields.epoch
  if not fields.will_delay or call("SISMEMBER", key(b, "wills:", client), epoch) == 1 then
    return
  end
  local is_due = session_ends
  if fields.owner then
    is_due = is_due or fields.will_delay == "0"
  else
    local at = tonumber(call("ZSCORE", key(b, "due"), "w:" .. client .. ":" .. epoch) or nil)
    is_due = is_due or (at ~= nil and at <= now)
  end
  if is_due then
    make_will_due(b, client, epoch)
  else
    forget_will(b, client, epoch)
  end
end

-- All wills of a client that are to be published, oldest first, leased to the caller: member, token, record.
local function lease_wills(b, client)
  local epochs = call("SMEMBERS", key(b, "wills:", client))
  if not epochs[1] then
    return {}
  end
  table.sort(epochs, function(a, c) return tonumber(a) < tonumber(c) end)
  local wills = {}
  for _, epoch in ipairs(epochs) do
    local member, token, record = due_will(b, client, epoch)
    if member then
      call("ZADD", key(b, "due"), now + LEASE_MS, member)
      wills[#wills + 1] = member
      wills[#wills + 1] = token
      wills[#wills + 1] = record
    else
      call("SREM", key(b, "wills:", client), epoch)
    end
  end
  return wills
end

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

-- The will of one connection, if it is to be published now: member, token, record.
local function will_if_due(b, client, epoch)
  if call("SISMEMBER", key(b, "wills:", client), epoch) == 0 then
    return {}
  end
  local member, token, record = due_will(b, client, epoch)
  return member and { member, token, record } or {}
end
