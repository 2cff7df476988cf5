-- Exclusive subscriptions: `exclusive` of the filter's bucket says who has it, as "<epoch>:<client>". That session is
-- in another bucket, so nothing keeps the two in step: whoever wants the filter asks for the session, and takes the
-- place of one that does not have it any more.

local function split_holder(holder)
  local epoch, client = string.match(holder, "^(%d+):(.*)$")
  return tonumber(epoch), client
end

-- take_exclusive: the filter is this client's, if it is nobody's or was of `beaten`, as answered before.
-- Request: bucket, filter, client, epoch, beaten or false. Answer: 1, or the holder: epoch, client, and as it is to be
-- given for `beaten`.
-- Atomic, as one client only may have it.
function operations.take_exclusive(b, filter, client, epoch, beaten)
  local exclusive = key(b, "exclusive")
  local holder = call("HGET", exclusive, filter)
  if holder and holder ~= beaten then
    local held_since, held_by = split_holder(holder)
    if held_by ~= client then
      return { held_since, held_by, holder }
    end
  end
  call("HSET", exclusive, filter, epoch .. ":" .. client)
  return 1
end

-- free_exclusive: the client does not have these filters any more.
-- Request: bucket, filters, client, epoch. Answer: 1.
-- Atomic, as one that it has taken with a later epoch, or somebody else has, stays.
function operations.free_exclusive(b, filters, client, epoch)
  local exclusive = key(b, "exclusive")
  for _, filter in ipairs(filters) do
    local holder = call("HGET", exclusive, filter)
    if holder then
      local held_since, held_by = split_holder(holder)
      if held_by == client and held_since <= epoch then
        call("HDEL", exclusive, filter)
      end
    end
  end
  return 1
end

-- holds_exclusive: whether a session has this subscription, or the connection that took it is still there, which may
-- be about to write it, or keeps it in memory.
-- Request: bucket of the client, client, epoch, filter as it is in the session. Answer: whether.
-- Only reads.
function operations.holds_exclusive(b, client, epoch, filter)
  local found = call("HMGET", key(b, "s:", client), "epoch", "owner", "f:" .. filter)
  return found[3] ~= false or found[2] ~= false and tonumber(found[1]) == epoch
end
