-- leave: a node is no member any more, and nobody is to route to it: it stops, or it is dead and all its sessions
-- have been given back. Its inbox goes first, by `close_inbox`.
-- Request: "m", node. Answer: the version of the change log then.
-- Atomic, as nobody may route to a node of which the others don't know that it has left. For a dead node this
-- comes last: until then the next reaper finds it and goes on.

function operations.leave(_, node)
  local was_member = call("ZREM", key("m", "nodes"), node) == 1
  call("UNLINK", key("m", "interest:", node))
  call("HDEL", key("m", "info"), node)
  local changes = {}
  if was_member then
    note_change(changes, "gone", node, "", "", 0)
  end
  return log_changes(changes)
end
