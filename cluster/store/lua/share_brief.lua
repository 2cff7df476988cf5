-- share_brief: how a shared subscription stands.
-- Request: bucket, name. Answer: messages in it, how many of them members have, members that are connected.
-- Only reads.

function operations.share_brief(b, name)
  local stream, members = key(b, "share:", name), key(b, "member:", name)
  if call("EXISTS", stream) == 0 then
    return { 0, 0, 0 }
  end
  local own = call("HMGET", members, "seq", "given")
  local connected = call("HLEN", members) - (own[1] and 1 or 0) - (own[2] and 1 or 0)
  return { call("XLEN", stream), call("XPENDING", stream, CONSUMERS)[1], connected }
end
