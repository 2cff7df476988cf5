-- leave: a node that stops takes its membership and its interest away.
-- Request: "m", node. Answer: the version of the change log then.
-- Atomic, as nobody may route to a node of which the others don't know that it has left.

function operations.leave(_, node)
  local interest = key("m", "interest:", node)
  local changes = {}
  note_withdrawn(changes, node, call("HKEYS", interest))
  call("UNLINK", interest)
  call("ZREM", key("m", "nodes"), node)
  return log_changes(changes)
end
