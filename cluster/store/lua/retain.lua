-- retain: sets or removes the retained message of a topic [MQTT-3.3.1-5], [MQTT-3.3.1-6].
-- Request: bucket, topic, record, or [index of its body], or false (remove), deadline in ms or 0, token or false, TTL
-- of the token, how many messages the bucket may hold or false. Answer: 1; 0 if this was done before under the same
-- token; -1 if the topic is new and there is no room for another: then the token is not spent.
-- Atomic, as hash and index must agree.
-- The index has all topics at score 0, levels joined by \0: so the children of a topic follow it directly.
-- A value is "<deadline ms>:<record>".

local function index_member(topic)
  return (string.gsub(topic, "/", "\0"))
end

local function forget_retained(b, topic)
  call("HDEL", key(b, "retained"), topic)
  call("ZREM", key(b, "retained:index"), index_member(topic))
end

local function has_room(b, topic, maximum)
  local retained = key(b, "retained")
  return call("HLEN", retained) < maximum or call("HEXISTS", retained, topic) == 1
end

function operations.retain(b, topic, record, deadline, token, ttl_ms, maximum)
  if record and maximum and not has_room(b, topic, maximum) then
    return -1
  end
  if token and not is_first(b, token, "r", ttl_ms) then
    return 0
  end
  if not record then
    forget_retained(b, topic)
    return 1
  end
  if call("HSET", key(b, "retained"), topic, deadline .. ":" .. given(record)) == 1 then
    call("ZADD", key(b, "retained:index"), 0, index_member(topic))
  end
  if deadline > 0 then
    call("ZADD", key(b, "due"), deadline, "r:" .. topic)
  end
  return 1
end
