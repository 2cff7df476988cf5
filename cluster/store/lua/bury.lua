-- bury: from now on this slot refuses all calls of a dead node.
-- Request: bucket or "m", node. Answer: whether it is dead.
-- Atomic: {m} comes first and decides, as a beat comes before it, and the node lives on, or after it, and is
-- refused. Then the buckets, all of them before the first is reaped: so whoever sees that a session was given
-- back has seen the last write of its owner.

local TOMBSTONE_SECONDS = 86400 -- then its beat is still refused, as it is no member

local function is_dead(node)
  local seen = call("ZSCORE", key("m", "nodes"), node)
  return seen and last_tick() - tonumber(seen) >= DEAD_TICKS
end

function operations.bury(b, node)
  if b == "m" and not is_dead(node) then
    return false
  end
  call("SET", key(b, "gone:", node), now, "EX", TOMBSTONE_SECONDS)
  return true
end
