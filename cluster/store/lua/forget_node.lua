-- forget_node: a dead node, whose sessions have all been given back, is no member any more.
-- Request: "m", node, limit (filters). Answer: whether there is more to do, the version of the change log then.
-- Atomic, for the same reason as `leave`; in steps, as a node may have any number of filters. The membership
-- goes last: until then the next reaper finds the node and goes on.

function operations.forget_node(_, node, limit)
  local interest = key("m", "interest:", node)
  local changes = {}
  local fields = call("HRANDFIELD", interest, limit)
  note_withdrawn(changes, node, fields)
  if #fields > 0 then
    call_many("HDEL", interest, fields)
  end
  local more = call("EXISTS", interest) == 1
  if not more then
    call("ZREM", key("m", "nodes"), node)
  end
  return { more, log_changes(changes) }
end
