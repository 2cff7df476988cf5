-- next_shard: which shard of the rows is to be compared with the sessions now, if any: one node gets it.
-- Request: "m", number of shards, ms between two. Answer: shard, or false: it is too early.
-- Atomic, as the cluster makes one pass together, however many nodes there are.
function operations.next_shard(_, shards, pace_ms)
  if not call("SET", key("m", "scrub:pace"), incarnation, "NX", "PX", pace_ms) then
    return false
  end
  return call("INCR", key("m", "scrub")) % shards
end

-- missing: which rows no session stands behind.
-- Request: bucket, rows (client, filter, ...). Answer: their places, counted from 0.
-- Whoever deletes a row names its stamp, so one that has been written anew stays. Sessions that an older library has
-- left out of the index enter it here.
function operations.missing(b, rows)
  local places = {}
  for i = 1, #rows, 2 do
    local found = call("HMGET", key(b, "s:", rows[i]), "f:" .. rows[i + 1], "counted")
    if found[1] then
      enter_index(b, rows[i], found[2])
    else
      places[#places + 1] = (i - 1) / 2
    end
  end
  return places
end
