-- due: what has a deadline and has passed it.
-- Request: bucket, limit, lease in ms. Answer: whether there is more, wills and delayed messages (member, token,
-- record, ...),
-- sessions that have ended (client, rows (filter, stamp, ...), ...), retained messages of the bucket.
-- Atomic, as one node only must find a thing due: its score moves ahead, and if that node dies, another finds
-- it. Sessions and retained messages are ended right here; a will or a delayed message stays until `done`.

-- "w:<client>:<epoch>"
local function take_will(b, member, lease_ms, wills)
  local client, epoch = string.match(member, "^w:(.*):(%d+)$")
  local _, token, record = due_will(b, client, epoch)
  if not token then
    forget_will(b, client, epoch)
    return
  end
  call("ZADD", key(b, "due"), now + lease_ms, member)
  call("SADD", key(b, "wills:", client), epoch)
  wills[#wills + 1] = member
  wills[#wills + 1] = token
  wills[#wills + 1] = record
end

-- "s:<client>"
local function take_session(b, member, lease_ms, wills, ended)
  local client = string.sub(member, 3)
  local fields, subscriptions = read_session(key(b, "s:", client))
  local deadline = tonumber(fields.deadline)
  if not deadline or fields.owner then
    call("ZREM", key(b, "due"), member)
  elseif deadline > now then
    call("ZADD", key(b, "due"), deadline, member)
  else
    local rows = end_session(b, client, fields, subscriptions)
    ended[#ended + 1] = client
    ended[#ended + 1] = rows
    if fields.will_delay and call("SISMEMBER", key(b, "wills:", client), fields.epoch) == 1 then
      take_will(b, "w:" .. client .. ":" .. fields.epoch, lease_ms, wills)
    end
  end
end

-- "r:<topic>"
local function take_retained(b, member)
  local topic = string.sub(member, 3)
  local value = call("HGET", key(b, "retained"), topic)
  local deadline = value and split_stamp(value) or 0
  if deadline > now then
    call("ZADD", key(b, "due"), deadline, member)
    return
  end
  call("ZREM", key(b, "due"), member)
  if deadline > 0 then
    forget_retained(b, topic)
  end
end

-- "d:<id>:<client>"
local function take_delayed(b, member, lease_ms, wills)
  local id, client = string.match(member, "^d:(%x+):(.*)$")
  local record = id and call("HGET", key(b, "delayed:", client), id)
  if not record then
    call("ZREM", key(b, "due"), member)
    return
  end
  call("ZADD", key(b, "due"), now + lease_ms, member)
  wills[#wills + 1] = member
  wills[#wills + 1] = "delayed-" .. b .. "-" .. id
  wills[#wills + 1] = record
end

function operations.due(b, limit, lease_ms)
  local members = call("ZRANGEBYSCORE", key(b, "due"), "-inf", now, "LIMIT", 0, limit)
  local wills, ended = {}, {}
  for _, member in ipairs(members) do
    local kind = string.sub(member, 1, 2)
    if kind == "w:" then
      -- The end of its session may just have taken it.
      if tonumber(call("ZSCORE", key(b, "due"), member) or 0) <= now then
        take_will(b, member, lease_ms, wills)
      end
    elseif kind == "s:" then
      take_session(b, member, lease_ms, wills, ended)
    elseif kind == "d:" then
      take_delayed(b, member, lease_ms, wills)
    elseif kind == "r:" then
      take_retained(b, member)
    else -- of a newer version: not ours to judge, and not to be found at every look
      call("ZADD", key(b, "due"), now + lease_ms, member)
    end
  end
  return { #members == limit, wills, ended, call("HLEN", key(b, "retained")) }
end
