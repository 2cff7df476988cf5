-- session_export: a persistent session with all it has, page by page, to be made again elsewhere.
-- Request: bucket, client, number to go on behind, bytes of entries in a page, whether with its queue.
-- Answer: false, if there is none that a client could resume; else gen, entries (n, p, ...), on the last page the
-- session, false before it, and hi. The session: whether its client is connected, n, hi, expiry, ms that it may still live or false,
-- subscriptions (filter, options, stamp), replays (filter, cursor), released (n), receiving (packet id, is routed,
-- age in ms, token), delayed messages (id, ms, record), its will (delay, ms, record) or false.
-- Only reads. Atomic, as the last page and the session are of one moment. An entry of an earlier page is as it was a
-- moment before: if it is in `released`, too, that counts, as it is the later state; if it is in neither any more,
-- then its client has acknowledged it here since, over a connection that goes on here.

-- once_members: who of this bucket has the messages of these tokens.
-- Request: bucket, tokens. Answer: for each a list of members.
-- Only reads.
do -- a chunk may have 200 locals only
  local PAGE_STEP = 32

  -- Entries (n, p, ...) beyond a number, and whether these are all.
  local function entries_of(queue, behind, bytes)
    local flat, size = {}, 0
    while size < bytes do
      local entries = entries_beyond(queue, behind, PAGE_STEP)
      for _, entry in ipairs(entries) do
        behind = entry_number(entry[1])
        flat[#flat + 1] = behind
        flat[#flat + 1] = entry[2][2]
        size = size + #entry[2][2]
        if size >= bytes then
          return flat, false
        end
      end
      if #entries < PAGE_STEP then
        return flat, true
      end
    end
    return flat, false
  end

  local function receiving_of(b, client)
    local raw, flat = call("HGETALL", key(b, "rx:", client)), {}
    for i = 1, #raw, 2 do
      local is_routed, since, token = split_received(raw[i + 1])
      local at = #flat
      flat[at + 1], flat[at + 2] = tonumber(raw[i]), is_routed
      flat[at + 3], flat[at + 4] = now - (tonumber(since) or now), token
    end
    return flat
  end

  local function ms_until(b, member)
    local at = call("ZSCORE", key(b, "due"), member)
    return at and math.max(tonumber(at) - now, 0)
  end

  local function delayed_of(b, client)
    local raw, flat = call("HGETALL", key(b, "delayed:", client)), {}
    for i = 1, #raw, 2 do
      local left = ms_until(b, "d:" .. raw[i] .. ":" .. client)
      if left then
        local at = #flat
        flat[at + 1], flat[at + 2], flat[at + 3] = raw[i], left, raw[i + 1]
      end
    end
    return flat
  end

  -- One that waits for its delay; what is due is published here.
  local function will_of(b, client, fields)
    local epoch = fields.epoch
    if fields.owner or not fields.will_delay or call("SISMEMBER", key(b, "wills:", client), epoch) == 1 then
      return false
    end
    local left = ms_until(b, "w:" .. client .. ":" .. epoch)
    local record = call("GET", will_key(b, client, epoch))
    return left and record and { tonumber(fields.will_delay), left, record } or false
  end

  function operations.session_export(b, client, behind, bytes, with_queue)
    local session = key(b, "s:", client)
    local found = call("HMGET", session, "gen", "direct", "expiry", "deadline", "hi")
    local gen = tonumber(found[1] or nil)
    if not gen or found[2] or has_ended({ expiry = found[3], deadline = found[4] or nil }) then
      return false
    end
    local entries, is_last = {}, true
    if with_queue then
      entries, is_last = entries_of(key(b, "q:", client), behind, bytes)
    end
    if not is_last then
      return { gen, entries, false, tonumber(found[5]) }
    end
    local fields, subscriptions, replays = read_session(session)
    return {
      gen, entries, {
        fields.owner ~= nil, tonumber(fields.n), tonumber(fields.hi), tonumber(fields.expiry),
        fields.deadline and tonumber(fields.deadline) - now or false, subscriptions, replays, released(b, client),
        receiving_of(b, client), delayed_of(b, client), will_of(b, client, fields),
      },
      tonumber(fields.hi),
    }
  end
end

function operations.once_members(b, tokens)
  local found = {}
  for i, token in ipairs(tokens) do
    found[i] = call("SMEMBERS", once_key(b, token))
  end
  return found
end
