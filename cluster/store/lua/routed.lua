-- routed: inbound QoS 2 messages have been routed: sent again, they are only acknowledged.
-- Request: bucket, client, epoch, packet ids. Answer: 1, or 0 if stale.
-- Atomic, as an identifier that was released meanwhile must not come back.

function operations.routed(b, client, epoch, ids)
  if is_fenced(key(b, "s:", client), epoch) then
    return 0
  end
  local rx = key(b, "rx:", client)
  local held = fields_of(rx, ids)
  local values = {}
  for i, id in ipairs(ids) do
    if held[i] then
      values[#values + 1] = id
      values[#values + 1] = "1" .. string.sub(held[i], 2)
    end
  end
  call_many("HSET", rx, values)
  return 1
end
