-- receive: notes inbound QoS 2 messages before they are routed [MQTT-4.3.3-10].
-- Request: bucket, client, epoch, messages (packet id, token, ...), limit. Answer: one per message: 0 new;
-- token and whether it was routed, if the identifier was in use; -1 too many. 0 in place of the list: stale.
-- Atomic, as the token that was stored first counts, and as a stale owner must not store any.
-- A value is "<routed><time ms>:<token>".

function operations.receive(b, client, epoch, messages, limit)
  if is_fenced(key(b, "s:", client), epoch) then
    return 0
  end
  local rx = key(b, "rx:", client)
  local open = call("HLEN", rx)
  local answers = {}
  for i = 1, #messages, 2 do
    local id, answer = messages[i], -1
    local held = call("HGET", rx, id)
    if held then
      local flag, token = string.match(held, "^(%d)%d*:(.*)$")
      answer = { token, flag == "1" }
    elseif open < limit then
      call("HSET", rx, id, "0" .. now .. ":" .. messages[i + 1])
      open = open + 1
      answer = 0
    end
    answers[#answers + 1] = answer
  end
  return answers
end
