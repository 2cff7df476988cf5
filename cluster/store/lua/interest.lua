-- interest: which filters the direct subscribers of a node have at QoS 1 and 2.
-- Request: "m", node, adds, removes. Answer: the version then.
-- Atomic, for the same reason as `rows`. Fields begin with "1:"; what isn't versioned has another beginning.

function operations.interest(_, node, adds, removes)
  local changes = {}
  local interest = key("m", "interest:", node)
  for _, filter in ipairs(adds) do
    if call("HSET", interest, "1:" .. filter, "") == 1 then
      note_change(changes, "int+", node, filter, "", 0)
    end
  end
  for _, filter in ipairs(removes) do
    if call("HDEL", interest, "1:" .. filter) == 1 then
      note_change(changes, "int-", node, filter, "", 0)
    end
  end
  return log_changes(changes)
end
