-- The ban list of the cluster: `bans` holds all, `bans:until` those that end by themselves, `bans:patterns` those with
-- wildcards, `bans:ver` counts the changes. Each change is told on the channel `bans:changes` with its number, so that
-- whoever has missed one knows. Only the clock of Redis counts.
-- A record is {1, flags, since in ms, until in ms or 0, reason, who has set it}; flag 1: by itself.

local AUTOMATIC = 1

local function tell_ban(name, record)
  local version = call("INCR", key("m", "bans:ver"))
  call("PUBLISH", key("m", "bans:changes"), cmsgpack.pack({ version, name, record }))
  return version
end

local function forget_ban(name)
  call("ZREM", key("m", "bans:until"), name)
  call("SREM", key("m", "bans:patterns"), name)
  return call("HDEL", key("m", "bans"), name) == 1 and tell_ban(name, false)
end

-- add_ban: from now on, in place of one for the same.
-- Request: "m", name, flags, reason, who, milliseconds (0: for ever), whether it is a pattern, most bans, most patterns,
-- whether one that holds stays as it is.
-- Answer: 1 and the record; 0 and the record that is there: a ban by itself never shortens another; or -1: too many.
-- Atomic, as its number, its end and the record have to agree.
function operations.add_ban(_, name, flags, reason, who, milliseconds, is_pattern, most, most_patterns, must_be_new)
  local bans = key("m", "bans")
  local before = call("HGET", bans, name)
  local ends = milliseconds > 0 and now + milliseconds or 0
  if before then
    local had = cmsgpack.unpack(before)[4]
    local stays = must_be_new and (had == 0 or had > now)
    if stays or flags % 2 == AUTOMATIC and (had == 0 or had >= ends) then
      return { 0, before }
    end
  elseif call("HLEN", bans) >= most or is_pattern and call("SCARD", key("m", "bans:patterns")) >= most_patterns then
    return { -1 }
  end
  local record = cmsgpack.pack({ 1, flags, now, ends, reason, who })
  call("HSET", bans, name, record)
  if ends > 0 then
    call("ZADD", key("m", "bans:until"), ends, name)
  else
    call("ZREM", key("m", "bans:until"), name)
  end
  if is_pattern then
    call("SADD", key("m", "bans:patterns"), name)
  end
  tell_ban(name, record)
  return { 1, record }
end

-- remove_ban: before its time.
-- Request: "m", name. Answer: whether there was one.
-- Atomic, for the same reason.
function operations.remove_ban(_, name)
  return forget_ban(name) and 1 or 0
end

-- sweep_bans: forgets what has ended.
-- Request: "m", limit. Answer: the number of the last change, names of those that were forgotten.
-- Atomic, as one that was just prolonged has to stay.
function operations.sweep_bans(_, limit)
  local ended = call("ZRANGEBYSCORE", key("m", "bans:until"), "-inf", now, "LIMIT", 0, limit)
  for _, name in ipairs(ended) do
    forget_ban(name)
  end
  return { tonumber(call("GET", key("m", "bans:ver")) or 0), ended }
end
