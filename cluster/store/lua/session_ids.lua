-- session_ids, sessions_connected: a page of the index of persistent sessions, in order.
-- Request: bucket, where to begin (`[id` or `(id`, as ZRANGE has it), what the ids begin with, limit.
-- Answer: ids; or id, 1 if somebody owns the session, else 0, ... Fewer than the limit are all there are.
-- Only read.

function operations.session_ids(b, bound, beginning, limit)
  local ids = {}
  local first = chunk_of(b, string.sub(bound, 2))
  while first do
    local chunk = key(b, "ids:", first)
    for _, id in ipairs(call("ZRANGE", chunk, bound, "+", "BYLEX", "LIMIT", 0, limit - #ids)) do
      if string.sub(id, 1, #beginning) ~= beginning then
        return ids
      end
      ids[#ids + 1] = id
    end
    if #ids == limit then
      return ids
    end
    first = chunk_behind(b, first)
  end
  return ids
end

function operations.sessions_connected(b, bound, beginning, limit)
  local flat = {}
  for _, id in ipairs(operations.session_ids(b, bound, beginning, limit)) do
    flat[#flat + 1] = id
    flat[#flat + 1] = call("HEXISTS", key(b, "s:", id), "owner")
  end
  return flat
end
