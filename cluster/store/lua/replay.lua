-- replay: puts a page of retained messages into the queue of a new subscription.
-- Request: bucket, client, epoch, filter, n before the page was read, next cursor or false (the last page),
-- entries (topic, head, body, ...). Answer: 1, gen, n before, which entries were appended (0, 1, ...); 0 if
-- stale, or if there is no such replay any more.
-- Atomic, as the page and its cursor must move together: a replay that a fail-over cuts goes on behind the
-- last page, and none comes twice. Exempt from the queue's policy: the client asked for it, and a page is as
-- long as its window.

local WAS_RETAINED = 8 -- flag of an entry: see records.py

-- Topics whose retained message was queued after the page had been read; the session has a newer one of those.
local function topics_since(queue, n_before, n)
  local topics = {}
  if n > n_before then
    for _, entry in ipairs(entries_beyond(queue, n_before, n - n_before)) do
      local fields = cmsgpack.unpack(entry[2][2])
      if bit.band(fields[2], WAS_RETAINED) ~= 0 then
        topics[fields[4]] = true
      end
    end
  end
  return topics
end

local function append_page(b, client, gen, n, n_before, entries)
  local queue = key(b, "q:", client)
  local newer = topics_since(queue, n_before, n)
  local appended = {}
  for i = 1, #entries, 3 do
    if not newer[entries[i]] then
      n = n + 1
      call("XADD", queue, gen .. "-" .. n, "p", entries[i + 1] .. entries[i + 2])
      appended[#appended + 1] = (i - 1) / 3
    end
  end
  return appended
end

function operations.replay(b, client, epoch, filter, n_before, cursor, entries)
  local session, repeats = key(b, "s:", client), key(b, "replay:", client)
  local found = call("HMGET", session, "epoch", "gen", "n", "f:" .. filter, "r:" .. filter)
  if tonumber(found[1]) ~= epoch or not found[4] then
    return { 0 }
  end
  local name = cmsgpack.pack({ epoch, filter, n_before, cursor })
  local record = call("GET", repeats)
  local done = record and cmsgpack.unpack(record)
  if done and done[1] == name then
    if cursor then -- it may have been set back meanwhile: see reclaim
      call("HSET", session, "r:" .. filter, cursor)
    else
      call("HDEL", session, "r:" .. filter)
    end
    return done[2]
  end
  if not found[5] then
    return { 0 }
  end
  local gen, n = found[2], tonumber(found[3])
  if tonumber(gen) < first_since(b) then
    gen, n = jump(b, session, n)
  end
  local appended = append_page(b, client, gen, n, n_before, entries)
  if #appended > 0 then
    call("HSET", session, "n", n + #appended)
  end
  if cursor then
    call("HSET", session, "r:" .. filter, cursor)
  else
    call("HDEL", session, "r:" .. filter)
  end
  local answer = { 1, tonumber(gen), n, appended }
  call("SET", repeats, cmsgpack.pack({ name, answer }), "PX", REPEAT_MS)
  return answer
end
