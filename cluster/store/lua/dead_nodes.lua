-- dead_nodes: members, other than the caller, whose life signs have stopped.
-- Request: "m", limit. Answer: node, ...
-- Only reads. Ticks come from beats alone: while Redis is away nobody grows older.

local DEAD_TICKS = 5 -- a tick takes about a second

local function last_tick()
  return tonumber(call("GET", key("m", "tick")) or 0)
end

function operations.dead_nodes(_, limit)
  local dead = {}
  local last = last_tick() - DEAD_TICKS
  for _, node in ipairs(call("ZRANGEBYSCORE", key("m", "nodes"), "-inf", last, "LIMIT", 0, limit)) do
    if node ~= incarnation then -- the others judge that; whoever asks is alive
      dead[#dead + 1] = node
    end
  end
  return dead
end
