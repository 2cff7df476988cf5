-- session_brief: what there is to know of a session, without its subscriptions and messages.
-- Request: bucket, client. Answer: false, if there is none; else owner or false, epoch, Session Expiry Interval,
-- deadline in ms or false, protocol or false (of its connection), n, hi, is direct, how many subscriptions (and replays
-- of retained messages under way), entries in its queue, bytes of memory that the queue takes, released, receiving,
-- delayed messages, whether it has a will.
-- Atomic with the index: a session that is not there is not in there either, whoever has ended it.

local BRIEF = {
  "owner", "epoch", "expiry", "deadline", "protocol", "n", "hi", "direct", "will_delay",
  "gen", "claim", "counted", "stamp", "bytes",
}

function operations.session_brief(b, client)
  local session = key(b, "s:", client)
  local found = call("HMGET", session, unpack(BRIEF))
  if not found[2] then
    leave_index(b, client, false)
    return false
  end
  local own = 0
  for i = 1, #BRIEF do
    own = own + (found[i] and 1 or 0)
  end
  local queue, delayed = key(b, "q:", client), key(b, "delayed:", client)
  local rel, rx = key(b, "rel:", client), key(b, "rx:", client)
  local queued, released, receiving, later = 0, 0, 0, 0
  if call("EXISTS", queue, rel, rx, delayed) > 0 then -- most sessions have none of them
    queued, later = call("XLEN", queue), call("HLEN", delayed)
    released, receiving = call("ZCARD", rel), call("HLEN", rx)
  end
  return {
    found[1], tonumber(found[2]), tonumber(found[3]), found[4] and tonumber(found[4]), found[5] and tonumber(found[5]),
    tonumber(found[6] or 0), tonumber(found[7] or 0), found[8] ~= false, call("HLEN", session) - own, queued,
    queued > 0 and call("MEMORY", "USAGE", queue, "SAMPLES", 5) or 0, released, receiving, later, found[9] ~= false,
  }
end
