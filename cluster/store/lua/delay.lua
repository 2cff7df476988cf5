-- delay: keeps a message of a client that is to be published later.
-- Request: bucket, client, epoch, id, delay in ms, record, limit of what the client may have waiting, packet id of
-- a QoS 2 exchange that is kept in `rx` or false, limit of these, TTL in ms of the note that a call with this id was
-- made, 0 for none. Answer: 1 it is kept, now or since an earlier call; 0 stale; -1 too many exchanges; -2 too many
-- messages.
-- Atomic, as the message and its deadline belong together, and at QoS 2 the note in `rx` that it has been taken: a
-- PUBLISH that is sent again after that is only acknowledged [MQTT-4.3.3-10]. Fenced.

function operations.delay(b, client, epoch, id, delay_ms, record, limit, packet_id, open_limit, ttl_ms)
  if is_fenced(key(b, "s:", client), epoch) then
    return 0
  end
  local delayed, rx = key(b, "delayed:", client), key(b, "rx:", client)
  local held = packet_id and call("HGET", rx, packet_id)
  if
    held and string.sub(held, 1, 1) == "1"
    or call("HEXISTS", delayed, id) == 1
    or ttl_ms > 0 and call("SISMEMBER", once_key(b, id), "d") == 1
  then
    return 1
  end
  if packet_id and not held and call("HLEN", rx) >= open_limit then
    return -1
  end
  if call("HLEN", delayed) >= limit then
    return -2
  end
  if packet_id then
    call("HSET", rx, packet_id, "1" .. now .. ":" .. id)
  elseif ttl_ms > 0 then
    is_first(b, id, "d", ttl_ms)
  end
  call("HSET", delayed, id, record)
  call("ZADD", key(b, "due"), now + delay_ms, "d:" .. id .. ":" .. client)
  return 1
end
