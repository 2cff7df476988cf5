-- join: a new incarnation becomes a member, once, before its first beat.
-- Request: "m", node. Answer: 1.
-- Atomic, as nobody may see the first member of all without a version and a tick.

function operations.join(_, node)
  call("SET", key("m", "ver"), FIRST_VERSION, "NX")
  call("SET", key("m", "tick"), 0, "NX")
  call("ZADD", key("m", "nodes"), call("GET", key("m", "tick")), node)
  return 1
end
