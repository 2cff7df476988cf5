-- receive: notes inbound QoS 2 messages before they are routed [MQTT-4.3.3-10].
-- Request: bucket, client, epoch, messages (packet id, token, ...), limit. Answer: one per message: 0 new;
-- token and whether it was routed, if the identifier was in use; -1 too many. 0 in place of the list: stale.
-- Of an identifier that is in doubt (see `claim`) the caller has found that this is another message: it takes the place.
-- Atomic, as the token that was stored first counts, and as a stale owner must not store any.
-- A value is "<routed><time ms>:<token>". Cost: HGET, HLEN, one HMGET, one HSET.

function operations.receive(b, client, epoch, messages, limit)
  if is_fenced(key(b, "s:", client), epoch) then
    return 0
  end
  local rx = key(b, "rx:", client)
  local ids, count = {}, 0
  for i = 1, #messages, 2 do
    count = count + 1
    ids[count] = messages[i]
  end
  local held = fields_of(rx, ids)
  local open = call("HLEN", rx)
  local answers, values, size = {}, {}, 0
  local flag = "0" .. now .. ":"
  for i = 1, count do
    local answer = -1
    local old = held[i]
    if old and not is_in_doubt(old) then
      local is_routed, _, token = split_received(old)
      answer = { token, is_routed }
    elseif old or open < limit then
      values[size + 1] = ids[i]
      values[size + 2] = flag .. messages[2 * i]
      size = size + 2
      open = old and open or open + 1
      answer = 0
    end
    answers[i] = answer
  end
  call_many("HSET", rx, values)
  return answers
end
