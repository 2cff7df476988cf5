-- members: the nodes of the cluster.
-- Request: "m". Answer: tick, node, tick at which it was seen last, what it says of itself (or ""), ...
-- Only reads; atomic, as a node and what it says of itself belong together.

function operations.members(_)
  local seen = call("ZRANGE", key("m", "nodes"), 0, -1, "WITHSCORES")
  local members = { last_tick() }
  for i = 1, #seen, 2 do
    members[#members + 1] = seen[i]
    members[#members + 1] = tonumber(seen[i + 1])
    members[#members + 1] = call("HGET", key("m", "info"), seen[i]) or ""
  end
  return members
end
