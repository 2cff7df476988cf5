-- release_received: PUBREL has come for inbound QoS 2 messages: their identifiers are free [MQTT-4.3.3-11].
-- Request: bucket, client, epoch, packet ids. Answer: the token of each, or false; 0 in place of the list:
-- stale.
-- Atomic, as a stale owner must not free what the new one has stored under the same identifier.

function operations.release_received(b, client, epoch, ids)
  if is_fenced(key(b, "s:", client), epoch) then
    return 0
  end
  local rx = key(b, "rx:", client)
  local tokens = fields_of(rx, ids)
  for i = 1, #ids do
    tokens[i] = tokens[i] and string.match(tokens[i], "^%d+:(.*)$")
  end
  call_many("HDEL", rx, ids)
  return tokens
end
