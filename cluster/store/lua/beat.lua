-- beat: the life sign of a node; each second of Redis time the first one advances the cluster's tick.
-- Request: "m", node, what it says of itself (false: as before). Answer: Redis time in ms, tick. The whole call is
-- refused with NODEGONE if the node is not a member (any more): it has been reaped, and may only join as another
-- incarnation.
-- Atomic, as a node that is being reaped must not come back by a beat.

local TICK_MS = 1000

function operations.beat(_, node, info)
  local nodes = key("m", "nodes")
  if not call("ZSCORE", nodes, node) then
    error({ err = "NODEGONE this incarnation is not a member" })
  end
  local tick
  -- The pace key lives a little shorter than a second, or beats once a second would miss every other tick.
  if call("SET", key("m", "tick:pace"), node, "NX", "PX", TICK_MS - 50) then
    tick = call("INCR", key("m", "tick"))
  else
    tick = tonumber(call("GET", key("m", "tick")))
  end
  call("ZADD", nodes, tick, node)
  if info then
    call("HSET", key("m", "info"), node, info)
  end
  return { now, tick }
end
