-- leave: a node that stops takes its membership and its interest away.
-- Request: "m", node. Answer: the version of the change log then.
-- Atomic, as nobody may route to a node of which the others don't know that it has left.

function operations.leave(_, node)
  local interest = key("m", "interest:", node)
  local changes = {}
  for _, field in ipairs(call("HKEYS", interest)) do
    if string.sub(field, 1, 2) == "1:" then
      note_change(changes, "int-", node, string.sub(field, 3), "", 0)
    end
  end
  call("UNLINK", interest)
  call("ZREM", key("m", "nodes"), node)
  return log_changes(changes)
end
