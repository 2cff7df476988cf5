-- subscribe: writes subscriptions into a session.
-- Request: bucket, client, epoch, filters (filter, options, wants_replay, ...). wants_replay: 0 no, 1 if the
-- subscription is new, 2 always. Answer: 1, stamp, outcomes (existed, replay started, ...); 0 if stale.
-- If that changes what the session is sent, the stamp is the session's, too: see enqueue.
-- Atomic, as the replay's cursor must be there from the moment the subscription is; and fenced. The rows in
-- {m} are written by the caller afterwards, with the stamp.

local function has_options(old, options)
  if old then
    local _, old_options = split_stamp(old)
    return old_options == options
  end
end

-- A new subscription whose replay has not begun is the first try of this very call.
local function starts_replay(wants, old, options, cursor)
  if wants == 1 and old then
    return cursor == "" and has_options(old, options)
  end
  return wants ~= 0
end

function operations.subscribe(b, client, epoch, filters)
  local session = key(b, "s:", client)
  local names = { "epoch" }
  for i = 1, #filters, 3 do
    names[#names + 1] = "f:" .. filters[i]
    names[#names + 1] = "r:" .. filters[i]
  end
  local found = call("HMGET", session, unpack(names))
  if tonumber(found[1]) ~= epoch then
    return { 0 }
  end
  local stamp = call("INCR", key(b, "ctr"))
  local values, outcomes, has_changed = {}, {}, false
  local place = 2
  for i = 1, #filters, 3 do
    local filter, options = filters[i], filters[i + 1]
    local starts = starts_replay(filters[i + 2], found[place], options, found[place + 1])
    has_changed = has_changed or not has_options(found[place], options)
    values[#values + 1] = "f:" .. filter
    values[#values + 1] = stamp .. ":" .. options
    if starts then
      values[#values + 1] = "r:" .. filter
      values[#values + 1] = ""
    end
    outcomes[#outcomes + 1] = found[place] and true
    outcomes[#outcomes + 1] = starts
    place = place + 2
  end
  if has_changed then
    values[#values + 1] = "stamp"
    values[#values + 1] = stamp
  end
  call("HSET", session, unpack(values))
  return { 1, stamp, outcomes }
end
